"""How the axes of a volume lie in the patient: letters for directions, and flips and swaps of axes."""

from __future__ import annotations

import torch
from torch import Tensor

# Towards smaller and larger patient coordinates along x, y, z.
LETTERS = ("LR", "PA", "IS")


def axis_codes(affine: Tensor) -> str:
    """The letters towards which slices, rows and columns run, such as "SPL".

    L, R: the patient's left and right; P, A: back (posterior) and front (anterior); I, S: feet (inferior) and
    head (superior). An oblique axis gets the letter it is closest to that no closer axis has.

    Args:
        affine: (4, 4), from the index (slice, row, column, 1) to patient coordinates towards R, A, S [mm].
    """
    directions = affine[:3, :3] / affine[:3, :3].norm(dim=0)
    letters = [""] * 3
    free = directions.abs().clone()
    for _ in range(3):
        world, axis = divmod(int(free.argmax()), 3)
        letters[axis] = LETTERS[world][int(directions[world, axis] > 0)]
        free[world, :] = -1
        free[:, axis] = -1
    return "".join(letters)


def turn(affine: Tensor, shape: tuple[int, ...], wanted: str) -> tuple[list[int], list[int], Tensor]:
    """What turns a volume so that its axes run towards `wanted`.

    Args:
        affine: as in `axis_codes`.
        shape: (slices, rows, columns).
        wanted: three letters, one of each pair L/R, P/A, I/S.

    Returns:
        The old axis of each new axis, the new axes to flip, and the new affine.
    """
    pairs = [next((p for p, pair in enumerate(LETTERS) if letter in pair), -1) for letter in wanted]
    if sorted(pairs) != [0, 1, 2]:
        raise ValueError(
            f"an orientation is one letter each of L/R, P/A and I/S, such as 'SPL'; got {wanted!r}"
        )
    current = axis_codes(affine)
    old_axis = [next(a for a in range(3) if current[a] in LETTERS[pair]) for pair in pairs]
    flipped = [new for new, old in enumerate(old_axis) if current[old] != wanted[new]]
    old_index = torch.zeros(4, 4, dtype=affine.dtype)  # of a new index
    old_index[3, 3] = 1
    for new, old in enumerate(old_axis):
        old_index[old, new] = -1 if new in flipped else 1
        old_index[old, 3] = shape[old] - 1 if new in flipped else 0
    return old_axis, flipped, affine @ old_index
