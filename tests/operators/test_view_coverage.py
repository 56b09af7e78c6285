"""What views stand for, and the weights of rays that are measured from both sides, against their papers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators.scan_geometry import FanGeometry
from recon_operators.view_coverage import (
    Coverage,
    measured_lines,
    ray_weights,
    redundancy_weights,
    view_weights,
)

DEGREE = math.pi / 180
# the scan of the Helsinki Tomography Challenge sample: gaps of 19, 15 and 53 degrees
WITH_GAPS = np.concatenate(
    [np.arange(27, 165.1, 0.5), np.arange(184, 254.1, 0.5), np.arange(269, 334.1, 0.5)]
)


def fan(angles: np.ndarray, offset: float = 0.0, detectors: int = 201) -> FanGeometry:
    """A fan of 2 * 14 degrees around the central ray."""
    return FanGeometry(
        (64, 64),
        1.0,
        tuple(angles),
        detectors,
        1.0,
        offset,
        source_origin=250.0,
        origin_detector=150.0,
    )


def middles(degrees: float, views: int = 400) -> np.ndarray:
    """Middles of equal parts of an arc that starts at 0."""
    return (np.arange(views) + 0.5) / views * degrees * DEGREE


@pytest.mark.parametrize(
    ("angles", "offset"),
    [
        (middles(360), 0.0),
        (middles(209), 0.0),
        (middles(240), 0.0),
        (middles(300), 0.0),
        (WITH_GAPS * DEGREE, 0.0),
        (middles(360), 0.3),
        (middles(360), 40.0),
        (middles(300), 25.0),
    ],
    ids=["full", "short", "longer", "over", "gaps", "quarter offset", "half fan", "over and offset"],
)
def test_the_weights_of_conjugate_rays_add_up_to_one(angles: np.ndarray, offset: float) -> None:
    scan = fan(angles, offset)
    rng = np.random.default_rng(0)
    theta, gamma = rng.uniform(0, 2 * math.pi, 4000), rng.uniform(-0.3, 0.3, 4000)
    first, last = scan.fan_limits

    def measured(view: np.ndarray, ray: np.ndarray) -> np.ndarray:
        """By the arcs that the scan consists of."""
        half = float(np.rad2deg(np.diff(angles).min())) / 2
        spaces = np.abs((np.rad2deg(view)[:, None] - np.rad2deg(angles) + 180) % 360 - 180).min(1)
        return (spaces <= half) & (ray > first) & (ray < last)

    other_theta, other_gamma = theta + math.pi - 2 * gamma, -gamma
    # the same line, seen from the other side
    np.testing.assert_allclose(np.cos(other_theta - other_gamma), -np.cos(theta - gamma), atol=1e-12)
    one, other = measured(theta, gamma), measured(other_theta, other_gamma)
    weights = ray_weights(scan, theta[one], gamma[one])
    assert (np.abs(weights[~other[one]] - 1) < 1e-12).all()
    both = one & other
    total = ray_weights(scan, theta[both], gamma[both])
    total = total + ray_weights(scan, other_theta[both], other_gamma[both])
    np.testing.assert_allclose(total, 1, atol=1e-12)
    assert both.sum() > 100


@pytest.mark.parametrize("surplus", [0.0, 1.0, 5.0])
def test_a_short_scan_has_parkers_weights(surplus: float) -> None:
    edge = math.atan(100.5 / 400)
    delta = edge + surplus * DEGREE  # Silver's virtual fan, where the scan is a little longer
    span = math.pi + 2 * delta
    scan = fan(middles(span / DEGREE))
    beta, gamma = np.asarray(scan.angles)[:, None], -scan.fan_angles  # Parker counts the fan the other way
    expected = np.ones((scan.views, scan.detectors))
    rising = beta <= 2 * (delta - gamma)
    falling = beta >= math.pi - 2 * gamma
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(rising, np.sin(math.pi / 4 * beta / (delta - gamma)) ** 2, expected)
        expected = np.where(falling, np.sin(math.pi / 4 * (span - beta) / (delta + gamma)) ** 2, expected)
    inside = np.broadcast_to(
        2 * (delta - gamma) < 4 * edge, expected.shape
    )  # up to where the distance is counted
    inside = inside & np.broadcast_to(2 * (delta + gamma) < 4 * edge, expected.shape)
    assert inside.mean() > 0.6
    np.testing.assert_allclose(redundancy_weights(scan)[inside], expected[inside], atol=1e-9)


def test_a_full_turn_weighs_everything_half() -> None:
    np.testing.assert_allclose(redundancy_weights(fan(middles(360))), 0.5)


def test_a_shifted_detector_has_wangs_weights() -> None:
    scan = fan(middles(360), offset=40.0, detectors=161)  # from -40.5 to 120.5 mm
    gamma, shorter = scan.fan_angles, math.atan(40.5 / 400)
    expected = np.where(np.abs(gamma) < shorter, 0.5 + 0.5 * np.sin(math.pi / 2 * gamma / shorter), 1.0)
    np.testing.assert_allclose(redundancy_weights(scan), np.broadcast_to(expected, (400, 161)), atol=1e-9)


def test_weights_change_slowly_along_the_detector() -> None:
    for scan in (fan(middles(209)), fan(WITH_GAPS * DEGREE), fan(middles(360), 40.0)):
        steps = np.abs(np.diff(redundancy_weights(scan), axis=1))
        # sin^2 over the smallest blend that a view has: steep in single views only, where it is narrow
        assert np.quantile(steps, 0.99) < 0.1


def test_gaps_are_found_and_their_rims_stand_for_no_more_than_the_others() -> None:
    coverage = Coverage.of(tuple(np.random.default_rng(0).permutation(WITH_GAPS) * DEGREE), 2 * math.pi)
    np.testing.assert_allclose(coverage.shares, 0.5 * DEGREE)
    np.testing.assert_allclose(coverage.gaps, np.array([52.5, 18.5, 14.5]) * DEGREE)
    places = np.array([26.0, 27.0, 30.0, 164.0, 175.0, 219.0, 340.0, 387.0]) * DEGREE
    expected = np.array([0.0, 0.25, 3.25, 1.25, 0.0, 35.25, 0.0, 0.25]) * DEGREE
    np.testing.assert_allclose(coverage.depth(places), expected, atol=1e-12)


def test_a_run_of_views_across_zero_is_one_run() -> None:
    theta = np.arange(-100, 101) * DEGREE
    coverage = Coverage.of(tuple(theta), 2 * math.pi)
    np.testing.assert_allclose(coverage.starts, [259.5 * DEGREE])
    np.testing.assert_allclose(coverage.lengths, [201 * DEGREE])
    np.testing.assert_allclose(
        coverage.depth(np.array([0.0, -1.0, 1.0])), np.array([100.5 * DEGREE] * 3) - [0, 1, 1]
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-7, 7), min_size=1, max_size=40), st.floats(-7, 7))
def test_shares_are_positive_and_turn_with_the_scan(angles: list[float], turn: float) -> None:
    shares = view_weights(tuple(angles), 2 * math.pi)
    assert (shares >= 0).all()
    assert shares.sum() <= 2 * math.pi * (1 + 1e-9)


@pytest.mark.parametrize("views", [1, 2, 3, 90])
def test_equal_views_share_the_full_turn(views: int) -> None:
    angles = tuple(np.arange(views) * 2 * math.pi / views + 0.2)
    np.testing.assert_allclose(view_weights(angles, 2 * math.pi), 2 * math.pi / views)
    assert Coverage.of(angles, 2 * math.pi).gaps.size == 0


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(360, 1.0), (209, 1.0), (180, 1 - math.asin(55 / 250) / math.pi / 2), (90, 0.5)],
)
def test_the_share_of_the_lines_that_are_measured(degrees: float, expected: float) -> None:
    # a fan over less than half a turn sees a line once or never: its share of the directions
    assert measured_lines(fan(middles(degrees)), 55.0) == pytest.approx(expected, abs=2e-3)
