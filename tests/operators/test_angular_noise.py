"""The noise level of parallel- and fan-beam scans: right within a few per cent where differences are far off."""

from __future__ import annotations

import math

import pytest
import torch
from recon_data.samples import ct_chest
from recon_operators.angular_noise import noise_beside_the_bow_tie, noise_beside_the_fans_bow_tie
from recon_operators.sinogram_noise import sinogram_noise
from torch import Tensor

import recon


def chest(reduced: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(ct_chest().attenuation()[None], reduced)[0]


def ellipses(size: int) -> Tensor:
    """Sharp edges, as no scanned object has."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    image = 0.02 * ((x / 0.69) ** 2 + (y / 0.92) ** 2 <= 1).float()
    for scale, a, b, u, v in (
        (-0.016, 0.66, 0.87, 0, 0.02),
        (0.01, 0.11, 0.31, 0.22, 0),
        (0.02, 0.05, 0.05, 0, 0.6),
    ):
        image += scale * (((x - u) / a) ** 2 + ((y - v) / b) ** 2 <= 1)
    return image


def noise(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("angles", [30, 60, 180])
@pytest.mark.parametrize(("name", "level"), [("chest64", 0.02), ("chest128", 0.02), ("ellipses", 0.01)])
def test_the_level_is_right_where_differences_are_wrong(name: str, level: float, angles: int) -> None:
    """Up to 9 % were measured where differences are 1.5 to 3 times too high."""
    image = {"chest64": lambda: chest(8), "chest128": lambda: chest(4), "ellipses": lambda: ellipses(128)}[
        name
    ]()
    ct = recon.operator("ct_parallel", shape=image.shape, pixel_size=300 / image.shape[0], angles=angles)
    clean = ct(image)
    y = (clean + level * noise(clean.shape)).unsqueeze(0)
    assert float(sinogram_noise(y)[0]) > 1.35 * level, "the test needs data that mislead differences"
    assert float(ct.noise_level(y)[0]) == pytest.approx(level, rel=0.13)


def test_uneven_noise_is_told_by_its_root_mean_square() -> None:
    """Photons are fewest behind the body: the variance of a ray spans a factor of ten."""
    image = chest(4)
    ct = recon.operator("ct_parallel", shape=image.shape, pixel_size=2.56, angles=120)
    clean = ct(image)
    spread = 0.01 * torch.exp(0.5 * clean)
    y = (clean + spread * noise(clean.shape)).unsqueeze(0)
    assert float(spread.max() / spread.min()) > 3
    assert float(ct.noise_level(y)[0]) == pytest.approx(float(spread.square().mean().sqrt()), rel=0.06)


def test_white_noise_alone_keeps_the_estimate_of_more_samples() -> None:
    """Without an object both agree, and the one of more samples is taken."""
    ct = recon.operator("ct_parallel", shape=(64, 64), angles=60)
    y = noise((5, *ct.range_shape))
    found = noise_beside_the_bow_tie(y, ct.geometry)
    assert found is not None
    level, count = found
    assert level.tolist() == pytest.approx([1.0] * 5, abs=4 * math.sqrt(1 / (2 * count)))
    taken = ct.noise_level(y)
    assert sum(torch.isclose(taken, sinogram_noise(y)).tolist()) >= 4


def test_items_do_not_depend_on_their_mates() -> None:
    ct = recon.operator("ct_parallel", shape=(64, 64), angles=60)
    y = ct(chest(8)) + torch.tensor([0.01, 0.5])[:, None, None] * noise((2, *ct.range_shape))
    torch.testing.assert_close(ct.noise_level(y)[1:], ct.noise_level(y[1:]))


@pytest.mark.parametrize(
    "arguments",
    [
        {"angles": [0.0, 0.3, 0.5, 1.1, 2.0]},
        {"angles": [i * math.pi / 90 for i in range(60)]},  # 120 degrees
        {"angles": 60, "detector_offset": 1.0, "detectors": 97},
        {"angles": 6},
    ],
)
def test_other_scans_are_left_to_differences(arguments: dict[str, object]) -> None:
    ct = recon.operator("ct_parallel", shape=(64, 64), **arguments)
    y = noise((1, *ct.range_shape))
    assert noise_beside_the_bow_tie(y, ct.geometry) is None
    torch.testing.assert_close(ct.noise_level(y), sinogram_noise(y))


def test_the_automatic_weight_of_a_phantom_gains() -> None:
    """Sharp edges: 32.6 dB, 33.1 dB with the given level, 21.0 dB by differences alone."""
    image = ellipses(96)
    ct = recon.operator("ct_parallel", shape=image.shape, pixel_size=3.0, angles=60)
    y = ct.measure(image, noise=recon.noise("gaussian", std=0.02), seed=0)
    psnr = recon.metric("psnr", data_range=0.02)
    by_differences = float(sinogram_noise(y.unsqueeze(0))[0])
    scores = [
        float(psnr(recon.solve(ct, "tv", y, fidelity=("gaussian", {"noise_level": level})).image, image))
        for level in (None, 0.02, by_differences)
    ]
    assert scores[0] > scores[1] - 0.6, scores  # estimated against given
    assert scores[0] > scores[2] + 1, scores


def fan(size: int, **options: object) -> recon.LinearOperator:
    """A fan of 28 degrees."""
    given = {"shape": (size, size), "source_origin": 2.0 * size, "origin_detector": 1.0 * size}
    return recon.operator("ct_fan", **given | options)


@pytest.mark.parametrize("angles", [90, 181, 360])
@pytest.mark.parametrize("options", [{}, {"detector_size": 0.9}, {"detector_offset": 4.3}])
def test_the_level_of_a_fan_is_right_where_differences_are_wrong(angles: int, options: dict) -> None:
    """Up to 8 % were measured where differences are 1.5 to 3 times too high."""
    ct = fan(96, angles=angles, **options)
    clean = ct(ellipses(96))
    level = 0.006 * float(clean.max())
    y = (clean + level * noise(clean.shape)).unsqueeze(0)
    assert float(sinogram_noise(y)[0]) > 1.35 * level, "the test needs data that mislead differences"
    assert float(ct.noise_level(y)[0]) == pytest.approx(level, rel=0.13)


def test_views_of_a_fan_that_go_the_other_way_round_tell_the_same() -> None:
    image = ellipses(96)
    levels = []
    for sign in (1, -1):
        ct = fan(96, angles=[sign * 2 * math.pi * (view + 0.5) / 120 for view in range(120)])
        clean = ct(image)
        y = (clean + 0.005 * float(clean.max()) * noise(clean.shape)).unsqueeze(0)
        found = noise_beside_the_fans_bow_tie(y, ct.geometry)
        assert found is not None
        levels.append(float(found[0][0]) / float(clean.max()))
    assert levels == pytest.approx([0.005, 0.005], rel=0.13)


def test_noise_alone_in_a_fan_is_found_within_its_spread() -> None:
    """Of a median of squared magnitudes, at three deviations."""
    ct = fan(64, angles=120)
    found = noise_beside_the_fans_bow_tie(noise((5, *ct.range_shape)), ct.geometry)
    assert found is not None
    level, count = found
    assert level.tolist() == pytest.approx([1.0] * 5, abs=3 / math.sqrt(count))


@pytest.mark.parametrize(
    "angles",
    [[math.pi * view / 180 for view in range(180)], [0.0, 0.1, 0.3], [0.0]],
    ids=["half", "uneven", "one"],
)
@pytest.mark.filterwarnings("ignore:.*lines through")
def test_a_fan_that_is_no_whole_turn_has_no_such_level(angles: list[float]) -> None:
    ct = fan(64, angles=angles)
    assert noise_beside_the_fans_bow_tie(noise((1, *ct.range_shape)), ct.geometry) is None
