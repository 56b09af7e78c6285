"""Operators of some of the samples: M A, with the operator's own shortcuts and direct reconstruction."""

from __future__ import annotations

import pytest
import torch

import recon
from recon.testing import check_operator

SIDE = 8


def drawn(seed: int = 0, shape: tuple[int, ...] = (SIDE, SIDE)) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).float()


def maps() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.complex(*torch.randn(2, 3, SIDE, SIDE, generator=generator))


OPERATORS = {
    "one coil": lambda: recon.operator("mri_cartesian", mask=drawn(1)),
    "three coils": lambda: recon.operator("mri_cartesian", mask=drawn(1), coil_maps=maps()),
    "holes": lambda: recon.operator("mask", mask=drawn(1)),
    "blur": lambda: recon.operator("blur", shape=(SIDE, SIDE), kernel=("gaussian", 1.0)),
    "views": lambda: recon.operator("ct_parallel", shape=(SIDE, SIDE), angles=6),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_the_operator_with_a_mask_behind_it(name):
    op = OPERATORS[name]()
    mask = drawn(2, op.range_shape[-2:])
    some = op.restricted(mask)
    kind = torch.complex64 if op.domain == "complex" else torch.float32
    x = torch.randn(2, *op.domain_shape, generator=torch.Generator().manual_seed(3), dtype=kind)
    y = torch.randn(2, *op.range_shape, generator=torch.Generator().manual_seed(4), dtype=kind)
    torch.testing.assert_close(some(x), mask * op(x))
    torch.testing.assert_close(some.adjoint(y), op.adjoint(mask * y))
    torch.testing.assert_close(some.gram(x), op.adjoint(mask * op(x)))
    own = op.sample_mask
    assert some.sample_mask is not None
    torch.testing.assert_close(some.sample_mask, mask if own is None else mask * own)
    assert some.norm() <= op.norm() * (1 + 1e-6)
    check_operator(some)


def test_holes_are_filled_from_what_stays():
    op, mask = OPERATORS["holes"](), drawn(2)
    y = torch.full((SIDE, SIDE), 3.0)
    torch.testing.assert_close(op.restricted(mask).pinv(mask * op.mask * y), y)  # a constant goes on


def test_one_coil_keeps_its_closed_form():
    op = OPERATORS["one coil"]().restricted(drawn(2))
    b = torch.randn(1, SIDE, SIDE, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    assert op.solve_gram(b, [0.1], [recon.Identity((SIDE, SIDE))]) is not None


@pytest.mark.parametrize(
    ("kind", "every"), [("ct_parallel", 2), ("ct_parallel", 3), ("ct_fan", 2), ("ct_cone", 2)]
)
def test_whole_views_that_stay_are_reconstructed_as_a_scan_of_their_own(kind, every):
    """A disc of ones has a mean of one whichever part of the views stays; zeros for the others halve it."""
    side = 32
    axis = torch.linspace(-1, 1, side)
    disc = (axis[:, None] ** 2 + axis**2 < 0.6).float()
    shape, more = (side, side), {}
    if kind != "ct_parallel":
        more = {"source_origin": 500.0, "origin_detector": 500.0}
    if kind == "ct_cone":
        shape, disc = (8, side, side), disc.expand(8, side, side).contiguous()
    op = recon.operator(kind, shape=shape, angles=60, **more)
    views = op.subsets(60)[0].rows.index(slice(0, None, 60))
    for drop in (lambda place: place % every == 0, lambda place: place % every > 0):
        line = drop(torch.arange(60)).float()
        mask = line.reshape([60 if here == views else 1 for here in range(len(op.range_shape))])
        image = op.restricted(mask).pinv(mask * op(disc))
        inside = disc.bool() if disc.ndim == 2 else disc.bool() & (torch.arange(8)[:, None, None] == 4)
        whole = op.pinv(op(disc))[inside].mean()
        assert float(image[inside].mean()) == pytest.approx(float(whole), rel=0.02)  # streaks of fewer views


def test_other_masks_of_views_reconstruct_data_with_zeros():
    op = OPERATORS["views"]()
    y = torch.ones(op.range_shape)
    for line in ([1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 0]):
        mask = torch.tensor(line).float()[:, None]
        torch.testing.assert_close(op.restricted(mask).pinv(y), op.pinv(mask * y))
    mask = (
        torch.arange(op.range_shape[1]) % 2
    ).float()  # of detector elements: they are no scan of their own
    torch.testing.assert_close(op.restricted(mask).pinv(y), op.pinv(mask * y))


def test_a_noise_level_that_cannot_be_estimated_names_the_operator():
    op = recon.Identity((4, 2)).restricted(torch.ones(4, 2))
    with pytest.raises(ValueError, match="noise level of masked Identity data"):
        op.noise_level(torch.ones(1, 4, 2))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.full((SIDE, SIDE), 0.5), "1 where they stay and 0 elsewhere"),
        (torch.ones(3, 3), "does not fit the data"),
        (1 - drawn(1), "leaves no sample"),
    ],
)
@pytest.mark.parametrize("name", ["one coil", "three coils", "holes"])
def test_wrong_masks_are_refused(name, mask, message):
    with pytest.raises(ValueError, match=message):
        OPERATORS[name]().restricted(mask)
