"""Folders of inputs and of true images are the pairs of their files; `recon train` takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_trainings import squares

import recon
from recon.cli import main
from recon.loading import without_suffix
from recon.training import Pairs, from_two_folders

NETWORK = "unet:channels=4,levels=2"
CLEAN = squares(6)
NOISY = CLEAN + 0.1 * torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(0))
SETTINGS = ["--epochs", "2", "--batch", "3", "--device", "cpu", "--image-range", "0,1"]


def written(folder: Path, images: torch.Tensor, names: list[str]) -> Path:
    for name, image in zip(names, images, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, image.numpy())
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Six pairs, two of each of three patients."""
    names = [f"patient{number // 2}/{number}.npy" for number in range(6)]
    return written(tmp_path / "low", NOISY, names), written(tmp_path / "full", CLEAN, names)


def run(*arguments: Any) -> int:
    return main(["train", NETWORK, *map(str, arguments)])


def test_files_are_paired_by_name_and_split_by_patient(folders: tuple[Path, Path]) -> None:
    low, full = folders
    for image in full.rglob("*.npy"):  # another order on the disk, another suffix
        np.savez(image.with_suffix(".npz"), np.load(image))
        image.unlink()
    source, operator = from_two_folders(low, full)
    assert isinstance(source, Pairs) and operator is None and not source.measured
    assert [source.group(place) for place in range(6)] == [f"patient{n // 2}" for n in range(6)]
    for place in range(6):
        sample = source.sample(place)
        assert torch.equal(sample.input, NOISY[place]) and torch.equal(sample.target, CLEAN[place])


def test_a_compressed_volume_belongs_to_a_plain_one(tmp_path: Path) -> None:
    for folder, images, suffix in (("low", NOISY, ".nii.gz"), ("full", CLEAN, ".nii")):
        (tmp_path / folder).mkdir()
        for name, slices in (("p.1", images[:4]), ("p.2", images[4:])):
            recon.save(tmp_path / folder / f"{name}{suffix}", slices, pixel_size=(1.0, 1.0, 1.0))
    source, _ = from_two_folders(tmp_path / "low", tmp_path / "full")
    assert len(source) == 6
    noisy, clean = (recon.load(tmp_path / name).data for name in ("low/p.1.nii.gz", "full/p.1.nii"))
    assert torch.equal(source.sample(1).input, noisy[1]) and torch.equal(source.sample(1).target, clean[1])


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("a/p1.nii.gz", "a/p1"),
        ("p1.NII", "p1"),
        ("1.2.840.5", "1.2.840.5"),
        ("1.2.840.6", "1.2.840.6"),
        ("1.2.840.5.dcm", "1.2.840.5"),
        ("p.gz", "p.gz"),
        ("patient", "patient"),
    ],
)
def test_only_the_suffix_of_a_reader_is_no_part_of_a_name(name: str, bare: str) -> None:
    assert without_suffix(Path(name)) == Path(bare)


def test_the_command_trains_on_them_as_python_on_tensors(folders: tuple[Path, Path], tmp_path: Path) -> None:
    low, full = folders
    assert (
        run("--data", low, "--targets", full, "--validation", "0", "-o", tmp_path / "model", *SETTINGS) == 0
    )
    same = recon.train(
        NETWORK, data=(NOISY, CLEAN), validation=0, epochs=2, batch=3, device="cpu", image_range=(0, 1)
    )
    kept = load_file(tmp_path / "model" / "weights.safetensors")
    for name, tensor in same.network.state_dict().items():
        assert torch.equal(kept[name], tensor), name


def test_a_folder_of_pairs_to_validate_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    low, full = folders
    held = ["--validation", low / "patient0", "--validation-targets", full / "patient0"]
    assert run("--data", low, "--targets", full, *held, "-o", tmp_path / "model", *SETTINGS) == 0
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert (card["data"]["trained on"], card["data"]["validated on"]) == (6, 2)
    expected = float(recon.metric("psnr", data_range=1.0)(NOISY[:2], CLEAN[:2], item_ndim=2).mean())
    assert card["metrics"]["input_psnr"] == pytest.approx(expected, abs=1e-3)  # the same pairs


def test_measured_data_are_known_by_their_shape(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, full = folders
    ct = recon.operator("ct_parallel", shape=(16, 16), angles=5)
    names = [str(file.relative_to(full)) for file in sorted(full.rglob("*.npy"))]
    scans = written(tmp_path / "scans", ct(CLEAN), names)
    source, operator = from_two_folders(scans, full, op="ct_parallel:angles=5")
    assert source.measured and operator.domain_shape == (16, 16)
    assert torch.equal(source.sample(3).data, ct(CLEAN[3]))
    options = ["--targets", full, "--op", "ct_parallel:angles=5", "-o", tmp_path / "model", *SETTINGS]
    assert run("--data", scans, *options) == 0
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["operator"]["description"]["arguments"]["angles"] == 5
    prior = recon.prior(f"{tmp_path / 'model'}/")
    assert prior.unit == "1/mm"
    assert recon.solve(ct, prior, ct(CLEAN[0])).image.shape == (16, 16)


def test_data_of_several_coils_are_read_whole(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, full = folders
    maps = torch.randn(4, 16, 16, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    mri = recon.operator("mri_cartesian", mask="random_2d:acceleration=2", coil_maps=maps)
    kspace = mri(CLEAN.to(torch.complex64))
    names = [str(file.relative_to(full)) for file in sorted(full.rglob("*.npy"))]
    source, operator = from_two_folders(written(tmp_path / "kspace", kspace, names), full, op=mri)
    assert source.measured and operator is mri and len(source) == 6
    for place in range(6):
        assert torch.equal(source.sample(place).data, kspace[place])
        assert torch.equal(source.sample(place).target, CLEAN[place])
    settings = {"epochs": 1, "batch": 3, "validation": 0, "device": "cpu"}
    recon.train("modl:iterations=1,features=2,layers=2,inner=2", data=source, op=mri, **settings)
    fewer = written(tmp_path / "fewer", kspace[:, :3], names)
    with pytest.raises(ValueError, match=r"holds 3 slices or scans in .* have the shape \(4, 16, 16\)"):
        from_two_folders(fewer, full, op=mri)
    volumes = {"kspace": kspace.reshape(2, 3, 4, 16, 16), "images": CLEAN.reshape(2, 3, 16, 16)}
    several = {
        kind: written(tmp_path / f"3-{kind}", data, ["a.npy", "b.npy"]) for kind, data in volumes.items()
    }
    source, _ = from_two_folders(several["kspace"], several["images"], op=mri)
    assert torch.equal(source.sample(4).data, kspace[4]) and torch.equal(source.sample(4).target, CLEAN[4])


def test_cyclegan_from_two_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    low, _ = folders
    other = written(tmp_path / "other", CLEAN, [f"of another kind {n}.npy" for n in range(6)])
    critic = "cyclegan:critic='patchgan:channels=2,layers=1'"
    options = ["--objective", critic, "-o", tmp_path / "model", *SETTINGS]
    assert run("--data", low, "--targets", other, *options) == 0
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["objective"]["name"] == "cyclegan" and card["data"]["source"].endswith("unpaired")
    assert {"adversarial", "cycle", "identity", "critic_loss"} <= set(card["metrics"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda low, full: (full / "patient1" / "2.npy").unlink(), "full has no patient1/2"),
        (lambda low, full: np.save(full / "extra.npy", CLEAN[0].numpy()), "low has no extra"),
        (
            lambda low, full: np.save(full / "patient0" / "1.npy", CLEAN[:3].numpy()),
            "holds 1 slices or scans in .* and 3 in",
        ),
        (lambda low, full: np.save(full / "patient0" / "1.npy", CLEAN[0, :8].numpy()), "does not match"),
        (lambda low, full: np.savez(low / "patient0" / "1.npz", CLEAN[0]), "differ in their suffix alone"),
    ],
)
def test_what_is_no_pair_is_named(
    change: Any, said: str, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low, full = folders
    change(low, full)
    assert (
        run("--data", low, "--targets", full, "--validation", "0", "-o", tmp_path / "model", *SETTINGS) == 1
    )
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert not (tmp_path / "model" / "card.json").exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--objective", "denoising", "--targets", "full"], 2, "denoising would not look at its inputs"),
        (
            ["--objective", "recon/denoising:sigma_high=0.2", "--targets", "full"],
            2,
            "recon/denoising would not look",  # called as it was
        ),
        (["--objective", "cyclegan"], 2, "give these too"),
        (["--targets", "full", "--validation-targets", "full"], 2, "--validation FOLDER"),
        (["--targets", "nowhere"], 1, "there is no folder nowhere"),
        (
            ["--targets", "full", "--noise", "gaussian:std=0.1"],
            1,
            "no operator to simulate them with: give --op",
        ),
        (["--objective", "denoising", "--noise", "gaussian:std=0.1"], 1, "this objective simulates none"),
        ([], 1, "or pairs (degraded, true), in a terminal with --targets FOLDER"),
    ],
)
def test_half_of_what_is_needed_is_refused(
    options: list[str],
    code: int,
    said: str,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folders[0].parent)
    assert run("--data", "low", *options, "-o", "model") == code
    assert said in capsys.readouterr().err
