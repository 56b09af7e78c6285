"""Subsets of a scan's views, for ordered-subsets algorithms."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from recon.linear import LinearOperator
from recon.subsets import Subset


def interleaved_views(
    operator: LinearOperator, count: int, axis: int, scan_of: Callable[[slice], LinearOperator]
) -> list[Subset]:
    """The same scan with every ``count``-th view, from the first, the second, ... view on.

    Args:
        operator: the whole scan.
        count: number of subsets, at most the number of views.
        axis: of the views in the operator's `range_shape`.
        scan_of: the scan of some of the views.

    Raises:
        ValueError: more subsets than views, or fewer than one.
    """
    views = operator.range_shape[axis]
    if not 1 <= count <= views:
        raise ValueError(f"subsets must be 1 to {views}, the number of views, got {count}")
    found = []
    for first in range(count):
        views_of_part = slice(first, None, count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to say of the scan was said when it was made
            part = scan_of(views_of_part).to(operator.device)
        rows = [slice(None)] * len(operator.range_shape)
        rows[axis] = views_of_part
        found.append(Subset(part, tuple(rows)))
    return found
