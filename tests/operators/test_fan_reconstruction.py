"""What solvers and users ask of fan-beam CT: direct reconstruction, norm, preconditioner; measured data."""

import math

import numpy as np
import pytest
import torch
from recon_data import samples
from recon_operators.ct_fan import FanBeam
from recon_operators.filtered_backprojection import add_up_views, weighted_fan_views
from recon_operators.gradient import Gradient
from torch import Tensor

from recon.linear import Identity, LinearOperator
from recon.testing.operators import conjugate_gradient_iterations

DEGREE = math.pi / 180
NEAR = {"source_origin": 250.0, "origin_detector": 150.0}
WIDE = {"source_origin": 120.0, "origin_detector": 60.0}  # a fan of 2 * 49 degrees over the corners


def disc_projections(op: FanBeam, radius: float, centre: tuple[float, float]) -> Tensor:
    """Line integrals of a disc of value 1: 2 sqrt(r^2 - d^2)."""
    phi, s = op.geometry.rays
    distance = torch.tensor(s - centre[0] * np.cos(phi) - centre[1] * np.sin(phi))
    return 2 * (radius**2 - distance**2).clamp_min(0).sqrt()


def distance_from(op: FanBeam, centre: tuple[float, float]) -> Tensor:
    (height, width), size = op.domain_shape, op.geometry.pixel_size
    x = (torch.arange(width) - (width - 1) / 2) * size - centre[0]
    y = ((height - 1) / 2 - torch.arange(height)) * size - centre[1]
    return torch.hypot(x.expand(height, width), y[:, None].expand(height, width))


COMPLETE = {
    "full": {"angles": 360, **NEAR},
    "full, wide fan": {"angles": 360, **WIDE},
    "few views": {"angles": 90, **NEAR},
    "short": {"angles": (np.arange(229) + 40) * DEGREE, **NEAR},
    "short, wide fan": {"angles": np.arange(262) * DEGREE, **WIDE},
    "short, backwards": {"angles": -np.arange(229) * DEGREE, **NEAR},
    "over": {"angles": np.arange(300) * DEGREE, **NEAR},
    "a gap seen from the other side": {"angles": np.delete(np.arange(360), range(80, 110)) * DEGREE, **NEAR},
    "unequal steps": {"angles": np.concatenate([np.arange(0, 90, 0.5), np.arange(90, 360)]) * DEGREE, **NEAR},
    "shifted a quarter element": {"angles": 360, "detector_offset": 0.4, **NEAR},
    "half fan": {"angles": 360, "detector_offset": 30.0, "detectors": 170, **NEAR},
    "short and shifted": {"angles": np.arange(240) * DEGREE, "detector_offset": 5.0, **NEAR},
}


@pytest.mark.parametrize("scan", COMPLETE.values(), ids=COMPLETE)
def test_a_unit_disc_comes_back_at_one(scan: dict) -> None:
    op = FanBeam((128, 128), **scan)  # a warning would be an error: these scans measure every line
    centre, radius = (9.0, -14.0), 35.0
    image, distance = op.pinv(disc_projections(op, radius, centre)), distance_from(op, centre)
    inside = image[distance < 0.8 * radius]
    assert (inside - 1).abs().max() < 0.01  # every pixel but those by the edge, where the ramp rings
    assert inside.mean() == pytest.approx(1, abs=5e-4)
    # flat: no cup nor dish between the middle and the rim
    rim = image[(distance > 0.6 * radius) & (distance < 0.8 * radius)].mean()
    assert rim == pytest.approx(float(image[distance < 0.3 * radius].mean()), abs=5e-4)
    outside = (distance > 1.2 * radius) & (distance_from(op, (0.0, 0.0)) < 62)
    assert image[outside].mean().abs() < 0.001


def test_other_pixels_elements_and_units() -> None:
    op = FanBeam((90, 130), 0.35, 300, source_origin=80.0, origin_detector=30.0, detector_size=0.3)
    centre = (3.0, 2.0)
    image, distance = op.pinv(disc_projections(op, 11.0, centre)), distance_from(op, centre)
    assert (image[distance < 8.5] - 1).abs().max() < 0.01


def test_lines_measured_twice_average_their_noise() -> None:
    full, short = (
        FanBeam((96, 96), angles=360, **NEAR),
        FanBeam((96, 96), angles=np.arange(211) * DEGREE, **NEAR),
    )
    spread = []
    for op in (full, short):
        noise = torch.randn(4, *op.range_shape, generator=torch.Generator().manual_seed(0))
        spread.append(float(op.pinv(noise)[:, 30:66, 30:66].std()))
    assert spread[1] / spread[0] == pytest.approx(math.sqrt(360 / 196), rel=0.06)  # 180 degrees and a share


@pytest.mark.parametrize(
    "scan",
    [
        {"angles": [0.3]},
        {"angles": [0.0, 0.0, 0.1, 0.2, 0.2]},  # views measured twice beside a gap
        {"angles": 5, "detectors": 1},
        {"angles": 8, "detectors": 4, "detector_offset": 30.0},  # beside the image
    ],
)
@pytest.mark.filterwarnings("ignore:.* measured from neither side")
def test_scans_that_measure_next_to_nothing_give_finite_images(scan: dict) -> None:
    op = FanBeam((6, 7), **scan, **NEAR)
    assert op.pinv(torch.ones(op.range_shape)).isfinite().all()
    assert op(torch.ones(6, 7)).isfinite().all()


def test_windows_and_their_options_are_those_of_parallel_beam() -> None:
    op = FanBeam((64, 64), angles=120, **NEAR)
    noise = torch.randn(1, *op.range_shape, generator=torch.Generator().manual_seed(0))
    spread = [float(op.pinv(noise, filter=name).std()) for name in ("ram-lak", "shepp-logan", "hann")]
    assert spread == sorted(spread, reverse=True)
    assert op.pinv(noise, cutoff=0.4).std() < spread[0]
    with pytest.raises(ValueError, match="filter must be one of ram-lak"):
        op.pinv(noise, filter="ram")


def test_views_are_added_up_in_parts_where_memory_is_short() -> None:
    op = FanBeam((24, 24), angles=np.arange(211) * DEGREE, **NEAR)
    views = weighted_fan_views(op(torch.rand(2, 24, 24)), op.geometry)
    whole = add_up_views(views, op.geometry, 2**30)
    for limit in (200_000, 0):
        torch.testing.assert_close(add_up_views(views, op.geometry, limit), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("memory_limit", [2**30, 2000])
def test_gradients_flow_through_pinv(memory_limit: int) -> None:
    op = FanBeam((5, 4), angles=8, backend="matrix", memory_limit=memory_limit, **NEAR)
    data = torch.rand(2, *op.range_shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op.pinv, (data,))


def test_gradients_of_first_and_second_order() -> None:
    op = FanBeam((4, 5), angles=3, **NEAR)
    image = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op, (image,))
    assert torch.autograd.gradgradcheck(op, (image,))


def test_the_norm_is_a_tight_upper_bound() -> None:
    op = FanBeam((14, 20), 0.7, 15, **WIDE)
    true = float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2))
    assert true <= op.norm() <= 1.002 * true


@pytest.mark.parametrize(("rho", "most"), [(1e-1, 0.75), (1e-3, 0.6)])
@pytest.mark.parametrize("scan", [NEAR, WIDE], ids=["narrow", "wide"])
def test_the_preconditioner_saves_conjugate_gradient_steps(rho: float, most: float, scan: dict) -> None:
    op = FanBeam((32, 32), angles=60, **scan)
    gradient: LinearOperator = Gradient((32, 32))
    matrix = op.to_dense(torch.float64)
    step = rho * op.norm() ** 2 / gradient.norm() ** 2
    term = gradient.to_dense(torch.float64)
    apply = op.preconditioner([step], [gradient])
    assert apply is not None
    steering = apply(torch.eye(1024, dtype=torch.float64).reshape(1024, 32, 32)).reshape(1024, 1024)
    normal = matrix.T @ matrix + step * term.T @ term
    plain, steered = (conjugate_gradient_iterations(normal, with_it, 1e-5) for with_it in (None, steering))
    assert steered < most * plain


@pytest.mark.parametrize("scan", [{"angles": 180, **NEAR}, {"angles": 180, **WIDE}])
def test_the_symbol_has_the_scale_of_the_normal_operator(scan: dict) -> None:
    op = FanBeam((96, 96), 0.8, **scan, detector_size=0.7)
    x, y = torch.meshgrid(*[torch.arange(96, dtype=torch.float64)] * 2, indexing="xy")
    envelope = torch.exp(-((x - 47.5) ** 2 + (y - 47.5) ** 2) / (2 * 14**2))
    for waves in (6, 12):
        wave = envelope * torch.cos(2 * math.pi * waves * x / 96)
        measured = float(op(wave).square().sum() / wave.square().sum())
        # elements finer than pixels, and interpolation's loss at 12 waves: sinc^4(1/8) = 0.90
        assert measured == pytest.approx(float(op.approximate_symbol()[0, waves]), rel=0.15)


def test_the_noise_level_is_found() -> None:
    op = FanBeam((64, 64), angles=60, **NEAR)
    noise = torch.randn(2, *op.range_shape, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.1, 0.5])
    data = op(torch.ones(64, 64)) * 0.01 + levels[:, None, None] * noise
    torch.testing.assert_close(op.noise_level(data), levels, rtol=0.05, atol=0)


def otsu_dice(image: Tensor, truth: Tensor) -> float:
    """Overlap of the image's brighter class with the truth."""
    filters = pytest.importorskip("skimage.filters", reason="scikit-image finds the threshold")
    found = image > float(filters.threshold_otsu(image.numpy()))
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def measured_disc(pixels: int, first: float = 0.0, last: float = 360.0) -> tuple[FanBeam, Tensor, Tensor]:
    """The scan of the sample from some degrees on to others, its data, and the truth in coarser pixels."""
    scan = samples.fan_disc()
    factor = 512 // pixels
    angles = torch.tensor(scan.geometry["angles"], dtype=torch.float64)
    used = (angles >= (first - 0.1) * DEGREE) & (angles <= (last + 0.1) * DEGREE)
    coarse = {"shape": (pixels, pixels), "pixel_size": factor * scan.geometry["pixel_size"]}
    with pytest.warns(UserWarning, match="measured from neither side"):
        op = FanBeam(**{**scan.geometry, **coarse, "angles": angles[used].tolist()})
    truth = samples.fan_disc_truth().data.reshape(pixels, factor, pixels, factor).mean((1, 3)) > 0.5
    return op, scan.data[used], truth


def test_a_measured_disc_is_segmented_from_its_filtered_backprojection() -> None:
    op, data, truth = measured_disc(256)
    image = op.pinv(data)
    assert otsu_dice(image, truth) >= 0.98
    shadow = op(truth.float())
    density = float((shadow * data).sum() / shadow.square().sum())
    assert density == pytest.approx(0.0376, abs=0.0005)  # 1/mm
    # the same from the truth's own projections; the scan's beam hardens, and its air is not quite zero
    assert float(image[truth].median()) == pytest.approx(
        float(density * op.pinv(shadow)[truth].median()), rel=0.12
    )
    for wrong in (image.flip(0), image.flip(1), image.T):
        assert otsu_dice(wrong, truth) < 0.8


def test_ninety_degrees_of_the_measured_disc_are_worth_less() -> None:
    op, data, truth = measured_disc(128, 75, 165)
    assert op.range_shape == (181, 560)
    assert 0.6 < otsu_dice(op.pinv(data), truth) < 0.9


@pytest.mark.slow
def test_the_measured_disc_at_the_size_of_the_challenge() -> None:
    op, data, truth = measured_disc(512)
    assert otsu_dice(op.pinv(data), truth) >= 0.98


def test_the_scan_and_its_symbol_follow_the_device_and_the_pickle() -> None:
    import copy
    import pickle

    op = FanBeam((20, 20), angles=8, **NEAR)
    image = torch.rand(20, 20)
    expected = op(image)
    for again in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
        assert not again._projectors
        assert again.geometry == op.geometry
        assert torch.equal(again(image), expected)
    assert op.preconditioner([0.3], [Identity((20, 20))]) is not None
