"""Filtered back-projection against closed forms and scikit-image."""

import math

import numpy as np
import pytest
import torch
from recon_operators.filtered_backprojection import (
    WINDOWS,
    ViewInterpolation,
    filter_views,
    ramp_response,
    weighted_views,
)
from recon_operators.joseph import ParallelGeometry
from recon_operators.view_coverage import view_weights
from torch import Tensor


def geometry(
    shape: tuple[int, int],
    pixel_size: float = 1.0,
    detector_size: float | None = None,
    angles: int | np.ndarray = 180,
    offset: float = 0.0,
) -> ParallelGeometry:
    theta = np.arange(angles) * np.pi / angles if isinstance(angles, int) else angles
    spacing = detector_size or pixel_size
    detectors = math.ceil((math.hypot(*shape) * pixel_size + 2 * abs(offset)) / spacing)
    return ParallelGeometry(shape, pixel_size, tuple(theta.tolist()), detectors, spacing, offset)


def filtered_backprojection(sinograms: Tensor, scan: ParallelGeometry, *options: object) -> Tensor:
    return ViewInterpolation(scan).adjoint(weighted_views(sinograms, scan, *options))


def disc_projections(scan: ParallelGeometry, radius: float, centre: tuple[float, float] = (0, 0)) -> Tensor:
    """Line integrals of a disc of value 1: 2 sqrt(r^2 - s^2)."""
    theta = torch.tensor(scan.angles, dtype=torch.float64)[:, None]
    s = torch.tensor(scan.positions) - centre[0] * theta.cos() - centre[1] * theta.sin()
    return 2 * (radius**2 - s**2).clamp_min(0).sqrt()[None]


def distance_from(scan: ParallelGeometry, centre: tuple[float, float]) -> Tensor:
    height, width = scan.shape
    x = (torch.arange(width) - (width - 1) / 2) * scan.pixel_size - centre[0]
    y = ((height - 1) / 2 - torch.arange(height)) * scan.pixel_size - centre[1]
    return torch.hypot(x.expand(height, width), y[:, None].expand(height, width))


@pytest.mark.parametrize(
    ("shape", "pixel_size", "detector_size", "angles", "offset"),
    [
        ((128, 128), 1.0, 1.0, 180, 0.0),
        ((200, 200), 1.0, 1.0, 90, 0.0),
        ((128, 128), 0.35, 0.35, 180, 0.0),
        ((128, 128), 0.5, 1.0, 180, 0.0),
        ((128, 128), 1.0, 0.4, 180, 0.0),
        ((128, 128), 2.0, 2.5, 121, 0.0),
        ((110, 150), 1.0, 1.0, 180, 0.0),
        ((128, 128), 1.0, 1.0, 180, 5.3),
    ],
)
@pytest.mark.parametrize("centred", [True, False])
def test_a_unit_disc_comes_back_at_one(
    shape: tuple[int, int],
    pixel_size: float,
    detector_size: float,
    angles: int,
    offset: float,
    centred: bool,
) -> None:
    scan = geometry(shape, pixel_size, detector_size, angles, offset)
    radius = 0.35 * min(shape) * pixel_size
    centre = (0.0, 0.0) if centred else (0.1 * radius, -0.25 * radius)
    image = filtered_backprojection(disc_projections(scan, radius, centre), scan)[0]
    distance = distance_from(scan, centre)
    # every pixel but those by the edge, where the ramp rings
    assert (image[distance < 0.8 * radius] - 1).abs().max() < 0.005
    assert image[distance > 1.2 * radius].mean().abs() < 0.002  # streaks between few views


def test_a_full_turn_and_half_a_turn_agree() -> None:
    half = geometry((64, 64), angles=np.arange(90) * np.pi / 90)
    full = geometry((64, 64), angles=np.arange(180) * np.pi / 90)
    images = [filtered_backprojection(disc_projections(scan, 20, (4, 3)), scan)[0] for scan in (half, full)]
    torch.testing.assert_close(images[0], images[1], atol=1e-9, rtol=0)  # the same samples, in float64


def test_unequally_spaced_views_are_weighted() -> None:
    theta = np.concatenate(
        [np.linspace(0, 1, 200, endpoint=False), np.linspace(1, np.pi, 100, endpoint=False)]
    )
    scan = geometry((96, 96), angles=np.random.default_rng(0).permutation(theta))
    image = filtered_backprojection(disc_projections(scan, 33), scan)[0]
    assert (image[distance_from(scan, (0, 0)) < 25] - 1).abs().max() < 0.005


@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_keeps_the_mean_of_a_disc(window: str) -> None:
    scan = geometry((96, 96))
    image = filtered_backprojection(disc_projections(scan, 33), scan, window)[0]
    assert image[distance_from(scan, (0, 0)) < 25].mean() == pytest.approx(1, abs=0.002)


def test_windows_and_cutoff_tame_noise_in_the_order_of_their_strength() -> None:
    scan = geometry((64, 64))
    noise = torch.randn(1, scan.views, scan.detectors, generator=torch.Generator().manual_seed(0))
    spread = [float(filtered_backprojection(noise, scan, window).std()) for window in WINDOWS]
    assert spread == sorted(spread, reverse=True)
    low = [float(filtered_backprojection(noise, scan, "ram-lak", cutoff).std()) for cutoff in (1.0, 0.6, 0.3)]
    assert low == sorted(low, reverse=True)


def test_the_response_is_the_ramp_with_the_right_mean() -> None:
    response = ramp_response(256, spacing=0.5)
    frequency = torch.fft.rfftfreq(256, 0.5, dtype=torch.float64)
    # a ramp sampled in space differs from |f| by a small positive offset at f = 0 (Kak and Slaney)
    torch.testing.assert_close(response, frequency, atol=0.004, rtol=0)
    assert 0 < response[0] < 0.004


@pytest.mark.parametrize("length", [98, 256, 1458])
def test_the_ramp_is_right_where_one_over_its_length_is_inexact_too(length: int) -> None:
    frequency = torch.fft.rfftfreq(length, dtype=torch.float64)
    # the offset of a ramp sampled in space is 2 / (pi^2 length) at f = 0, and smaller elsewhere
    torch.testing.assert_close(ramp_response(length, spacing=1.0), frequency, atol=0.203 / length, rtol=0)


def test_nothing_passes_beyond_the_cutoff() -> None:
    response = ramp_response(200, spacing=1.0, filter="hann", cutoff=0.4)
    frequency = torch.fft.rfftfreq(200, dtype=torch.float64)
    assert (response[frequency > 0.2 + 1e-9] == 0).all()
    assert (response[(frequency > 0) & (frequency < 0.199)] > 0).all()


def test_filtering_is_linear_convolution_without_wrap_around() -> None:
    views = torch.zeros(1, 1, 20, dtype=torch.float64)
    views[..., 0] = 1
    filtered = filter_views(views, spacing=2.0)[0, 0]
    n = torch.arange(20, dtype=torch.float64)
    expected = torch.where(n % 2 == 1, -1 / (math.pi * n) ** 2, torch.zeros(20, dtype=torch.float64)) / 2
    expected[0] = 1 / 8
    torch.testing.assert_close(filtered, expected)


@pytest.mark.parametrize("views", [1, 2, 7, 180])
def test_equally_spaced_views_share_the_half_circle(views: int) -> None:
    np.testing.assert_allclose(view_weights(tuple(np.arange(views) * np.pi / views)), np.pi / views)


def test_weights_follow_the_order_of_the_views_and_fill_the_half_circle() -> None:
    theta = np.random.default_rng(1).permutation(np.sort(np.random.default_rng(0).uniform(-4, 4, 40)))
    weights = view_weights(tuple(theta))
    assert weights.sum() == pytest.approx(np.pi)
    turned = view_weights(tuple(theta + np.pi))
    np.testing.assert_allclose(weights, turned, atol=1e-12)


def test_the_missing_wedge_of_a_limited_scan_is_not_filled() -> None:
    theta = np.linspace(0, 2, 41)
    np.testing.assert_allclose(view_weights(tuple(theta)), 0.05, rtol=1e-9)


def test_as_good_as_scikit_image() -> None:
    transform = pytest.importorskip("skimage.transform", reason="scikit-image is the oracle here")
    data = pytest.importorskip("skimage.data")
    truth = transform.resize(data.shepp_logan_phantom(), (129, 129), anti_aliasing=True)  # odd: same middle
    degrees = np.arange(120) * 1.5
    sinogram = transform.radon(truth, degrees, circle=True)
    theirs = transform.iradon(sinogram, degrees, circle=True, filter_name="ramp")
    scan = ParallelGeometry((129, 129), 1.0, tuple(np.deg2rad(degrees)), 129, 1.0)
    ours = filtered_backprojection(torch.tensor(sinogram.T.copy())[None], scan)[0].numpy()
    inside = np.hypot(*(np.mgrid[:129, :129] - 64)) < 62
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=0.003)  # their angles are rounded


def test_gradients_flow_to_the_sinogram() -> None:
    scan = geometry((5, 4), angles=3)
    data = torch.rand(1, 3, scan.detectors, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: filtered_backprojection(y, scan), (data,))


def test_one_view_and_one_element() -> None:
    scan = ParallelGeometry((3, 4), 1.0, (0.3,), 1, 6.0)
    image = filtered_backprojection(torch.ones(1, 1, 1), scan)
    assert image.shape == (1, 3, 4)
    assert torch.isfinite(image).all()


def test_a_batch_is_a_loop() -> None:
    scan = geometry((20, 30), angles=17)
    data = torch.rand(3, 17, scan.detectors)
    loop = torch.stack([filtered_backprojection(item[None], scan)[0] for item in data])
    torch.testing.assert_close(filtered_backprojection(data, scan), loop)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"filter": "ramlak"},
            "filter must be one of ram-lak, shepp-logan, cosine, hamming, hann, got 'ramlak'",
        ),
        ({"cutoff": 0.0}, r"cutoff must be a fraction of the Nyquist frequency in \(0, 1\], got 0.0"),
        ({"cutoff": 1.5}, "got 1.5"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    scan = geometry((4, 4), angles=3)
    with pytest.raises(ValueError, match=message):
        weighted_views(torch.zeros(1, 3, scan.detectors), scan, **options)
