"""SSDU: the two parts of k-space are apart, the held-back one is not seen, and images get better without truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_trainings import squares
from torch import nn

import recon
from recon.channels import channels_of
from recon.checkpoint import CheckpointError
from recon.cli import main
from recon.training import SSDU, Images, Measurements, Setting
from recon.training.loader import Loader
from recon.training.objective import seeded
from recon.training.ssdu import DIVISION, normalised_l1_l2

SIDE = 16
NOISE = recon.noise("complex_gaussian", std=0.01)


def coil_maps(coils: int) -> torch.Tensor:
    """Smooth maps with a phase, one looking from each corner."""
    at = torch.linspace(-1, 1, SIDE)
    corners = [(-1, -1), (1, 1), (-1, 1), (1, -1)][:coils]
    return torch.stack(
        [
            torch.exp(-((at[:, None] - row) ** 2 + (at - column) ** 2) / 3) * torch.exp(1j * row * at)
            for row, column in corners
        ]
    ).to(torch.complex64)


def scanner(coils: int = 0, mask: str = "random_2d:acceleration=2,centre_fraction=0.25"):
    if not coils:
        return recon.operator("mri_cartesian", mask=mask, shape=(SIDE, SIDE))
    return recon.operator("mri_cartesian", mask=mask, coil_maps=coil_maps(coils))


def measured(op, truth):
    return torch.stack(
        [op.measure(image.to(torch.complex64), noise=NOISE, seed=place) for place, image in enumerate(truth)]
    )


def prepared(op, network=None, **arguments):
    objective = SSDU(**arguments)
    network = nn.Conv2d(1, 1, 1) if network is None else network
    objective.prepare(Setting(network, channels_of(network), (SIDE, SIDE), True, op, seed=3))
    return objective


def batch_of(op, y, size=None):
    loader = Loader(
        Measurements(y), range(len(y)), size or len(y), (0, 1), op=op, needs=("data",), fixed=True
    )
    return next(loader.epoch(0))


def train(network, data, op, **changed):
    settings = {"objective": "ssdu", "epochs": 2, "batch": 4, "validation": 0, "image_range": (0, 1)}
    return recon.train(network, data=data, op=op, device="cpu", **settings | changed)


@pytest.mark.parametrize("selection", ["gaussian", "uniform"])
@pytest.mark.parametrize("coils", [0, 2])
def test_the_parts_are_disjoint_and_together_what_was_measured(selection, coils):
    op = scanner(coils)
    objective = prepared(op, selection=selection, ratio=0.3)
    lost = objective.divide(place=7, number=2)
    kept = op.mask - lost
    assert set(lost.unique().tolist()) == {0, 1} and set(kept.unique().tolist()) == {0, 1}
    assert int((lost * kept).sum()) == 0
    torch.testing.assert_close(lost + kept, op.mask)
    assert int(lost.sum()) == round(0.3 * int(op.mask.sum()))
    assert bool((kept[6:10, 6:10] == op.mask[6:10, 6:10]).all())  # the middle of side 4
    torch.testing.assert_close(op.restricted(kept).sample_mask, kept)


def test_a_division_is_a_function_of_seed_place_and_number():
    op = scanner()
    objective, again = prepared(op), prepared(op)
    assert torch.equal(objective.divide(1, 2), again.divide(1, 2))
    for other in ((2, 1), (1, 1), (2, 2)):
        assert not torch.equal(objective.divide(1, 2), objective.divide(*other))
    again.setting.seed = 4
    assert not torch.equal(objective.divide(1, 2), again.divide(1, 2))


def test_a_division_is_that_of_torchs_own_draw():
    objective = prepared(scanner())
    generator = seeded(3, 1, 2, DIVISION)
    chosen = torch.multinomial(objective.density.flatten(), objective.count, generator=generator)
    assert set(objective.divide(1, 2).flatten().nonzero().flatten().tolist()) == set(chosen.tolist())


def test_more_places_are_divided_than_torch_draws_from():
    """A volume of 257^3, more than 2^24."""
    op = recon.operator("mask", mask=torch.ones(257, 257, 257))
    objective = SSDU(ratio=0.01, selection="uniform")
    objective.prepare(Setting(Watching(), channels_of(nn.Conv2d(1, 1, 1)), (257, 257, 257), False, op))
    lost = objective.divide(0, 0)
    assert lost.shape == (257, 257, 257) and int(lost.sum()) == round(0.01 * 257**3)


def test_a_gaussian_selection_is_denser_in_the_middle():
    op = scanner(mask="random_2d:acceleration=1.01,centre_fraction=0.5")
    share = {}
    for selection in ("gaussian", "uniform"):
        objective = prepared(op, selection=selection, centre=0, ratio=0.2)
        mean = torch.stack([objective.divide(0, number) for number in range(200)]).mean(0)
        middle = torch.zeros(SIDE, SIDE)
        middle[4:12, 4:12] = 1
        share[selection] = float((mean * middle).sum() / mean.sum())
    # the middle half of each side is within one standard deviation: 0.68^2 of a Gaussian, 1/4 of a uniform one
    assert share["uniform"] == pytest.approx(0.25, abs=0.02)
    assert 0.38 < share["gaussian"] < 0.5  # a little less than 0.47: no place is drawn twice


class Watching(nn.Module):
    """An unrolled network that keeps what it sees."""

    needs_operator = True
    ends_consistent = True
    in_channels = 2

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen = []

    def forward(self, op, y):
        self.seen.append((op.sample_mask.clone(), y.clone()))
        return self.scale * op.pinv(y)


@pytest.mark.parametrize("coils", [0, 2])
def test_the_network_never_sees_what_it_is_judged_by(coils):
    op = scanner(coils)
    y = measured(op, squares(3))
    network = Watching()
    objective = prepared(op, network)
    batch = batch_of(op, y)
    losses = objective._losses(batch, number=5).detach()
    assert len(network.seen) == 3
    for place, (mask, data) in enumerate(network.seen):
        lost = objective.divide(place, 5)
        torch.testing.assert_close(mask, op.mask - lost)
        assert not bool((data * lost).any()) and bool((data * mask).any())
    alone = [objective._losses(batch_of(op, y[:1]), 5), objective._losses(batch_of(op, y[:2]), 5)[1:]]
    torch.testing.assert_close(losses[:2], torch.cat(alone))  # of no mate
    with torch.no_grad():
        image = op.restricted(op.mask - objective.divide(1, 5)).pinv(
            (op.mask - objective.divide(1, 5)) * y[1]
        )
    u = (objective.divide(1, 5) * y[1]).numpy().ravel().astype(complex)
    v = (objective.divide(1, 5) * op(image)).numpy().ravel().astype(complex)
    wanted = np.linalg.norm(u - v) / np.linalg.norm(u) + np.abs(u - v).sum() / np.abs(u).sum()
    assert float(losses[1]) == pytest.approx(wanted, rel=1e-5)


def test_the_loss_leaves_out_what_has_no_size():
    u = torch.stack([torch.zeros(3), torch.tensor([3.0, 0, 4])]).to(torch.complex64)
    v = torch.ones(2, 3, dtype=torch.complex64, requires_grad=True)
    losses = normalised_l1_l2(u, v)
    assert losses.tolist() == pytest.approx([0, 14**0.5 / 5 + 6 / 7])
    losses.sum().backward()
    assert not bool(v.grad[0].any()) and bool(v.grad[1].isfinite().all()) and bool(v.grad[1].any())


def test_a_blank_scan_spoils_no_training():
    op, rows = scanner(), []
    y = measured(op, squares(6))
    y[3] = 0
    prior = train(
        "unet:channels=4,levels=1", Measurements(y), op, lr=1e-2, batch=6, validation=Measurements(y),
        callback=rows.append,
    )  # fmt: skip
    assert all(0 < row[name] < 10 for row in rows for name in ("loss", "held_out"))  # of order 1 + 1
    image = recon.solve(op, prior, y[:1], image_range=(0, 1)).image
    torch.testing.assert_close(op(image), y[:1], rtol=0, atol=1e-4)  # float32


@pytest.mark.parametrize(
    ("network", "coils", "epochs", "gain"),
    [
        ("modl:iterations=3,features=8,layers=3", 0, 12, 1.5),
        ("modl:iterations=3,features=8,layers=3,inner=4", 2, 8, 1.5),
        ("variational_network:cascades=2,channels=4,levels=1", 0, 30, 1.0),
        ("learned_gradient:iterations=3,features=8", 0, 15, 2.0),
        ("dncnn:channels=8,depth=4,norm=none", 0, 30, 2.0),
    ],
)
def test_it_learns_to_reconstruct_scans_that_it_has_not_seen(network, coils, epochs, gain):
    """Better than zero-filling, in dB; networks without a data step of their own give what was measured."""
    op, truth = scanner(coils), squares(40)
    y = measured(op, truth)
    objective = "ssdu:selection=uniform"
    prior = train(network, Measurements(y[:32]), op, objective=objective, epochs=epochs, lr=5e-3, clip=1.0)
    image = recon.solve(op, prior, y[32:], image_range=(0, 1)).image
    before, after = ((x.abs() - truth[32:]).square().mean() for x in (op.pinv(y[32:]), image))
    assert 10 * float(torch.log10(before / after)) > gain
    if not network.startswith("modl"):
        torch.testing.assert_close(op(image), y[32:], rtol=0, atol=1e-4)  # float32


def test_no_true_image_is_looked_at_and_a_stopped_training_goes_on(tmp_path):
    op = scanner()
    y = measured(op, squares(8))

    class Stopping(SSDU):
        at = 0

        def step(self, batch, fit):
            self.at -= 1
            if self.at == 0:
                raise KeyboardInterrupt
            return super().step(batch, fit)

    def run(data, at=0, **changed):
        objective = Stopping(masks=2)
        objective.at = at
        torch.manual_seed(0)
        network = recon.registry.make("network", "dncnn:channels=4,depth=3,in_channels=2")
        return train(network, data, op, objective=objective, epochs=3, **changed).network.state_dict()

    alone = run(Measurements(y))
    with pytest.raises(KeyboardInterrupt):
        run(Measurements(y), at=4, output=tmp_path, checkpoint_seconds=0.0)
    resumed = run(Measurements(y), output=tmp_path)
    nonsense = 0.5 * torch.rand(8, SIDE, SIDE, dtype=torch.complex64)
    beside = run((y, nonsense))
    for name, tensor in alone.items():
        assert torch.equal(tensor, resumed[name]), name
        assert torch.equal(tensor, beside[name]), name


def test_a_training_goes_on_where_the_last_digits_differ_as_on_another_device(tmp_path, monkeypatch):
    op = scanner()
    y = measured(op, squares(6))
    settings = {"image_range": None, "batch": 3, "output": tmp_path, "schedule": "constant"}
    network = "dncnn:channels=4,depth=3"
    first = train(network, Measurements(y), op, epochs=1, **settings)
    exact = type(op).pinv
    monkeypatch.setattr(type(op), "pinv", lambda self, y, **options: exact(self, y, **options) * (1 + 2**-23))
    longer = train(network, Measurements(y), op, epochs=2, **settings)
    assert longer.card["training"]["epochs changed"] == ["from 1 to 2 after 1"]
    assert longer.image_range == first.image_range
    direct = exact(op, y).abs().flatten(1).kthvalue(round(0.999 * SIDE**2)).values.max()
    assert first.image_range[1] == pytest.approx(float(direct), rel=5e-4)  # four digits of it
    others = y.clone()
    others[1, 8, 8] *= 1.001
    with pytest.raises(CheckpointError, match="the images or data are others"):
        train(network, Measurements(others), op, epochs=2, **settings)


def test_it_trains_by_name_on_problem_files_and_keeps_how_it_infers(tmp_path, capsys):
    op = scanner(2)
    y = measured(op, squares(6))
    (tmp_path / "scans").mkdir()
    for place, data in enumerate(y):
        recon.Problem(op, data).save(tmp_path / "scans" / f"{place}.h5")
    model, scan = tmp_path / "model", str(tmp_path / "scans" / "0.h5")
    command = ["train", "dncnn:channels=4,depth=3", "--data", str(tmp_path / "scans"), "--objective", "ssdu"]
    command += ["--epochs", "2", "--batch", "2", "--validation", "0.34", "-o", str(model), "--json"]
    assert main(command) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["objective"]["name"] == "ssdu" and card["objective"]["corrected"] is True
    assert "held_out" in card["metrics"] and "psnr" not in card["metrics"]
    assert main(["solve", scan, "--prior", f"{model}/", "-o", str(tmp_path / "out")]) == 0
    prior = recon.prior(f"{model}/")
    high = prior.image_range[1]
    with torch.no_grad():
        image = prior.channels.apply(prior.network, op.pinv(y[:1] / high))
        wanted = high * (image + op.pinv(y[:1] / high - op(image)))
    found = recon.Solution.load(tmp_path / "out").image
    torch.testing.assert_close(found, wanted.reshape(found.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"op": recon.operator("ct_parallel:shape=(16,16),angles=24")}, "ParallelBeam .* has none"),
        ({"network": "drunet:channels=[2,4],blocks=1"}, "conditioned on the noise level"),
        ({"objective": "ssdu:ratio=0.99"}, "would take 127 for the loss: change ratio or centre"),
        ({"patch": 8}, "patch=8 would spoil it"),
    ],
)
def test_what_cannot_be_divided_is_refused(changed, message):
    op = changed.pop("op", scanner())
    kind = torch.float32 if op.domain == "real" else torch.complex64
    data = Measurements(torch.ones(4, *op.range_shape, dtype=kind))
    with pytest.raises(ValueError, match=message):
        train(changed.pop("network", "dncnn:channels=4,depth=3"), data, op, **changed)


def test_wrong_arguments_and_doubtful_data_are_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="ratio is the share"):
        SSDU(ratio=1.0)
    with pytest.raises(ValueError, match="selection must be"):
        SSDU(selection="poisson")  # type: ignore[arg-type]
    op = scanner()
    with pytest.raises(ValueError, match=r"may be images or data of CartesianMRI: say which"):
        train("dncnn:channels=4,depth=3", measured(op, squares(4)), op)
    (folder := tmp_path / "scans").mkdir()
    np.save(folder / "1.npy", measured(op, squares(1))[0].numpy())
    spec = f"mri_cartesian:shape=({SIDE},{SIDE}),mask='random_2d:acceleration=2'"
    command = ["train", "modl", "--data", str(folder), "--op", spec, "--objective", "ssdu"]
    assert main([*command, "-o", str(tmp_path / "model")]) == 1
    assert "in a terminal, data are in problem files, as recon simulate" in capsys.readouterr().err
    prior = train("dncnn:channels=4,depth=3", Images(squares(4), "squares"), op, noise=NOISE)
    assert prior.card["data"]["source"] == "squares"


def test_inpainting_is_divided_alike_and_holes_are_filled_from_what_stays():
    mask = (torch.arange(256).reshape(SIDE, SIDE) % 3 != 0).float()
    op = recon.operator("mask", mask=mask)
    y = op.measure(squares(4))
    prior = train(
        "dncnn:channels=4,depth=3,norm=none", Measurements(y), op, objective="ssdu:selection=uniform,centre=0"
    )
    image = recon.solve(op, prior, y, image_range=(0, 1)).image
    torch.testing.assert_close(image * mask, y, rtol=0, atol=1e-6)  # measured pixels stay
