"""The subsets of a scan's views are parts of its data, each ray in one of them."""

from __future__ import annotations

import pytest
import torch

import recon
from recon import registry


def scans() -> list[recon.LinearOperator]:
    """Every example of the CT operators."""
    found = [
        registry.find("operator", name) for name in ("ct_parallel", "ct_fan", "ct_cone", "ct_cone_vectors")
    ]
    return [item.make(example.kwargs) for item in found for example in item.entry.examples]


@pytest.mark.parametrize("operator", scans(), ids=repr)
def test_subsets_are_the_rows_of_the_whole(operator: recon.LinearOperator) -> None:
    x = torch.rand(2, *operator.domain_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = operator(x)
    met = torch.zeros_like(y)
    for part in operator.subsets(3):
        # a symmetric scan is computed from a part of its matrix, whose entries round otherwise
        torch.testing.assert_close(part.operator(x), part.of(y), rtol=1e-6, atol=1e-9)
        met[(..., *part.rows)] += 1
    assert bool((met == 1).all())


def test_more_subsets_than_views_are_refused() -> None:
    operator = recon.operator("ct_parallel", shape=(6, 7), angles=5)
    with pytest.raises(ValueError, match="subsets must be 1 to 5, the number of views, got 6"):
        operator.subsets(6)
    with pytest.raises(TypeError, match="Blur has no subsets"):
        recon.operator("blur", shape=(6, 7), kernel=("gaussian", 0.8)).subsets(2)


def test_ordered_subsets_are_about_as_many_times_faster_at_first() -> None:
    """Four subsets for three iterations gain at least 0.8 of what twelve iterations without do."""
    operator = recon.operator("ct_parallel", shape=(24, 24), angles=24)
    image = torch.zeros(24, 24)
    image[6:18, 8:16], image[9:12, 9:12] = 5.0, 20.0
    y = torch.poisson(operator(image) + 1, generator=torch.Generator().manual_seed(0))

    def likelihood(solver: str, iterations: int) -> float:
        stop = recon.MaxIterations(iterations)
        fidelity = ("emission", {"background": 1.0})
        history = recon.solve(operator, None, y, solver=solver, fidelity=fidelity, stop=stop).history
        return float(history["objective"][-1])

    few, many, subsets = likelihood("mlem", 3), likelihood("mlem", 12), likelihood("osem:subsets=4", 3)
    assert subsets < few - 0.8 * (few - many)


def test_a_problem_of_counts_is_stored_and_read_again(tmp_path):
    problem = recon.Problem(
        recon.Identity((6,)), torch.ones(6), fidelity=recon.Emission(torch.full((6,), 2.0))
    )
    again = recon.Problem.load(problem.save(tmp_path / "counts.h5"))
    assert isinstance(again.fidelity, recon.Emission)
    torch.testing.assert_close(again.fidelity.background, torch.full((6,), 2.0), check_dtype=False)
