"""Noise2Inverse: splits with independent noise, no look at a true image, and an image better than its input."""

from __future__ import annotations

import json

import pytest
import torch
from small_trainings import SmallNet, squares

import recon
from recon.channels import channels_of
from recon.cli import main
from recon.training import Images, Measurements, Noise2Inverse, Setting
from recon.training.loader import Loader
from recon.view_splits import ViewSplits

SIDE = 16
NOISE = recon.noise("gaussian", std=0.5)
SCANS = {
    "parallel": "ct_parallel:shape=(16,16),angles=24",
    "fan": "ct_fan:shape=(16,16),angles=24,source_origin=60,origin_detector=30",
    "cone": "ct_cone:shape=(4,16,16),angles=24,source_origin=60,origin_detector=30",
}


def scan(name="parallel"):
    return recon.operator(SCANS[name])


def measured(op, truth, noise=NOISE):
    return torch.stack([op.measure(image, noise=noise, seed=place) for place, image in enumerate(truth)])


def train(network, data, **changed):
    settings = {"op": scan(), "objective": "noise2inverse", "epochs": 2, "batch": 4, "validation": 0}
    return recon.train(network, data=data, **settings | {"image_range": (0, 1), "device": "cpu"} | changed)


def weights(prior):
    return prior.network.state_dict()


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def fresh():
    torch.manual_seed(0)
    return SmallNet()


@pytest.mark.parametrize("name", SCANS)
def test_the_mean_of_the_splits_is_the_direct_reconstruction(name):
    """Views that stand for equal angles: their filtered back-projections add up."""
    op, views = scan(name), ViewSplits(4)
    y = op.measure(torch.rand(2, *op.domain_shape, generator=torch.Generator().manual_seed(1)))
    images = views.reconstructions(views.of(op), y)
    assert images.shape == (4, 2, *op.domain_shape)
    whole = op.pinv(y)
    torch.testing.assert_close(images.mean(0), whole, rtol=0, atol=1e-5 * float(whole.abs().max()))  # float32
    x1, one_x = views, ViewSplits(4, "1:X")
    torch.testing.assert_close(x1.inputs(images)[2], images[[0, 1, 3]].mean(0))
    torch.testing.assert_close(x1.targets(images), images)
    torch.testing.assert_close(one_x.inputs(images), images)
    torch.testing.assert_close(one_x.targets(images), x1.inputs(images))


def correlation(first, second):
    return float((first * second).sum() / (first.norm() * second.norm()))


@pytest.mark.parametrize("strategy", ["X:1", "1:X"])
def test_the_noise_of_input_and_target_is_independent(strategy):
    """Over 400 scans of nothing but noise; inputs that share views are correlated, so the measure can tell."""
    op, views = scan(), ViewSplits(4, strategy)
    noise = NOISE(torch.zeros(400, *op.range_shape), item_ndim=2, seed=3)
    images = views.reconstructions(views.of(op), noise)
    inputs, targets = views.inputs(images), views.targets(images)
    for given, wanted in zip(inputs, targets, strict=True):
        # neighbouring pixels share their noise, so that 400 images count as some 400 * 16 draws: 6 / sqrt(6400)
        assert abs(correlation(given, wanted)) < 0.075
    shared = inputs if strategy == "X:1" else targets
    assert correlation(shared[0], shared[1]) > 0.5  # two of three splits are the same: 2/3


def test_no_true_image_is_looked_at():
    """Pairs whose true images are nonsense train the same network, bit for bit, as the data alone."""
    op = scan()
    y = measured(op, squares(8))
    alone = train(fresh(), y)
    beside = train(fresh(), (y, torch.rand(8, SIDE, SIDE)))
    assert_same(weights(alone), weights(beside))


def test_it_learns_to_denoise_scans_that_it_has_not_seen():
    """Nearer to the true images, and much nearer to direct reconstructions without noise: what it learns."""
    op, truth = recon.operator("ct_parallel:shape=(16,16),angles=96"), squares(72)
    y = measured(op, truth, recon.noise("gaussian", std=2.0))
    prior = train("unet:channels=8,levels=2", y[:64], op=op, epochs=10, lr=5e-3)
    direct, learned = op.pinv(y[64:]), recon.solve(op, prior, y[64:]).image
    clean = op.pinv(op(truth[64:]))

    def gain(wanted):
        before, after = ((image - wanted).square().mean() for image in (direct, learned))
        return 10 * float(torch.log10(before / after))

    assert gain(truth[64:]) > 3  # dB
    assert gain(clean) > 5


def test_inference_averages_the_sections_also_after_saving(tmp_path):
    op = scan()
    y = measured(op, squares(6))
    prior = train(fresh(), y, objective="noise2inverse:splits=3,strategy=1:X", image_range=(0, 2))
    views = ViewSplits(3, "1:X")
    images = views.reconstructions(views.of(op), y / 2)
    with torch.no_grad():
        wanted = 2 * torch.stack([prior.network(image.unsqueeze(1)).squeeze(1) for image in images]).mean(0)
    solution = recon.solve(op, prior, y)
    torch.testing.assert_close(solution.image, wanted)
    assert "3 sections of the split views (1:X)" in str(solution.explain())
    named = train("unet:channels=4,levels=2", y, output=tmp_path)
    loaded = recon.prior(f"{tmp_path}/")
    torch.testing.assert_close(recon.solve(op, loaded, y).image, recon.solve(op, named, y).image)
    assert loaded.card["objective"] == {"name": "noise2inverse", "splits": 4, "strategy": "X:1"}
    assert "noise2inverse" in (tmp_path / "README.md").read_text()


def test_a_sample_does_not_depend_on_its_mates():
    """Its section is drawn by its place, and the loss that held-out scans are judged by is its own."""
    op = scan()
    y = measured(op, squares(4))
    objective = Noise2Inverse()
    network = fresh().eval()
    objective.prepare(Setting(network, channels_of(network), (SIDE, SIDE), op=op))
    together, alone = (
        Loader(Measurements(y), range(4), size, (0, 1), op=op, needs=("data",), fixed=True) for size in (4, 1)
    )
    losses = [objective.held_out(batch)["held_out"] for batch in alone.epoch(0)]
    torch.testing.assert_close(objective.held_out(next(together.epoch(0)))["held_out"], torch.cat(losses))
    draws = [float(batch.uniform(0, 4, 1)) for batch in alone.epoch(0)]
    assert next(together.epoch(0)).uniform(0, 4, 1).tolist() == draws and len(set(draws)) == 4


class Stopping(Noise2Inverse):
    """Stops like Ctrl-C at a step."""

    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, 0

    def step(self, batch, fit):
        self.seen += 1
        if self.seen == self.at:
            raise KeyboardInterrupt
        return super().step(batch, fit)


def test_a_stopped_training_goes_on_bit_for_bit_and_judges_by_held_out_data(tmp_path):
    y = measured(scan(), squares(12))
    settings = {"epochs": 3, "validation": 0.25, "checkpoint_seconds": 0.0, "image_range": None}
    rows = []
    whole = train(fresh(), y, objective=Stopping(0), callback=rows.append, **settings)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), y, objective=Stopping(4), output=tmp_path, **settings)
    resumed = train(fresh(), y, objective=Stopping(0), output=tmp_path, **settings)
    assert_same(weights(whole), weights(resumed))
    assert "psnr" not in rows[-1] and rows[-1]["held_out"] > 0
    best = min(rows, key=lambda row: row["held_out"])
    assert whole.card["metrics"]["held_out"] == pytest.approx(best["held_out"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"op": recon.Identity((SIDE, SIDE))}, "Identity measures nothing that could be split by views"),
        ({"objective": "noise2inverse:splits=25"}, "cannot be split into 25: .* 24, the number of views"),
        ({"network": "learned_gradient:iterations=1,features=2"}, "takes the operator or the noise level"),
        ({"network": "drunet:channels=[2,4],blocks=1"}, "takes the operator or the noise level"),
        (
            {"monitor": "psnr", "validation": 0.25},
            "monitor='psnr' needs true images, and measured data have none",
        ),
        ({"patch": 8}, "needs the data of whole images, so that patch=8 would spoil it"),
        ({"op": None}, "give the operator that measured them"),
    ],
)
def test_what_cannot_be_split_is_refused(changed, message):
    op = changed.get("op", scan())
    data = Measurements(torch.zeros(4, *(op or scan()).range_shape))
    with pytest.raises(ValueError, match=message):
        train(changed.pop("network", fresh()), data, **changed)


def test_data_and_images_are_told_apart_or_asked_for():
    op = scan()
    y = measured(op, squares(4))
    with pytest.raises(TypeError, match="needs true images, and measured data are none"):
        train(fresh(), Measurements(y), objective="supervised")
    square = recon.operator("ct_parallel:shape=(16,16),angles=16,detectors=16,detector_size=1.5")
    y = measured(square, squares(4))
    with pytest.raises(ValueError, match=r"may be images or data of ParallelBeam: say which"):
        train(fresh(), y, op=square)
    from_data = train(fresh(), Measurements(y), op=square)
    from_images = train(fresh(), Images(squares(4), "squares"), op=square, noise=NOISE)
    assert (
        "measured data" in from_data.card["data"]["source"]
        and from_images.card["data"]["source"] == "squares"
    )
    with pytest.raises(ValueError, match="splits must be a whole number >= 2"):
        Noise2Inverse(splits=1)
    with pytest.raises(ValueError, match="strategy must be"):
        Noise2Inverse(strategy="2:2")  # type: ignore[arg-type]


def test_scans_without_references_train_from_the_command_line(tmp_path, capsys):
    op = scan()
    y = measured(op, squares(6))
    (tmp_path / "scans").mkdir()
    for place, data in enumerate(y):
        recon.Problem(op, data).save(tmp_path / "scans" / f"{place}.h5")
    model = tmp_path / "model"
    command = ["train", "unet:channels=4,levels=2", "--data", str(tmp_path / "scans"), "--epochs", "1"]
    assert main([*command, "-o", str(model)]) != 0
    assert "holds data without a reference" in capsys.readouterr().err
    command += [
        "--batch",
        "2",
        "--validation",
        "0",
        "--objective",
        "noise2inverse:splits=3",
        "-o",
        str(model),
    ]
    assert main([*command, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["data"]["source"] == "6 problems in scans, without references"
    low, high = card["image_range"]
    assert low == 0 and 0.5 < high < 5  # of squares up to 1, with noise
    out = tmp_path / "out"
    assert main(["solve", str(tmp_path / "scans" / "0.h5"), "--prior", f"{model}/", "-o", str(out)]) == 0
    wanted = recon.solve(op, recon.prior(f"{model}/"), y[0]).image
    torch.testing.assert_close(recon.Solution.load(out).image.reshape(wanted.shape), wanted)
