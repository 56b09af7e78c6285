"""Networks on the Ellipses benchmark: trained on its training part, kept, and better than the direct reconstruction."""

import dataclasses
from pathlib import Path

import torch

from recon.benchmarks import ellipses
from recon.experiments.ellipses_networks import PUBLISHED, SIZES, run

TINY = dataclasses.replace(
    SIZES["small"],
    train=8,
    test=2,
    epochs=30,
    batch=2,
    networks={name: {**settings} for name, settings in SIZES["small"].networks.items()}
    | {"learned_gradient": {"iterations": 2, "features": 8}},
)


def test_a_network_improves_on_the_direct_reconstruction_and_is_kept(tmp_path: Path) -> None:
    told: list[str] = []
    (row,) = run(TINY, tmp_path, ["learned_gradient"], device="cpu", report=told.append)
    direct = ellipses.run(2, priors=())[0]
    assert row.psnr > direct.psnr + 0.3  # 120 steps
    assert told == ["simulating 8 scans", "training learned_gradient"]
    told.clear()
    assert run(TINY, tmp_path, ["learned_gradient"], device="cpu", report=told.append) == [row]
    assert told == []


def test_the_training_images_are_not_those_of_the_test() -> None:
    train, test = ellipses.scan(2, part="train"), ellipses.scan(2)
    assert not torch.equal(train.images[0], test.images[0])
    assert set(PUBLISHED) == set(SIZES["small"].networks) == set(SIZES["full"].networks)
