"""From counts to line integrals: inverts what a detector does; the axis of a real scan; hardening and rings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recon_data.samples import sample
from recon_operators.measured_ct import (
    correct_beam_hardening,
    detector_offset,
    fit_beam_hardening,
    from_counts,
    remove_rings,
    rotation_centre,
)

import recon

RANDOM = np.random.default_rng(0)


def phantom(size=96):
    """Discs off the middle, attenuation in 1/mm."""
    rows, columns = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    image = torch.zeros(size, size)
    for row, column, radius, value in ((-15, 8, 22, 0.02), (8, -18, 9, 0.03), (15, 23, 3, 0.05)):
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = value
    return image


# Counts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_line_integrals_invert_a_detector(dtype):
    truth = torch.from_numpy(RANDOM.uniform(0, 4, (7, 3, 20))).to(dtype)
    flat = torch.from_numpy(RANDOM.uniform(2e4, 3e4, (3, 20))).to(dtype)
    dark = torch.from_numpy(RANDOM.uniform(50, 150, (3, 20))).to(dtype)
    counts = dark + (flat - dark) * (-truth).exp()
    several_flats = flat + torch.tensor([-100.0, 0, 100]).to(dtype)[:, None, None]
    several_darks = dark + torch.tensor([-10.0, 10]).to(dtype)[:, None, None]
    for made in (from_counts(counts, flat, dark), from_counts(counts, several_flats, several_darks)):
        # the counts are rounded to 24 bits: at exp(-4) that is 1e-5 of the line integral
        atol = 5e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(made.values, truth, rtol=0, atol=atol)
        assert not made.clipped.any()


def test_readings_at_or_below_dark_are_clipped_and_reported():
    counts = torch.tensor([[100, 60, 50, 20]])
    values, clipped = from_counts(counts, torch.full((4,), 1050.0), torch.full((4,), 50.0), least=10.0)
    assert clipped.tolist() == [[False, False, True, True]]
    expected = [math.log(1000 / n) for n in (50, 10, 10, 10)]
    torch.testing.assert_close(values[0], torch.tensor(expected))
    assert values.isfinite().all()


@pytest.mark.parametrize(
    ("counts", "flat", "dark", "message"),
    [
        (torch.ones(5), torch.ones(5), None, r"counts are \(views, ..., detectors\)"),
        (
            torch.ones(5, 4),
            torch.ones(3),
            None,
            r"flat of shape \(3,\) does not fit counts \(5, 4\): expected \(4,\)",
        ),
        (torch.ones(5, 4), torch.ones(4), torch.ones(4), r"not above dark in 4 of 4 .* first at \(0,\)"),
        (torch.full((5, 4), math.nan), torch.ones(4), None, "20 counts are NaN or infinite"),
    ],
)
def test_counts_that_make_no_line_integrals_say_why(counts, flat, dark, message):
    with pytest.raises(ValueError, match=message):
        from_counts(counts, flat, dark)


# The rotation axis


@pytest.mark.parametrize("offset", [0.0, 3.3, -7.62])
def test_the_axis_of_a_simulated_scan_is_found_to_a_fraction_of_an_element(offset):
    op = recon.operator("ct_parallel", shape=(96, 96), angles=121, detectors=160, detector_offset=offset)
    sinogram = op(phantom())
    truth = 79.5 - offset
    assert rotation_centre(sinogram) == pytest.approx(truth, abs=0.1)
    noisy = sinogram + 0.02 * torch.from_numpy(RANDOM.normal(size=sinogram.shape)).float()
    assert rotation_centre(noisy) == pytest.approx(truth, abs=0.3)
    assert detector_offset(truth, 160, 1.0) == pytest.approx(offset)


@pytest.fixture(scope="module")
def tooth():
    """Line integrals `(rows, views, detectors)` of the measured tooth."""
    part = {
        name: recon.load(sample("tooth"), dataset=f"exchange/{name}").data
        for name in ("data", "data_white", "data_dark")
    }
    made = from_counts(part["data"], part["data_white"], part["data_dark"])
    assert not made.clipped.any()
    return made.values.movedim(1, 0)


@pytest.mark.parametrize("row", [0, 1])
def test_the_axis_of_the_tooth_is_found(tooth, row):
    # 295.5 is what the data come with
    assert rotation_centre(tooth[row], within=(280, 310)) == pytest.approx(295.5, abs=0.5)


def test_the_tooth_is_sharp_about_the_axis_that_was_found(tooth):
    found = rotation_centre(tooth[0], within=(280, 310))
    pairs = tooth[0].reshape(181, 320, 2).mean(-1)  # half the detector, for time

    def image(centre):
        offset = detector_offset((centre + 0.5) / 2 - 0.5, 320, 1.0)
        op = recon.operator(
            "ct_parallel", shape=(200, 200), angles=181, detectors=320, detector_offset=offset
        )
        return op.pinv(pairs)

    def smeared(values):
        """What a wrong axis smears below zero, where no attenuation is (Donath et al. 2006)."""
        return float(values.clamp_max(0).abs().sum())

    reference, ours = image(295.5), image(found)
    # a fifth of a (binned) element apart, at the resolution limit
    assert (ours - reference).norm() < 0.15 * reference.norm()
    assert smeared(ours) <= smeared(reference)
    assert smeared(ours) < 0.93 * min(smeared(image(found + shift)) for shift in (-2, 2))


@pytest.mark.parametrize(
    ("sinogram", "within", "message"),
    [
        (torch.ones(3, 100), None, r"a finite sinogram \(views, detectors\), got shape \(3, 100\)"),
        (torch.ones(20, 100), (50, 120), "two detector elements between 0 and 99"),
        (torch.ones(20, 100), (50, 40), "two detector elements between 0 and 99"),
    ],
)
def test_an_axis_that_cannot_be_found_says_why(sinogram, within, message):
    with pytest.raises(ValueError, match=message):
        rotation_centre(sinogram, within=within)


# Beam hardening


def hardened(length):
    """Measured with two energies, of equal share, at which water attenuates 0.03 and 0.018 per mm."""
    return -torch.log(0.5 * torch.exp(-0.03 * length) + 0.5 * torch.exp(-0.018 * length))


def test_a_calibration_straightens_a_hardened_beam():
    steps = torch.linspace(5, 200, 12, dtype=torch.float64)
    coefficients = fit_beam_hardening(hardened(steps), 0.02 * steps)
    between = torch.linspace(0, 200, 57, dtype=torch.float64)
    truth = 0.02 * between
    before = (hardened(between) * 0.02 / 0.024 - truth).abs().max()
    after = (correct_beam_hardening(hardened(between), coefficients) - truth).abs().max()
    assert after < 0.02 * before
    # a cupped disc becomes flat: the middle of its image is as high as its edge
    op = recon.operator("ct_parallel", shape=(96, 96), angles=120)
    rows, columns = torch.meshgrid(*[torch.arange(96.0) - 47.5] * 2, indexing="ij")
    disc = (rows**2 + columns**2 < 40**2).float()
    lengths = 2.5 * op(disc)  # a disc of 200 mm
    raw = op.pinv(hardened(lengths)) / 2.5
    flat = op.pinv(correct_beam_hardening(hardened(lengths), coefficients.float())) / 2.5
    radius = (rows**2 + columns**2).sqrt()
    middle, rim = radius < 8, (radius > 30) & (radius < 35)
    assert raw[middle].mean() < 0.97 * raw[rim].mean()
    assert flat[middle].mean() == pytest.approx(flat[rim].mean().item(), rel=3e-3)
    assert flat[middle].mean() == pytest.approx(0.02, rel=5e-3)


def test_polynomials_that_fall_are_refused():
    with pytest.raises(ValueError, match=r"falls between 0 and 5: two lengths would look alike"):
        correct_beam_hardening(torch.tensor([0.0, 5.0]), (1.0, -0.2))
    with pytest.raises(ValueError, match="coefficients are a_1, a_2"):
        correct_beam_hardening(torch.tensor([0.0]), [])
    with pytest.raises(ValueError, match=r"at least degree=3 >= 1 pairs"):
        fit_beam_hardening(torch.ones(2), torch.ones(2))
    assert correct_beam_hardening(torch.tensor([2.0]), (1.0, 0.5, 0.25)).item() == 2 + 0.5 * 4 + 0.25 * 8


# Rings


def test_stripes_of_bad_elements_are_reduced():
    pytest.importorskip("algotom", reason="the extra 'rings' is not installed")
    op = recon.operator("ct_parallel", shape=(96, 96), angles=180, detectors=160)
    clean = op(phantom()) + 0.005 * torch.from_numpy(RANDOM.normal(size=(180, 160))).float()
    gains = torch.zeros(160)
    gains[torch.arange(20, 150, 13)] = 0.1  # elements that read 10 % too much
    striped = clean + gains
    cleaned = remove_rings(striped)
    assert cleaned.dtype == striped.dtype
    assert (cleaned - clean).norm() < 0.6 * (striped - clean).norm()
    reference = op.pinv(clean)
    assert (op.pinv(cleaned) - reference).norm() < 0.6 * (op.pinv(striped) - reference).norm()
    batch = remove_rings(torch.stack([striped, clean]))
    torch.testing.assert_close(batch[0], cleaned)
