"""The measured 8-coil brain scan: whitened, maps from its own centre, SENSE with total variation.

There is no truth. What can be checked is what the reconstruction says about data that it was not given.
"""

import pytest
import torch
from recon_data import samples
from recon_operators import CartesianMRI
from recon_operators.coil_maps import calibration_images, espirit
from recon_operators.coils import noise_covariance, prewhiten

import recon

CENTRE = 24
NOISE_ALONE = 0.42
"""Beyond this distance from the middle of k-space, of 0.5, hardly any signal is left."""


class Scan:
    """Whitened k-space, 8 % of the measured samples outside the centre held out, and a reconstruction."""

    def __init__(self):
        kspace = samples.kspace_brain_8_coils().data
        height, width = self.shape = kspace.shape[1:]
        measured = (kspace != 0).any(0)
        rows, columns = torch.meshgrid(
            torch.linspace(-0.5, 0.5, height), torch.linspace(-0.5, 0.5, width), indexing="ij"
        )
        self.distance = torch.hypot(rows, columns)
        self.kspace = prewhiten(kspace, noise_covariance(kspace[:, measured & (self.distance > NOISE_ALONE)]))
        centre = torch.zeros(height, width, dtype=torch.bool)
        top, left = height // 2 - CENTRE // 2, width // 2 - CENTRE // 2
        centre[top : top + CENTRE, left : left + CENTRE] = True
        chosen = torch.rand(height, width, generator=torch.Generator().manual_seed(0)) < 0.08
        self.held_out = measured & chosen & ~centre
        self.given = measured & ~self.held_out
        self.maps = espirit(self.kspace * self.given, CENTRE)
        self.operator = CartesianMRI(self.given, self.maps)
        self.solution = self.solve("tv")

    def solve(self, prior, **options):
        white = ("gaussian", {"noise_level": 1.0})
        return recon.solve(self.operator, prior, self.kspace * self.given, fidelity=white, **options)

    def error(self, image, where):
        """Standard deviation of prediction minus data at some samples; 1: the noise alone."""
        predicted = CartesianMRI(torch.ones(self.shape), self.maps)(image)
        return float((predicted - self.kspace)[:, where].abs().square().mean().div(2).sqrt())


@pytest.fixture(scope="module")
def scan():
    return Scan()


def test_samples_that_were_held_out_are_predicted_almost_to_the_noise(scan):
    zero_filled = scan.operator.pinv(scan.kspace * scan.given)
    ridge = scan.solve("tikhonov").image
    # 1 would be a perfect image: the held-out samples carry noise of their own
    assert scan.error(scan.solution.image, scan.held_out) < 1.2
    assert scan.error(ridge, scan.held_out) > 1.3
    assert scan.error(zero_filled, scan.held_out) > 2.5


def test_the_automatic_weight_predicts_better_than_a_fifth_and_five_times_of_it(scan):
    chosen = scan.error(scan.solution.image, scan.held_out)
    for factor in (1 / 5, 5):
        other = scan.solve("tv", weight=factor * scan.solution.weight, stop=recon.MaxIterations(60))
        assert scan.error(other.image, scan.held_out) > chosen


def test_what_is_left_of_the_given_samples_looks_like_noise(scan):
    assert scan.solution.converged
    for nearest, farthest in ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.6)):
        ring = scan.given & (scan.distance >= nearest) & (scan.distance < farthest)
        assert 0.75 < scan.error(scan.solution.image, ring) < 1.1  # the image has fitted some of the noise
    predicted = scan.operator(scan.solution.image)
    left = noise_covariance((predicted - scan.kspace)[:, scan.given])
    spread = torch.diagonal(left).real.sqrt()
    correlation = (left / torch.outer(spread, spread)).abs() - torch.eye(8)
    assert float(correlation.max()) < 0.3  # no pattern that the coils share


def test_the_background_holds_no_ghosts(scan):
    low = torch.linalg.vector_norm(calibration_images(scan.kspace, CENTRE), dim=0)
    background = low < 0.1 * low.max()
    assert float(background.float().mean()) > 0.25
    coil_images = CartesianMRI(torch.ones(scan.shape)).pinv(scan.kspace * scan.given)
    root_sum_of_squares = torch.linalg.vector_norm(coil_images, dim=0)
    wide = CartesianMRI(scan.given, espirit(scan.kspace, CENTRE, crop=0))  # maps that do not end at the head
    data, white = scan.kspace * scan.given, ("gaussian", {"noise_level": 1.0})
    image = recon.solve(wide, "tv", data, fidelity=white, weight=scan.solution.weight).image
    shares = [
        float((found.abs() * background).square().sum() / found.abs().square().sum())
        for found in (image, root_sum_of_squares)
    ]
    assert shares[0] < 0.02 * shares[1]
