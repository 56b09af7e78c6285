"""Sampling masks (H, W) for Cartesian MRI, 1 where measured; the zero frequency is at (H // 2, W // 2).

A mask may be named where an operator takes one: ``"random_1d"``, ``"radial:acceleration=5,seed=1"`` or
``("poisson_disc", {"acceleration": 8})``; `make_mask` reads these. A text may multiply masks:
``"random_1d:acceleration=2 * partial_fourier"``. The same seed gives the same mask.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from recon.parameters import Param, SpecText, bind_arguments, parse_spec, read_parameters
from recon.suggestions import did_you_mean

Seed = int | torch.Generator
Acceleration = Annotated[float, Param("samples of the whole k-space over measured samples", ge=1)]
Centre = Annotated[float, Param("sides of the fully sampled centre over those of k-space", ge=0, le=1)]
Density = Annotated[Literal["uniform", "gaussian"], Param("of the samples outside the centre")]

_GAUSSIAN_WIDTH = 1 / 6
"""Standard deviation of the Gaussian density, as a fraction of the sides of k-space."""
_SEARCH_STEPS, _FEW_TOO_MANY = 20, 1.01
"""Halvings of the interval of the spacing of a Poisson-disc mask, and the count that ends the search."""


def random_1d(
    shape: Sequence[int],
    acceleration: Acceleration = 4.0,
    centre_fraction: Centre = 0.08,
    *,
    density: Density = "uniform",
    seed: Seed = 0,
) -> Tensor:
    """Whole columns: a full band in the middle and random columns outside it.

    Exactly ``round(W / acceleration)`` columns are measured, ``round(W * centre_fraction)`` of them in the
    band around the zero frequency.

    Args:
        shape: (H, W) of the k-space.
        acceleration: full columns over measured columns, the band included.
        centre_fraction: width of the band over W.
        density: of the other columns: ``"uniform"`` as in fastMRI (Zbontar et al. 2018), or ``"gaussian"``,
            denser towards the centre.
        seed: number or generator; the same number gives the same mask.

    Raises:
        ValueError: fewer columns to measure than the band has, or an argument out of range.
    """
    height, width = _sides(shape)
    columns, wanted = _centre_and_rest((width,), acceleration, centre_fraction, "columns")
    weights = _weights((width,), density).masked_fill(columns > 0, 0)
    if wanted:
        columns[torch.multinomial(weights, wanted, generator=_generator(seed))] = 1
    return columns.expand(height, width).clone()


def equispaced(
    shape: Sequence[int],
    acceleration: Acceleration = 4.0,
    centre_fraction: Centre = 0.08,
    *,
    seed: Seed = 0,
) -> Tensor:
    """Whole columns: a full band in the middle, and outside it columns as evenly spaced as whole numbers allow.

    Exactly ``round(W / acceleration)`` columns are measured, as in `random_1d`; the spacing outside the band is
    stretched for it. The seed chooses the offset. Arguments as in `random_1d`.
    """
    height, width = _sides(shape)
    columns, wanted = _centre_and_rest((width,), acceleration, centre_fraction, "columns")
    outside = torch.nonzero(columns == 0).squeeze(1)
    offset = torch.rand((), generator=_generator(seed), dtype=torch.float64)
    places = (torch.arange(wanted, dtype=torch.float64) + offset) * (len(outside) / max(wanted, 1))
    columns[outside[places.long().clamp_max(len(outside) - 1)]] = 1
    return columns.expand(height, width).clone()


def random_2d(
    shape: Sequence[int],
    acceleration: Acceleration = 4.0,
    centre_fraction: Centre = 0.08,
    *,
    density: Density = "gaussian",
    seed: Seed = 0,
) -> Tensor:
    """Random points and a full rectangle in the middle: two phase-encoding directions.

    Exactly ``round(H W / acceleration)`` points are measured; the rectangle has the sides
    ``round(H * centre_fraction)`` and ``round(W * centre_fraction)``.

    Args:
        shape: (H, W) of the k-space.
        acceleration: all points over measured points, the rectangle included.
        centre_fraction: sides of the rectangle over those of k-space.
        density: of the other points, ``"uniform"`` or ``"gaussian"``.
        seed: number or generator.

    Raises:
        ValueError: fewer points to measure than the rectangle has, or an argument out of range.
    """
    mask, wanted = _centre_and_rest(_sides(shape), acceleration, centre_fraction, "points")
    flat = mask.flatten()
    weights = _weights(shape, density).flatten().masked_fill(flat > 0, 0)
    # multinomial takes at most 2^24 classes: Gumbel's trick draws the same without replacement
    noise = torch.rand(weights.shape, generator=_generator(seed), dtype=torch.float64)
    flat[(weights.log() - (-noise.log()).log()).topk(wanted).indices] = 1
    return flat.reshape(mask.shape)


def radial(
    shape: Sequence[int],
    acceleration: Acceleration = 4.0,
    centre_fraction: Centre = 0.0,
    *,
    seed: Seed = 0,
) -> Tensor:
    """Straight lines through the middle at equal angles, on the Cartesian grid (pseudo-radial).

    A line takes one point in every row or column, whichever it crosses more of. There are only whole lines, at
    most ``max(H, W)`` points each: of all numbers of lines the one whose mask is nearest to
    ``H W / acceleration`` points is taken. The seed turns all lines together.

    Args:
        shape: (H, W) of the k-space.
        acceleration: all points over measured points.
        centre_fraction: sides of a fully sampled rectangle in the middle over those of k-space.
        seed: number or generator.

    Raises:
        ValueError: the rectangle alone has more points than are to be measured; an argument out of range.
    """
    mask, wanted = _centre_and_rest(_sides(shape), acceleration, centre_fraction, "points")
    total = int(mask.sum()) + wanted
    turn = float(torch.rand((), generator=_generator(seed), dtype=torch.float64))
    least = 0 if bool(mask.any()) else 1
    low, high = 0, 2 * sum(shape)
    while high - low > 1:  # more lines measure more points, but for a few
        lines = (low + high) // 2
        low, high = (lines, high) if int(_with_lines(mask, lines, turn).sum()) <= total else (low, lines)
    masks = [_with_lines(mask, lines, turn) for lines in range(max(low - 2, least), low + 4)]
    return min(masks, key=lambda drawn: abs(int(drawn.sum()) - total))


def poisson_disc(
    shape: Sequence[int],
    acceleration: Acceleration = 4.0,
    centre_fraction: Centre = 0.08,
    *,
    growth: Annotated[float, Param("how much the spacing grows from the centre to the edge", ge=0)] = 1.0,
    seed: Seed = 0,
) -> Tensor:
    """Random points that keep a distance from each other, and a full rectangle in the middle.

    Outside the rectangle any two points p, q are at least max(s(p), s(q)) apart [samples], with the spacing
    s = s0 (1 + growth d) at the distance d from the middle, 1 at the middle of an edge. Points are tried in
    random order (dart throwing; Bridson 2007 gives the same property); the largest s0 that leaves enough of
    them is found by bisection and the few too many are dropped, so that exactly ``round(H W / acceleration)``
    points are measured.

    Args:
        shape: (H, W) of the k-space.
        acceleration: all points over measured points, the rectangle included.
        centre_fraction: sides of the rectangle over those of k-space.
        growth: 0 for a uniform density; 1 doubles the spacing towards the middle of an edge.
        seed: number or generator.

    Raises:
        ValueError: fewer points to measure than the rectangle has, or an argument out of range.
    """
    if not 0 <= growth < math.inf:
        raise ValueError(f"growth must be a number >= 0, got {growth}")
    mask, wanted = _centre_and_rest(_sides(shape), acceleration, centre_fraction, "points")
    if not wanted:
        return mask
    generator = _generator(seed)
    order = torch.randperm(mask.numel(), generator=generator)
    order = order[mask.flatten()[order] == 0]
    relative = 1 + growth * _distance(shape)
    accepted = order  # a spacing of 1 everywhere excludes nothing
    low, high = 1 / float(relative.max()), 2 * math.sqrt(mask.numel() / wanted) + 1
    for _ in range(_SEARCH_STEPS):
        spacing = (low + high) / 2
        found = _throw_darts(order, spacing * relative)
        if len(found) >= wanted:
            low, accepted = spacing, found
        else:
            high = spacing
        if wanted <= len(found) <= _FEW_TOO_MANY * wanted:
            break
    flat = mask.flatten()
    flat[accepted[torch.randperm(len(accepted), generator=generator)[:wanted]]] = 1
    return flat.reshape(mask.shape)


def partial_fourier(
    shape: Sequence[int],
    fraction: Annotated[float, Param("measured lines over all lines", gt=0.5, le=1)] = 0.625,
    axis: Annotated[int, Param("axis that is measured in part")] = -1,
) -> Tensor:
    """A little more than one half of k-space along one axis; conjugate symmetry tells the rest (`homodyne`).

    The first ``round(N * fraction)`` lines along the axis, which has N, are measured; ``mask.flip(axis)`` is
    the mask of the last ones. Multiplied with another mask it is that mask's measured half.

    Args:
        shape: (H, W) or (D, H, W) of the k-space.
        fraction: of the lines that are measured, above one half.
        axis: along which k-space is measured in part.

    Raises:
        ValueError: so few lines that the zero frequency is not measured, or an argument out of range.
    """
    sides = tuple(shape)
    if len(sides) not in (2, 3) or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"shape must be (H, W) or (D, H, W) of the k-space, whole numbers > 0; got {sides}")
    if not -len(sides) <= axis < len(sides):
        raise ValueError(f"axis must be one of the {len(sides)} of shape {sides}, got {axis}")
    if not 0.5 < fraction <= 1:
        raise ValueError(f"fraction must lie between 0.5 and 1, got {fraction}: half of k-space is needed")
    lines = round(sides[axis] * fraction)
    if lines <= sides[axis] // 2:
        raise ValueError(
            f"fraction {fraction} of {sides[axis]} lines are {lines}, which leave out the zero frequency: "
            "raise it"
        )
    mask = torch.zeros(sides)
    mask.narrow(axis, 0, lines).fill_(1)
    return mask


MASKS: dict[str, Callable[..., Tensor]] = {
    made.__name__: made for made in (random_1d, equispaced, random_2d, radial, poisson_disc, partial_fourier)
}
"""Every kind of mask by its name."""


def make_mask(spec: Any, shape: Sequence[int]) -> Tensor:
    """The mask that a text ``"name:argument=value"`` or a pair ``("name", {arguments})`` describes.

    A text of several with ``*`` between them is the product: measured is what all of them measure.

    Raises:
        ValueError: no kind of mask of that name; an argument out of range; a product that measures nothing.
        TypeError: an argument that it does not take.
    """
    if isinstance(spec, str | Path) and "*" in str(spec):
        mask = torch.stack([make_mask(factor, shape) for factor in str(spec).split("*")]).prod(0)
        if not bool(mask.any()):
            raise ValueError(f"the masks {str(spec)!r} have no sample in common: nothing is measured")
        return mask
    if isinstance(spec, str | Path):
        name, texts = parse_spec(str(spec))
        arguments: dict[str, Any] = {key: SpecText(value) for key, value in texts.items()}
    elif is_named(spec) and len(spec) == 2 and isinstance(spec[1], dict):
        name, arguments = spec
    else:
        raise ValueError(f'a mask by name is "name:argument=value" or ("name", {{arguments}}), got {spec!r}')
    if name not in MASKS:
        raise ValueError(unknown_mask(name))
    parameters = [parameter for parameter in read_parameters(MASKS[name]) if parameter.name != "shape"]
    return MASKS[name](shape, **bind_arguments(f"mask {name}", parameters, arguments))


def is_named(mask: Any) -> bool:
    """Whether a mask is given by the name of a generator; a text of another name is the path of a file."""
    if isinstance(mask, str | Path):  # a path: what a text of a terminal has become where both may be meant
        return re.split(r"[:*]", str(mask), maxsplit=1)[0].strip() in MASKS
    return isinstance(mask, tuple | list) and len(mask) > 0 and isinstance(mask[0], str)


def unknown_mask(name: str) -> str:
    """What to tell a user who asked for a mask that does not exist."""
    return f"no mask {name!r}{did_you_mean(name, MASKS)} Masks by name: {', '.join(MASKS)}"


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    sides = tuple(shape)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"shape must be (H, W) of the k-space, two whole numbers > 0; got {sides}")
    return sides


def _generator(seed: Seed) -> torch.Generator:
    if not isinstance(seed, int | torch.Generator):
        raise TypeError(f"seed must be a whole number or a torch.Generator, got {seed!r}")
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def _centre_and_rest(
    shape: Sequence[int], acceleration: float, centre_fraction: float, what: str
) -> tuple[Tensor, int]:
    """A mask of the fully sampled centre alone, and how many more samples there are to measure."""
    total = math.prod(shape)
    if not 1 <= acceleration <= total:
        raise ValueError(f"acceleration must lie between 1 and the {total} {what}, got {acceleration}")
    if not 0 <= centre_fraction <= 1:
        raise ValueError(f"centre_fraction must lie between 0 and 1, got {centre_fraction}")
    mask = torch.zeros(tuple(shape))
    sides = [round(side * centre_fraction) for side in shape]
    starts = [total // 2 - side // 2 for total, side in zip(shape, sides, strict=True)]
    mask[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))] = 1
    measured, centre = round(total / acceleration), math.prod(sides)
    if centre > measured:
        raise ValueError(
            f"the fully sampled centre has {centre} {what}, but acceleration {acceleration} leaves "
            f"{measured} of {total}: lower the acceleration or centre_fraction"
        )
    return mask, measured - centre


def _weights(shape: Sequence[int], density: str) -> Tensor:
    """Relative probabilities of the samples."""
    if density not in ("uniform", "gaussian"):
        raise ValueError(f"density must be 'uniform' or 'gaussian', got {density!r}")
    if density == "uniform":
        return torch.ones(tuple(shape))
    # far samples stay possible, so that any acceleration can be reached
    return torch.exp(-0.5 * (_distance(shape) / (2 * _GAUSSIAN_WIDTH)) ** 2).clamp_min(1e-3)


def _distance(shape: Sequence[int]) -> Tensor:
    """Distance from the middle relative to the half sides: 1 at the middle of every edge."""
    squares = torch.zeros(())
    for side in shape:
        offset = (torch.arange(side) - side // 2) / (side / 2)
        squares = squares.unsqueeze(-1) + offset**2
    return squares.sqrt()


def _with_lines(centre: Tensor, lines: int, turn: float) -> Tensor:
    """The mask `centre` with `lines` lines at equal angles; `turn` is a share of the angle between two."""
    height, width = centre.shape
    mask, middle = centre.clone(), (height // 2, width // 2)
    angles = (torch.arange(lines, dtype=torch.float64) + turn) * (math.pi / max(lines, 1))
    reach = torch.arange(-max(height, width), max(height, width) + 1, dtype=torch.float64)
    # equal angles in units of the half sides: the ends of the lines are spread over all four edges
    down, across = height * angles.sin(), width * angles.cos()
    longest = torch.maximum(down.abs(), across.abs())
    rows = (reach * (down / longest).unsqueeze(-1)).round().long() + middle[0]
    columns = (reach * (across / longest).unsqueeze(-1)).round().long() + middle[1]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    mask[rows[inside], columns[inside]] = 1
    return mask


def _throw_darts(order: Tensor, spacing: Tensor) -> Tensor:
    """The points (flat indices, in this order) that keep their own and their predecessors' distance.

    A point is kept if no kept point lies closer than the larger of the two spacings.
    """
    height, width = spacing.shape
    radii = spacing.flatten().tolist()
    largest = math.ceil(max(radii))
    offsets = torch.arange(-largest, largest + 1, dtype=torch.float64)
    squares = (offsets.unsqueeze(-1) ** 2 + offsets**2).numpy()
    blocked = torch.zeros(height + 2 * largest, width + 2 * largest, dtype=torch.bool).numpy()
    taken = blocked.copy()
    kept = []
    for index in order.tolist():
        row, column = divmod(index, width)
        if blocked[row + largest, column + largest]:
            continue
        reach = math.ceil(radii[index])
        window = (
            slice(row + largest - reach, row + largest + reach + 1),
            slice(column + largest - reach, column + largest + reach + 1),
        )
        cut = slice(largest - reach, largest + reach + 1)
        near = squares[cut, cut] < radii[index] ** 2
        if (taken[window] & near).any():
            continue
        blocked[window] |= near
        taken[row + largest, column + largest] = True
        kept.append(index)
    return torch.tensor(kept, dtype=torch.long)
