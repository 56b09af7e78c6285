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
