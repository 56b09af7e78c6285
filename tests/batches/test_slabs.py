"""A stack solved slab after slab is the stack solved at once, from any file, and after any interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import recon
from recon.cli import main
from recon.scans import ScanOptions, solve_file
from recon.slabs import Slab

OP = recon.operator("ct_parallel", shape=(16, 16), angles=12)
SPEC = "ct_parallel:shape=(16,16),angles=12"
SLICES = 7
TRUTH = torch.zeros(SLICES, 16, 16)
for place in range(SLICES):
    TRUTH[place, 3 : 6 + place, 4:12] = 0.05
Y = OP.measure(TRUTH, noise="poisson:photons=1e4", seed=0)
STOP = recon.MaxIterations(12)


class Watched:
    """Data on disk: says how many slices were asked for at once."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.shape, self.most = values.numpy(), tuple(values.shape), 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: slice) -> Any:
        part = self.values[key]
        self.most = max(self.most, len(part))
        return part


def test_slabs_give_what_the_stack_gives(tmp_path: Path) -> None:
    stack = Watched(Y)
    seen: list[tuple[Slab, int]] = []
    path = recon.solve_slabs(
        OP,
        "tv",
        stack,
        output=tmp_path / "v.h5",
        slab=3,
        stop=STOP,
        tell=lambda slab, count, _: seen.append((slab, count)),
    )
    assert stack.most == 3 and seen == [(Slab(0, 3), 7), (Slab(3, 6), 7), (Slab(6, 7), 7)]
    assert [item.name for item in tmp_path.iterdir()] == ["v.h5"]
    found, whole = recon.Solution.load(path), recon.solve(OP, "tv", Y, stop=STOP)
    torch.testing.assert_close(found.image, whole.image, rtol=1e-4, atol=1e-6)
    assert found.image.shape == (7, 16, 16) and found.reasons == whole.reasons
    torch.testing.assert_close(torch.tensor(found.weight), torch.tensor(whole.weight), rtol=1e-3, atol=0)
    assert found.history["iteration"] == whole.history["iteration"] and found.provenance["slabs"] == 3
    assert len(found.history["objective"][0]) == len(found.weight_search[0]["weight"]) == 7
    first = recon.solve(OP, "tv", Y[:3], stop=STOP)
    assert torch.equal(found.image[:3], first.image), "to the last bit what its slices give together"
    words = found.explain()
    assert words.startswith("What was solved") and "7 images at once" in words and "chosen because" in words


def test_the_range_of_the_images_is_that_of_the_problem_file(tmp_path: Path) -> None:
    """Learned priors need it; a file says it once."""
    problem = recon.Problem(OP, Y, image_range=(0.0, 0.06))
    options: dict[str, Any] = {"slab": 4, "stop": recon.MaxIterations(2)}
    path = recon.solve_slabs(problem.save(tmp_path / "p.h5"), "drunet", output=tmp_path / "v.h5", **options)
    whole = recon.solve(problem, "drunet", stop=options["stop"])
    torch.testing.assert_close(recon.Solution.load(path).image, whole.image, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore::recon.ConvergenceWarning")
def test_files_are_solved_by_the_rule_that_the_generator_advises(tmp_path: Path) -> None:
    """As `recon.solve` does: the patience follows the iterations of the preset."""
    file, prior = recon.Problem(OP, Y[0]).save(tmp_path / "p.h5"), "dip:preset=small_128"
    found = solve_file(file, ScanOptions(prior=prior, limits={"iterations": 3}))
    advised = recon.DIP().stop_for(recon.Problem(OP, Y[0], prior=recon.prior(prior)))
    assert found.iterations == 3
    assert found.provenance["stop"].partition(" | ")[0] == repr(advised).partition(" | ")[0]
    assert repr(advised) != repr(recon.DIP().default_stop())


def test_from_every_kind_of_file(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", Y.numpy())
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["scan/sinogram"] = Y.numpy()
    problem = recon.Problem(OP, Y)
    problem.notes = {"unit": "1/mm"}
    problem.save(tmp_path / "scan.h5")
    options: dict[str, Any] = {"slab": 4, "stop": STOP, "weight": 0.5}
    one = recon.solve_slabs(OP, "tv", tmp_path / "y.npy", output=tmp_path / "1.h5", **options)
    two = recon.solve_slabs(
        SPEC, "tv", tmp_path / "y.h5", dataset="scan/sinogram", output=tmp_path / "2.h5", **options
    )
    three = recon.solve_slabs(tmp_path / "scan.h5", "tv", output=tmp_path / "3.h5", **options)
    images = [recon.Solution.load(path).image for path in (one, two, three)]
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    assert recon.Solution.load(three).provenance["problem"]["notes"] == {"unit": "1/mm"}


def test_what_is_done_is_kept(tmp_path: Path) -> None:
    def interrupt(slab: Slab, count: int, solution: Any) -> None:
        if slab.first == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"stop": STOP, "weight": 0.5, "memory": "1GiB"}
    output = tmp_path / "v.h5"
    with pytest.raises(KeyboardInterrupt):
        recon.solve_slabs(OP, "tv", Y, output=output, slab=2, tell=interrupt, stop=STOP, weight=0.5)
    assert not output.exists() and len(list((tmp_path / "v.h5.slabs").iterdir())) == 2
    seen: list[tuple[int, bool]] = []
    changed = Y.clone()
    changed[1] *= 1.01  # of the first slab
    recon.solve_slabs(
        OP,
        "tv",
        changed,
        output=output,
        tell=lambda s, _, new: seen.append((s.first, new is not None)),
        **options,
    )
    assert seen == [(0, True), (2, False), (4, True), (6, True)], "slabs as before; the changed one anew"
    expected = recon.solve(OP, "tv", changed[:2], stop=STOP, weight=0.5).image
    assert torch.equal(recon.Solution.load(output).image[:2], expected)
    assert not (tmp_path / "v.h5.slabs").exists()


def test_arrays_of_the_data_term_are_cut_like_the_data(tmp_path: Path) -> None:
    weights = torch.linspace(0.5, 2, SLICES).reshape(-1, 1, 1) * torch.ones_like(Y)
    fidelity = ("gaussian", {"weights": weights, "noise_level": torch.linspace(0.01, 0.03, SLICES)})
    path = recon.solve_slabs(OP, "tv", Y, output=tmp_path / "v.h5", slab=3, fidelity=fidelity, stop=STOP)
    whole = recon.solve(OP, "tv", Y, fidelity=fidelity, stop=STOP)
    torch.testing.assert_close(recon.Solution.load(path).image, whole.image, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:not converged")
def test_the_memory_decides_the_size_of_a_slab(tmp_path: Path) -> None:
    """What others have made in this process is none of a slab's need: here the matrices of a larger scan."""
    larger = recon.operator("ct_parallel", shape=(128, 128), angles=60)
    larger(torch.zeros(128, 128))
    seen: list[Slab] = []
    recon.solve_slabs(
        OP,
        "tv",
        Y,
        output=tmp_path / "v.h5",
        memory="500kB",
        stop=STOP,
        weight=0.5,
        tell=lambda slab, *_: seen.append(slab),
    )
    assert 1 < len(seen) <= SLICES
    with pytest.raises(recon.OutOfMemoryError, match=r"one slice takes about .* give more memory"):
        recon.solve_slabs(OP, "tv", Y, output=tmp_path / "w.h5", memory="1kB")


@pytest.mark.filterwarnings("ignore:not converged")
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "y.npy", Y.numpy())
    call = [
        "slabs",
        str(tmp_path / "y.npy"),
        "-o",
        str(tmp_path / "v.h5"),
        "--prior",
        "tv",
        "--weight",
        "0.5",
    ]
    call += ["--slab", "4", "--iterations", "12", "--json"]
    assert main(call) == 2 and "say which operator measured it" in capsys.readouterr().err
    assert main([*call, "--op", SPEC]) == 0
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert (answer["slices"], answer["slabs"], answer["iterations"]) == (7, 2, 12)
    assert "slices 4 to 6 of 7" in shown.err
    expected = recon.solve(
        OP, "tv:weight=0.5", Y[:4], stop=recon.SmallResiduals(1e-3) | recon.MaxIterations(12)
    )
    assert torch.equal(recon.Solution.load(tmp_path / "v.h5").image[:4], expected.image)


def test_what_is_no_stack_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "v.h5"
    with pytest.raises(
        recon.ShapeError, match=r"these data are one item, .* a GPU with more memory; 3-D k-space"
    ):
        recon.solve_slabs(OP, "tv", Y[0], output=output)
    with pytest.raises(recon.ShapeError, match=r"has the shape \(slices, 12, \d+\), got \(7, 12, 3\)"):
        recon.solve_slabs(OP, "tv", Y[:, :, :3], output=output)
    with pytest.raises(ValueError, match="must end in .h5"):
        recon.solve_slabs(OP, "tv", Y, output=tmp_path / "v.npy")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        recon.solve_slabs(OP, "tv", tmp_path / "none.npy", output=output)
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["scan/sinogram"] = Y.numpy()
    with pytest.raises(ValueError, match="say which dataset .* scan/sinogram"):
        recon.solve_slabs(OP, "tv", tmp_path / "y.h5", output=output)
    with pytest.raises(TypeError, match="takes no x0"):
        recon.solve_slabs(OP, "tv", Y, output=output, x0=TRUTH)
    with pytest.raises(TypeError, match="needs data, or a problem file"):
        recon.solve_slabs(OP, "tv", output=output)
