"""What a training does: it learns, follows its schedule, keeps the best, stops early, and says what is wrong."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch
from small_trainings import SmallNet, squares
from torch import nn

import recon
from recon.learned import LearnedPrior
from recon.training.fit import TrainingError
from recon.training.objective import Objective
from recon.training.schedules import make_optimiser, make_schedule
from recon.training.sources import Unpaired
from recon.training.supervised import Denoising, Supervised


def rows_of(*arguments, **settings):
    rows = []
    prior = recon.train(*arguments, callback=rows.append, **settings)
    return prior, rows


def test_a_network_learns_to_fill_holes(operator):
    prior, rows = rows_of(
        "unet:channels=8,levels=2",
        data=squares(64),
        op=operator,
        noise="gaussian:std=0.1",
        epochs=12,
        batch=4,
        lr=5e-3,
    )
    assert rows[-1]["psnr"] > rows[-1]["input_psnr"] + 3  # dB
    truth = squares(8, seed=9)
    y = operator.measure(truth, noise="gaussian:std=0.1", seed=1)
    learned, direct = recon.solve(operator, prior, y), recon.solve(operator, None, y)
    error, before = ((image - truth).square().mean() for image in (learned.image, direct.image))
    assert float(error) < 0.5 * float(before)
    psnr = -10 * math.log10(float(error))
    assert abs(psnr - rows[-1]["psnr"]) < 4  # the validation measured the same kind of thing


def test_feedforward_is_the_network_on_the_direct_reconstruction(operator, network):
    prior = LearnedPrior(network, image_range=(0.0, 2.0), end_to_end=True)
    y = operator.measure(2 * squares(3))
    solution = recon.solve(operator, prior, y)
    with torch.no_grad():
        wanted = 2 * network((operator.pinv(y) / 2).unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(solution.image, wanted)
    assert solution.iterations == 1 and solution.converged and solution.weight is None
    alone = recon.solve(operator, prior, y[0])
    torch.testing.assert_close(alone.image, solution.image[0])


def test_feedforward_tells_a_denoiser_the_noise_level():
    class Level(nn.Module):
        conditioned = True

        def forward(self, x, sigma):
            return x * 0 + sigma.reshape(-1, 1, 1, 1)

    prior = LearnedPrior(Level(), image_range=(0.0, 1.0))
    op = recon.Identity((64, 64))
    y = op.measure(torch.zeros(2, 64, 64), noise="gaussian:std=0.1", seed=0)
    estimated = recon.solve(op, prior, y, solver="feedforward").image
    assert estimated.flatten(1).mean(1).tolist() == pytest.approx([0.1, 0.1], rel=0.1)
    given = recon.solve(op, prior, y, solver="feedforward:sigma=0.3").image
    assert given.flatten().tolist() == pytest.approx([0.3] * given.numel())


def test_a_consistent_image_has_the_measured_k_space(network):
    mask = ("random_1d", {"acceleration": 2, "seed": 1})
    op = recon.operator("mri_cartesian", mask=mask, shape=(16, 16))
    y = op(squares(2).to(torch.complex64))
    prior = LearnedPrior(network, image_range=(0.0, 1.0), complex_as="magnitude")
    plain, corrected = (
        recon.solve(op, prior, y, solver=recon.Feedforward(consistent=consistent)).image
        for consistent in (False, True)
    )
    torch.testing.assert_close(op(corrected), y, rtol=0, atol=1e-5)
    full = recon.operator("mri_cartesian", mask=torch.ones(16, 16))
    free = (1 - op.mask).bool().expand(2, 16, 16)  # what was not measured is the network's
    torch.testing.assert_close(full(corrected)[free], full(plain)[free], rtol=0, atol=1e-5)


def test_feedforward_refuses_what_is_no_network(operator, network):
    y = operator.measure(squares(1))
    prior = LearnedPrior(network, image_range=(0.0, 1.0))
    for wrong in ("tv", prior + recon.prior("tv:weight=0.1"), prior + prior):
        with pytest.raises(ValueError, match="applies one network"):
            recon.solve(operator, wrong, y, solver="feedforward")
    bounded = prior + recon.prior("box:low=0.25,high=0.5")
    image = recon.solve(operator, bounded, y, solver="feedforward").image
    assert float(image.min()) >= 0.25 and float(image.max()) <= 0.5
    with pytest.raises(ValueError, match="sigma must be"):
        recon.Feedforward(sigma=-1)


def test_a_trained_network_works_inside_admm_and_as_a_start(operator):
    prior = recon.train(
        "unet:channels=4,levels=2", data=squares(24), objective="denoising", epochs=2, batch=4
    )
    assert prior.weight == "auto" and not prior.end_to_end
    truth = squares(1, seed=3)[0]
    y = operator.measure(truth, noise="gaussian:std=0.05", seed=1)
    solution = recon.solve(operator, prior, y, weight=0.01, stop=recon.MaxIterations(10))
    assert bool(torch.isfinite(solution.image).all()) and solution.iterations == 10
    started = recon.solve(operator, "tv", y, x0=recon.solve(operator, prior, y, solver="feedforward").image)
    assert started.converged


def test_complex_images_are_learned_as_two_channels():
    images = torch.polar(squares(24), torch.full((24, 16, 16), 0.7))
    mask = (torch.arange(256).reshape(16, 16) % 3 != 0).float()
    op = recon.operator("mask", mask=mask)
    prior, rows = rows_of("unet:channels=4,levels=2", data=images, op=op, epochs=3, batch=4)
    assert prior.network.in_channels == 2 and prior.domain == "complex"
    assert rows[-1]["psnr"] > rows[-1]["input_psnr"]
    assert recon.solve(op, prior, op(images[0])).image.dtype == torch.complex64


def test_the_learning_rate_follows_its_schedule(operator):
    settings = {"data": squares(8), "objective": "denoising", "batch": 4, "validation": 0}
    _, rows = rows_of(SmallNet(), epochs=4, lr=1e-2, schedule="linear:start=0.5", **settings)
    # the rate of the last step of each epoch, of two: at 1/8, 3/8, 5/8, 7/8
    assert [row["lr"] for row in rows] == pytest.approx([1e-2, 1e-2, 0.75e-2, 0.25e-2])


@pytest.mark.parametrize(
    ("spec", "progress", "epochs", "factor"),
    [
        ("constant", 0.9, 9, 1.0),
        ("cosine", 0.5, 5, 0.5),
        ("cosine:final=0.1", 1.0, 10, 0.1),
        ("exponential:final=0.01", 0.5, 5, 0.1),
        ("step:every=3,factor=0.1", 0.7, 7, 0.01),
        ("onecycle", 0.3, 3, 1.0),
        ("onecycle:first=0.2", 0.0, 0, 0.2),
        ("constant:warmup=0.1", 0.05, 0, 0.501),
    ],
)
def test_schedules(spec, progress, epochs, factor):
    assert make_schedule(spec)(progress, epochs) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_schedule("cosin"), "did you mean 'cosine'"),
        (lambda: make_schedule("cosine:start=1"), "no argument 'start'"),
        (lambda: make_schedule("cosine:warmup=2"), "in \\[0, 1\\)"),
        (lambda: make_optimiser("adm", [nn.Parameter(torch.ones(1))], 1.0), "did you mean 'adam'"),
        (lambda: make_optimiser("adam:beta=1", [nn.Parameter(torch.ones(1))], 1.0), "cannot be made"),
        (lambda: make_optimiser("adam", [nn.Parameter(torch.ones(1))], -1.0), "> 0"),
        (lambda: make_optimiser("sgd:momentum=a", [nn.Parameter(torch.ones(1))], 1.0), "must be a number"),
    ],
)
def test_schedules_and_optimisers_that_do_not_exist(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Scalar(nn.Module):
    """One number that is added to every image."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.offset


def test_accumulated_gradients_are_those_of_a_larger_batch():
    images = squares(16)
    offsets = {}
    for batch, accumulate in ((8, 1), (2, 4)):
        prior = recon.train(
            Scalar(), data=(images * 0.5, images), batch=batch, accumulate=accumulate, epochs=3, lr=0.1,
            optimiser="sgd", schedule="constant", validation=0,
        )  # fmt: skip
        offsets[batch] = float(prior.network.offset.detach())
    assert offsets[8] == pytest.approx(offsets[2], rel=1e-5)
    assert offsets[8] != 0


def test_clipping_bounds_every_step():
    images = squares(8)
    steps = []

    class Watched(Supervised):
        def step(self, batch, fit):
            before = float(self.setting.network.offset.detach())
            values = super().step(batch, fit)
            steps.append(abs(float(self.setting.network.offset.detach()) - before))
            return values

    recon.train(
        Scalar(), data=(images - 10, images), objective=Watched("mse"), epochs=2, batch=4, lr=1.0, clip=0.01,
        optimiser="sgd", schedule="constant", validation=0, image_range=(0, 1),
    )  # fmt: skip
    assert steps == pytest.approx([0.01] * len(steps), rel=1e-4)  # the gradient is near 20


def test_the_moving_average_is_kept():
    images = squares(8)
    seen = []

    class Watched(Supervised):
        def step(self, batch, fit):
            values = super().step(batch, fit)
            seen.append(float(self.setting.network.offset.detach()))
            return values

    prior = recon.train(
        Scalar(), data=(images * 0.5, images), objective=Watched("mse"), epochs=3, batch=4, lr=0.1, ema=0.5,
        validation=0,
    )  # fmt: skip
    average = 0.0
    for step, value in enumerate(seen, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    assert float(prior.network.offset.detach()) == pytest.approx(average, rel=1e-5)


class Rising(Objective):
    """Sets the offset to a list of values, one an epoch: the third is right."""

    values = (0.5, 0.2, 0.0, 0.3, 0.4, 0.6, 0.7)

    def step(self, batch, fit):
        with torch.no_grad():
            self.setting.network.offset.fill_(self.values[fit.epoch])
        return {"loss": torch.tensor(1.0)}


def test_the_best_epoch_is_kept_and_patience_ends_the_training(tmp_path):
    images = squares(8)
    prior, rows = rows_of(
        Scalar(), data=(images.clone(), images), objective=Rising(), epochs=7, batch=4, patience=2, validation=0.25,
        output=tmp_path,
    )  # fmt: skip
    assert len(rows) == 5
    assert float(prior.network.offset.detach()) == 0
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["metrics"]["epoch"] == 3
    assert card["training"]["stopped by"] == "no better psnr in 2 epochs"
    with (tmp_path / "log.csv").open() as file:
        log = list(csv.DictReader(file))
    assert [row["epoch"] for row in log] == ["1", "2", "3", "4", "5"]
    assert float(log[2]["psnr"]) == max(float(row["psnr"]) for row in log)
    last, _ = rows_of(
        Scalar(), data=(images.clone(), images), objective=Rising(), epochs=7, batch=4, monitor="last",
    )  # fmt: skip
    assert float(last.network.offset.detach()) == pytest.approx(0.7)


def test_two_players_have_their_own_optimisers():
    class Second(Supervised):
        def prepare(self, setting):
            super().prepare(setting)
            self.other = Scalar()

        def modules(self):
            return {**super().modules(), "other": self.other}

        def optimiser(self, player):
            return {"optimiser": "sgd", "lr": 0.5, "schedule": "constant"} if player == "other" else {}

        def step(self, batch, fit):
            values = super().step(batch, fit)
            both = self.setting.apply(self.other, self.setting.run(batch))
            fit.minimise("other", both.mean())  # reaches the network's weights too, which must stay
            return values

    images = squares(8)
    goal = Second("mse")
    prior, rows = rows_of(
        Scalar(), data=(images.clone(), images), objective=goal, epochs=2, batch=4, validation=0
    )
    assert float(goal.other.offset.detach()) == pytest.approx(-0.5 * 4)  # a slope of 1, four steps
    assert float(prior.network.offset.detach()) == pytest.approx(
        0, abs=1e-6
    )  # its own loss is at its minimum
    assert rows[-1]["lr_other"] == 0.5


def test_a_loss_that_is_not_finite_ends_the_training():
    images = squares(8)
    with pytest.raises(TrainingError, match="lower lr"):
        recon.train(
            "unet:channels=4,levels=2",
            data=(images * 0.5, images),
            lr=1e30,
            epochs=5,
            batch=4,
            optimiser="sgd",
        )


def test_pictures_and_tensorboard_are_written(tmp_path, operator):
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    prior, rows = rows_of(
        "unet:channels=2,levels=2", data=squares(24), op=operator, epochs=2, batch=4, output=tmp_path,
        tensorboard=True,
    )  # fmt: skip
    with Image.open(tmp_path / "images" / "epoch-0002.png") as picture:
        assert picture.size == (3 * 16, 2 * 16)  # input, result, truth of the two images that were held out
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("psnr")] == pytest.approx([row["psnr"] for row in rows])
    assert prior.end_to_end


def test_noise_levels_cover_their_range():
    goal = Denoising("mse", 0.01, 0.2, "log")
    from recon.training.objective import Batch

    batch = Batch(None, torch.zeros(400, 2, 2), None, None, torch.arange(400), 3)
    levels = goal.levels(batch)
    assert 0.01 <= float(levels.min()) < 0.011 and 0.18 < float(levels.max()) <= 0.2
    assert float(levels.log().mean()) == pytest.approx((math.log(0.01) + math.log(0.2)) / 2, abs=0.15)
    assert torch.equal(levels, goal.levels(batch))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "true images alone"),
        ({"op": "ct_parallel:shape=(8,8),angles=4,pixel_size=1"}, ValueError, "do not fit ParallelBeam"),
        ({"objective": "denoising", "epochs": 0}, ValueError, "epochs must be"),
        ({"objective": "denoising", "image_range": (0, 0.1)}, ValueError, "outside image_range"),
        ({"objective": "denoising", "image_range": (1, 0)}, ValueError, "low < high"),
        ({"objective": "denoising", "precision": "16"}, ValueError, "precision must be one of"),
        ({"objective": "denoising", "device": "cuda:77"}, ValueError, "cannot be used here"),
        ({"objective": "denoising", "validation": 2.0}, ValueError, "fraction"),
        ({"objective": "denoise"}, LookupError, "did you mean 'denoising'"),
        ({"objective": Denoising(), "loss": "mse"}, TypeError, "leave loss out"),
        ({"objective": 3}, TypeError, "must be a recon.Objective"),
        ({"data": Unpaired(squares(4), squares(4))}, TypeError, "trains on pairs"),
        ({"objective": "denoising:sigma_low=0.3"}, ValueError, "sigma_low < sigma_high"),
        ({"objective": "denoising:spread=log"}, ValueError, "no level 0"),
        ({"objective": "denoising", "clip": -1.0}, ValueError, "clip .* > 0, got -1"),
        ({"objective": "denoising", "ema": 2.0}, ValueError, "ema .* in .0, 1"),
        ({"objective": "denoising", "patience": 0}, ValueError, "patience .* >= 1, got 0"),
        ({"objective": "denoising", "device": "gpu"}, ValueError, "auto, cpu, cuda .* got 'gpu'"),
        ({"objective": "denoising", "augment": "flp"}, ValueError, "did you mean 'flip'"),
        ({"objective": "wgan", "loss": "mse"}, ValueError, "takes no loss=.*wgan:content="),
        ({"data": "elipses"}, LookupError, "did you mean 'ellipses'.*Nor is there a file or folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(settings, error, message):
    with pytest.raises(error, match=message):
        recon.train("unet:channels=2,levels=2", **{"data": squares(8), "batch": 4, **settings})


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        ("patchgan:channels=2,layers=1", {}, "PatchGAN makes .* of images .*critic"),
        ("modl:iterations=1,features=2,layers=2", {"objective": "denoising"}, "MoDL is unrolled"),
        ("modl:iterations=1,features=2,layers=2", {"patch": 8}, "on whole images"),
        ("drunet:channels=(2,4),blocks=1", {}, "objective='denoising'"),
    ],
)
def test_networks_that_do_not_fit_the_objective_say_why(network, settings, message, operator):
    op = None if "objective" in settings else operator
    with pytest.raises(ValueError, match=message):
        recon.train(network, **{"data": squares(8), "op": op, "batch": 4, **settings})


def test_images_of_several_sizes_say_what_helps(operator):
    images = [torch.rand(16, 16), torch.rand(20, 16)] * 4
    with pytest.raises(ValueError, match="say patch=16 to cut patches"):
        recon.train(SmallNet(), data=images, objective="denoising", batch=4)
    with pytest.raises(ValueError, match="cannot be batched: bring them to one size"):
        recon.train(SmallNet(), data=images, op=operator, batch=4)  # patches of their data there are none


def test_measured_data_cannot_be_turned_with_their_image(operator):
    images = squares(8)
    blur = recon.operator("blur", shape=(16, 16), kernel=[[0.25, 0.5, 0.25]])
    with pytest.raises(ValueError, match="cannot be turned"):
        recon.train(SmallNet(), data=(blur(images), images), op=blur, augment="rotate", batch=4, epochs=1)


def test_the_command_line_trains_and_uses_a_model(tmp_path, capsys):
    import numpy as np

    from recon.cli import main

    (tmp_path / "slices").mkdir()
    for number, image in enumerate(squares(6)):
        np.save(tmp_path / "slices" / f"{number}.npy", image.numpy())
    command = ["train", "unet:channels=2,levels=2", "--data", str(tmp_path / "slices")]
    command += ["--op", "blur:kernel=[[0.25,0.5,0.25]]", "--noise", "gaussian:std=0.01"]
    command += ["--epochs", "1", "--batch", "2", "-o", str(tmp_path / "model")]
    assert main([*command, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["operator"]["description"]["arguments"]["shape"] == [16, 16]
    image, scan = tmp_path / "slices" / "0.npy", tmp_path / "scan.h5"
    assert main(["simulate", str(image), "--op", "blur:kernel=[[0.25,0.5,0.25]]", "-o", str(scan)]) == 0
    capsys.readouterr()
    assert (
        main(["solve", str(scan), "--prior", f"{tmp_path}/model/", "-o", str(tmp_path / "out"), "--json"])
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert answer["provenance"]["solver"]["name"].endswith("eedforward")
    assert main(["train", "unet", "--data", str(tmp_path / "none"), "-o", str(tmp_path / "model2")]) == 1
    assert "no file or folder" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path / "slices")]) == 1
    assert "holds no earlier result" in capsys.readouterr().err
