"""A problem checks everything before the first iteration, and lays it out item by item."""

from __future__ import annotations

import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from small_models import (
    L1,
    TV,
    Blur,
    ComplexMatrix,
    Masked,
    MaskedFourier,
    Matrix,
    NonNegative,
    RealMatrix,
    Ridge,
    Smoother,
)
from torch import Tensor

import recon
from recon.fidelity import as_fidelity

M, N = 5, 3


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


A = Matrix(random(M, N))


def refused(kind: type[Exception], message: str, *arguments: Any, **options: Any) -> None:
    """Both `Problem` and `solve` refuse, with this message, before anything is computed."""
    operator, data = arguments
    with pytest.raises(kind, match=message):
        recon.Problem(operator, data, **options)
    if "image_range" not in options:
        prior = options.pop("prior", None)
        with pytest.raises(kind, match=message):
            recon.solve(operator, prior, data, **options)


# Bad input


@pytest.mark.parametrize("shape", [(4,), (5, 2), (5, 1), ()])
def test_data_of_another_shape(shape: tuple[int, ...]) -> None:
    refused(
        recon.ShapeError,
        rf"Matrix needs data of shape \(\*batch, 5\), got {re.escape(str(shape))}",
        A,
        torch.ones(shape),
    )


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5)])
def test_an_empty_batch(shape: tuple[int, ...]) -> None:
    refused(
        ValueError,
        rf"the data are empty \(shape {re.escape(str(shape))}\): nothing to reconstruct",
        A,
        torch.ones(shape),
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_data_with_nan_or_infinity(bad: float) -> None:
    y = torch.ones(2, M)
    y[1, 3] = y[0, 0] = bad
    refused(
        ValueError, "the data hold 2 NaN or infinite of 10 values: remove them, or give them weight 0", A, y
    )
    z = torch.ones(3, 3, dtype=torch.complex64)
    z[0, 0] = complex(0, bad)
    refused(ValueError, "1 NaN or infinite of 9", MaskedFourier(torch.ones(3, 3)), z)


def test_complex_data_for_a_real_operator() -> None:
    refused(
        TypeError,
        r"RealMatrix acts on real images, got torch.complex64: pass the real and imaginary parts as two items",
        RealMatrix(random(M, N)),
        random(M, dtype=torch.complex64),
    )


def test_data_on_another_device() -> None:
    refused(ValueError, "Matrix lies on cpu but the data on meta", A, torch.ones(M, device="meta"))


@pytest.mark.parametrize("data", ["scan.h5", None, {"y": 1}, [[1.0, 2.0], [3.0]], np.array(["a"])])
def test_data_that_are_no_numbers(data: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="data"):
        recon.Problem(A, data)


def test_data_are_needed_once() -> None:
    with pytest.raises(TypeError, match="solve needs the data y"):
        recon.solve(A, None)
    with pytest.raises(TypeError, match="the problem holds its own data: leave y out"):
        recon.solve(recon.Problem(A, torch.ones(M)), None, torch.ones(M))


def test_something_else_than_an_operator() -> None:
    with pytest.raises(TypeError, match=r"the operator must be a recon.LinearOperator, got Tensor"):
        recon.Problem(random(M, N), torch.ones(M))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the operator must be a recon.LinearOperator, got Tensor"):
        recon.solve(random(M, N), None, torch.ones(M))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(M + 1,), (2, M), (1, 1, M)])
def test_weights_that_do_not_fit(shape: tuple[int, ...]) -> None:
    refused(
        ValueError,
        rf"weights of shape {re.escape(str(shape))} do not fit data of shape \(3, 5\): "
        r"give one weight a sample, \(5,\)",
        A,
        torch.ones(3, M),
        fidelity=("gaussian", {"weights": torch.ones(shape)}),
    )


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("weights", -torch.ones(M), "a minimum of -1"),
        ("weights", torch.tensor([1.0, 1.0, math.nan, 1.0, 1.0]), "1 NaN or infinite"),
        ("weights", torch.full((M,), math.inf), "5 NaN or infinite"),
        ("weights", torch.ones(M, dtype=torch.complex64), "complex values"),
        ("noise_level", -0.1, "a minimum of -0.1"),
        ("noise_level", math.nan, "1 NaN or infinite"),
        ("noise_level", [0.1, -0.2], "a minimum of -0.2"),
    ],
)
def test_weights_and_noise_levels_must_be_finite_and_not_negative(name: str, value: Any, found: str) -> None:
    refused(
        ValueError,
        f"the {name} of the Gaussian data term must be finite, real and >= 0, got {found}",
        A,
        torch.ones(2, M),
        fidelity=("gaussian", {name: value}),
    )


def test_weights_that_are_all_zero() -> None:
    refused(
        ValueError,
        "the weights are 0 for every sample: nothing would be fitted",
        A,
        torch.ones(M),
        fidelity=("gaussian", {"weights": torch.zeros(M)}),
    )


def test_a_noise_level_for_another_number_of_items() -> None:
    refused(
        ValueError,
        "noise_level must be one number or one for each of 2 items, got 3",
        A,
        torch.ones(2, M),
        fidelity=("gaussian", {"noise_level": [0.1, 0.2, 0.3]}),
    )


@pytest.mark.parametrize(
    ("fidelity", "kind", "message"),
    [
        ("poison", LookupError, "there is no fidelity 'poison'; did you mean 'poisson'?"),
        (
            ("gaussian", {"weight": 1}),
            TypeError,
            "fidelity gaussian has no parameter 'weight'; did you mean 'weights'\\? It takes weights, noise_level",
        ),
        (3, TypeError, "fidelity must be a name"),
        (("gaussian", 0.1), TypeError, "fidelity must be a name"),
        (("a", "b", "c"), TypeError, "fidelity must be a name"),
    ],
)
def test_data_terms_that_do_not_exist(fidelity: Any, kind: type[Exception], message: str) -> None:
    refused(kind, message, A, torch.ones(M), fidelity=fidelity)


def test_priors_of_another_field() -> None:
    y = random(3, 3, dtype=torch.complex64)
    refused(
        TypeError,
        "NonNegative is defined on real images, but MaskedFourier reconstructs complex ones: "
        "wrap it in recon.Magnitude or recon.RealAndImaginary",
        MaskedFourier(torch.ones(3, 3)),
        y,
        prior=L1(1.0) + NonNegative(),
    )
    refused(
        TypeError,
        "Magnitude is defined on complex images, but Matrix reconstructs real ones",
        A,
        torch.ones(M),
        prior=recon.Magnitude(L1(1.0)),
    )
    recon.Problem(A, random(M, dtype=torch.complex64), prior=recon.Magnitude(L1(1.0)))
    recon.Problem(MaskedFourier(torch.ones(3, 3)), y, prior=recon.Magnitude(L1(1.0)) + TV(1.0))


def test_something_else_than_a_prior() -> None:
    refused(TypeError, "the prior must be a recon.priors.Prior or a name, got int", A, torch.ones(M), prior=3)


@pytest.mark.parametrize("label", ["x0", "reference"])
def test_images_that_do_not_fit(label: str) -> None:
    y = torch.ones(2, M)
    for shape in ((4,), (3, N), (2, 4), (1, N, 1)):
        refused(
            recon.ShapeError,
            rf"{label} must have shape \(2, 3\), got {re.escape(str(shape))}",
            A,
            y,
            **{label: torch.ones(shape)},
        )
    refused(ValueError, f"{label} holds NaN or infinite values", A, y, **{label: torch.full((N,), math.nan)})
    refused(
        TypeError,
        f"{label} is complex, but Matrix reconstructs real images from these data",
        A,
        y,
        **{label: torch.ones(N, dtype=torch.complex64)},
    )


@pytest.mark.parametrize(
    "image_range", [(1.0, 0.0), (1.0, 1.0), (0.0, math.inf), (math.nan, 1.0), (1.0,), 5.0]
)
def test_ranges_of_the_image_that_make_no_sense(image_range: Any) -> None:
    with pytest.raises(ValueError, match=r"image_range must be \(low, high\) with low < high, got"):
        recon.Problem(A, torch.ones(M), image_range=image_range)


def test_a_learned_prior_without_the_range_of_the_image() -> None:
    prior = Smoother(value_range=(0.0, 1.0))
    with pytest.raises(ValueError, match="made for images in"):
        recon.solve(A, prior, torch.ones(M), stop=recon.MaxIterations(1))
    problem = recon.Problem(A, torch.ones(M), image_range=(0, 2))
    recon.solve(problem, prior, stop=recon.MaxIterations(1))


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "strong", [1.0]])
def test_weights_of_priors(weight: Any) -> None:
    with pytest.raises(ValueError, match="weight must be a number >= 0 or 'auto',"):
        recon.solve(A, L1(1.0), torch.ones(M), weight=weight)


def test_weights_that_fit_no_prior_or_several() -> None:
    y = torch.ones(M)
    with pytest.raises(ValueError, match="weight=1.0 was given, but there is no prior to weigh"):
        recon.solve(A, None, y, weight=1.0)
    with pytest.raises(
        ValueError, match="weight was given, but the prior is a constraint or a generator, which has none"
    ):
        recon.solve(A, NonNegative(), y, weight=1.0)
    with pytest.raises(ValueError, match=r"weight=1.0 fits several priors \(L1, Ridge\): give each its own"):
        recon.solve(A, L1() + Ridge(), y, weight=1.0)


@pytest.mark.parametrize(
    ("option", "value", "kind", "message"),
    [
        ("solver", 3, TypeError, "int is no solver: it has no method 'start'"),
        ("solver", "amdm", LookupError, "amdm"),
        ("stop", 100, TypeError, r"stop must be a stopping rule such as recon.MaxIterations\(100\), got 100"),
        ("stop", "100", TypeError, "stop must be a stopping rule"),
        (
            "dtype",
            torch.int32,
            ValueError,
            r"dtype is the precision, torch.float32 or torch.float64, got torch.int32",
        ),
        ("dtype", torch.complex64, ValueError, "dtype is the precision"),
    ],
)
def test_options_of_solve(option: str, value: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        recon.solve(A, L1(1.0), torch.ones(M), **{option: value})


def test_a_failed_check_leaves_no_file(tmp_path: Any) -> None:
    with pytest.raises(recon.ShapeError):
        recon.solve(A, L1(1.0), torch.ones(M + 1), checkpoint=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# What is accepted


@pytest.mark.parametrize(
    "data",
    [
        [1, 2, 3, 4, 5],
        [1.0, 2.0, 3.0, 4.0, 5.0],
        np.arange(1, 6),
        np.arange(1, 6, dtype=np.float32)[::-1][::-1],
        np.arange(5, 0, -1, dtype=np.float32)[::-1],
        np.arange(1, 6, dtype=">f4"),
        torch.arange(1, 6),
        torch.arange(1.0, 6.0).requires_grad_(),
    ],
)
def test_data_as_they_come(data: Any) -> None:
    problem = recon.Problem(A, data)
    assert problem.y.dtype == torch.float32 and not problem.y.requires_grad
    assert problem.y.tolist() == [[1, 2, 3, 4, 5]]


def test_read_only_data_are_accepted() -> None:
    data = np.ones(M, dtype=np.float32)
    data.flags.writeable = False
    assert recon.Problem(A, data).y.shape == (1, M)


def test_double_precision_is_kept_and_complex_data_make_a_complex_image() -> None:
    assert recon.Problem(A, torch.ones(M, dtype=torch.float64)).y.dtype == torch.float64
    assert recon.solve(A, None, torch.ones(M, dtype=torch.float64)).image.dtype == torch.float64
    assert recon.solve(A, None, torch.ones(M), dtype=torch.float64).image.dtype == torch.float64
    assert (
        recon.solve(A, None, torch.ones(M, dtype=torch.complex128), dtype=torch.float32).image.dtype
        == torch.complex64
    )
    assert not recon.Problem(A, torch.ones(M)).is_complex
    assert recon.Problem(A, torch.ones(M, dtype=torch.complex64)).is_complex
    spectrum = recon.Problem(MaskedFourier(torch.ones(2, 2)), torch.ones(2, 2))
    assert spectrum.is_complex and spectrum.y.dtype == torch.complex64


def test_start_and_reference_take_the_field_and_precision_of_the_image() -> None:
    problem = recon.Problem(
        MaskedFourier(torch.ones(2, 2)),
        random(3, 2, 2, dtype=torch.complex64),
        x0=torch.ones(2, 2, dtype=torch.float64),
        reference=np.ones((3, 2, 2)),
    )
    assert problem.x0 is not None and problem.x0.dtype == torch.complex64 and problem.x0.shape == (3, 2, 2)
    assert problem.reference is not None and problem.reference.dtype == torch.complex64
    solution = recon.solve(problem, TV(0.1), stop=recon.MaxIterations(3))
    assert solution.image.dtype == torch.complex64 and all(map(math.isfinite, solution.history["psnr"][-1]))


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 2)])
def test_batches_are_laid_out_on_one_axis_and_back(batch: tuple[int, ...]) -> None:
    y = random(*batch, M)
    problem = recon.Problem(A, y, x0=random(*batch, N))
    assert problem.items == math.prod(batch) and problem.batch_shape == batch
    assert problem.y.shape == (problem.items, M)
    assert torch.equal(problem.unflatten(problem.start), problem.x0.reshape(*batch, N))  # type: ignore[union-attr]
    assert recon.solve(problem, None).image.shape == (*batch, N)


def test_start_is_the_direct_reconstruction_unless_given() -> None:
    y = random(2, M)
    torch.testing.assert_close(recon.Problem(A, y).start, A.pinv(y))
    problem = recon.Problem(A, y, x0=torch.ones(N))
    assert torch.equal(problem.start, torch.ones(2, N))
    problem.start.zero_()
    assert problem.x0 is not None and bool((problem.x0 == 1).all()), "the start is a copy"


# The data term


def test_weights_of_one_item_serve_all() -> None:
    y, x, weights = random(3, M), random(3, N), random(M).abs()
    problem = recon.Problem(A, y, fidelity=("gaussian", {"weights": weights}))
    expected = 0.5 * (weights * (A(x) - y) ** 2).sum(1)
    torch.testing.assert_close(problem.item_fidelity.value(A(x), problem.y), expected)
    torch.testing.assert_close(problem.residual_norm(x), (2 * expected).sqrt())
    torch.testing.assert_close(problem.backprojection, A.adjoint(weights * y))
    torch.testing.assert_close(problem.normal(x), A.adjoint(weights * A(x)))


@pytest.mark.parametrize("batch", [(3,), (3, 2)])
def test_weights_per_item(batch: tuple[int, ...]) -> None:
    y, x, weights = random(*batch, M), random(*batch, N), random(*batch, M).abs()
    problem = recon.Problem(A, y, fidelity=recon.Gaussian(weights=weights))
    expected = 0.5 * (weights * (A(x) - y) ** 2).sum(-1).flatten()
    torch.testing.assert_close(problem.item_fidelity.value(A(x).reshape(-1, M), problem.y), expected)
    scalar = random(*batch, 1).abs()
    problem = recon.Problem(A, y, fidelity=recon.Gaussian(weights=scalar))
    torch.testing.assert_close(
        problem.item_fidelity.value(A(x).reshape(-1, M), problem.y),
        0.5 * (scalar * (A(x) - y) ** 2).sum(-1).flatten(),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_gaussian_term_has_the_gradient_and_the_prox_of_its_value(dtype: torch.dtype) -> None:
    z, y = random(2, M, dtype=dtype), random(2, M, dtype=dtype, seed=1)
    weights = random(2, M, dtype=torch.float64, seed=2).abs()
    for term in (recon.Gaussian(), recon.Gaussian(weights=weights)):
        point = z.clone().requires_grad_()
        term.value(point, y).sum().backward()
        torch.testing.assert_close(term.gradient(z, y), point.grad)
        step = torch.tensor([[0.3], [2.0]], dtype=torch.float64)
        u = term.prox(z, y, step)
        torch.testing.assert_close(
            step * term.gradient(u, y) + u - z, torch.zeros_like(z), rtol=0, atol=1e-12
        )
        torch.testing.assert_close(term.weighted_norm(z).square(), 2 * term.value(z, torch.zeros_like(z)))


def test_a_data_term_is_an_object_a_name_or_a_name_with_arguments() -> None:
    term = recon.Gaussian(noise_level=0.5)
    assert as_fidelity(term) is term
    assert as_fidelity("gaussian").noise_level is None
    assert float(as_fidelity(("gaussian", {"noise_level": 0.5})).noise_level) == 0.5
    assert "noise_level=0.5" in repr(term) and "weights of shape (5,)" in repr(
        recon.Gaussian(weights=torch.ones(M))
    )


def test_noise_level_is_the_given_one_or_an_estimate_per_item() -> None:
    operator = recon.Identity((40, 40))
    noise = random(2, 40, 40) * torch.tensor([0.1, 1.0]).reshape(2, 1, 1)
    torch.testing.assert_close(
        recon.Problem(operator, noise).noise_level, torch.tensor([0.1, 1.0]), rtol=0.1, atol=0
    )  # 1600 samples
    for given, expected in ((0.3, [0.3, 0.3]), ([0.3, 0.5], [0.3, 0.5]), (torch.tensor([0.3]), [0.3, 0.3])):
        problem = recon.Problem(operator, noise, fidelity=("gaussian", {"noise_level": given}))
        torch.testing.assert_close(problem.noise_level, torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("kind", ["plain", "mask", "weights", "both"])
def test_noise_norm_is_the_expected_norm_of_weighted_noise(dtype: torch.dtype, kind: str) -> None:
    """Noise of variance sigma^2 / w on what is measured: E |noise|_w is sigma sqrt(count), within 1 %."""
    shape, sigma, items = (30, 30), 0.2, 40
    mask = (random(*shape, seed=1) > 0).float() if kind in ("mask", "both") else torch.ones(shape)
    weights = 0.1 + random(*shape, seed=2).abs()
    weights[random(*shape, seed=3) > 1] = 0
    weights = weights if kind in ("weights", "both") else torch.ones(shape)
    noise = sigma * (
        torch.view_as_complex(random(items, *shape, 2)) if dtype.is_complex else random(items, *shape)
    )
    noise = mask * noise / weights.clamp_min(1e-6).sqrt()
    operator = Masked(mask) if kind in ("mask", "both") else recon.Identity(shape)
    options = {"weights": weights} if kind in ("weights", "both") else {}
    problem = recon.Problem(operator, noise, fidelity=("gaussian", {"noise_level": sigma, **options}))
    measured = problem.residual_norm(torch.zeros(items, *shape)).mean()
    assert float(measured) == pytest.approx(float(problem.noise_norm[0]), rel=0.01)


# Parts


def full_problem() -> recon.Problem:
    problem = recon.Problem(
        A,
        random(4, M),
        prior=L1() + Ridge(0.3),
        fidelity=recon.Gaussian(weights=random(4, M, seed=4).abs(), noise_level=[0.1, 0.2, 0.3, 0.4]),
        x0=random(4, N, seed=5),
        reference=random(4, N, seed=6),
    )
    problem.strength = torch.tensor([1.0, 2.0, 3.0, 4.0])
    return problem


@pytest.mark.parametrize("cached", [False, True])
def test_a_part_of_a_problem_is_the_problem_of_these_items(cached: bool) -> None:
    problem = full_problem()
    x = random(4, N, seed=7)
    if cached:
        assert (
            problem.start is not None
            and problem.backprojection is not None
            and problem.noise_norm is not None
        )
    items = torch.tensor([3, 1])
    part = problem.select(items)
    assert part.items == 2 and part.batch_shape == (2,)
    for name in ("y", "x0", "reference", "strength", "start", "backprojection", "noise_level", "noise_norm"):
        torch.testing.assert_close(getattr(part, name), getattr(problem, name)[items], msg=name)
    torch.testing.assert_close(part.objective(x[items]), problem.objective(x)[items])
    torch.testing.assert_close(part.residual_norm(x[items]), problem.residual_norm(x)[items])
    torch.testing.assert_close(part.normal(x[items]), problem.normal(x)[items])
    again = part.select(torch.tensor([1]))
    torch.testing.assert_close(again.y, problem.y[1:2])
    torch.testing.assert_close(problem.y, full_problem().y, msg="the whole is left alone")


def test_the_data_of_a_part_are_those_of_its_items() -> None:
    part = full_problem().select(torch.tensor([2]))
    torch.testing.assert_close(part.data, part.y)
    again = part.with_prior(L1(0.1))
    assert again.items == 1
    torch.testing.assert_close(again.y, part.y)
    torch.testing.assert_close(again.noise_level, torch.tensor([0.3]))


def test_objective_is_data_term_plus_priors() -> None:
    problem, x = full_problem(), random(4, N, seed=7)
    weights = problem.fidelity.weights
    assert weights is not None
    expected = (
        0.5 * (weights * (A(x) - problem.y) ** 2).sum(1)
        + problem.strength * x.abs().sum(1)
        + 0.3 * 0.5 * x.square().sum(1)
    )
    torch.testing.assert_close(problem.objective(x), expected)


def test_projection_is_onto_constraints_on_the_image_only() -> None:
    class Rotated(NonNegative):
        """A constraint on another basis of the same shape."""

        def K(self, shape: Any) -> recon.LinearOperator:
            return -1 * recon.Identity(shape)

    x = torch.tensor([[1.0, -1.0, 2.0]])
    problem = recon.Problem(A, torch.ones(1, M), prior=L1(1.0) + NonNegative())
    assert problem.project(x).tolist() == [[1, 0, 2]]
    assert recon.Problem(A, torch.ones(1, M), prior=Rotated()).project(x).tolist() == x.tolist()


def test_the_same_data_under_another_prior() -> None:
    problem = full_problem()
    problem.notes = {"unit": "1/mm"}
    other = problem.with_prior(TV(0.1))
    assert other.prior is not problem.prior and other.notes == problem.notes
    for name in ("data", "x0", "reference", "noise_level"):
        torch.testing.assert_close(getattr(other, name), getattr(problem, name))
    assert bool((other.strength == 1).all())


def test_preconditioners_take_weights_by_their_mean() -> None:
    seen = []

    class Known(Matrix):
        def preconditioner(self, rho, terms):  # type: ignore[no-untyped-def]
            seen.append(rho)
            return lambda residual: residual / 2

    operator, y = Known(random(M, N)), random(2, M)
    weights = torch.tensor([[1.0], [4.0]]).expand(2, M)
    problem = recon.Problem(operator, y, fidelity=("gaussian", {"weights": weights}))
    inverse = problem.preconditioner([torch.tensor([[2.0], [2.0]])], [recon.Identity((N,))])
    assert inverse is not None
    torch.testing.assert_close(seen[0][0], torch.tensor([[2.0], [0.5]]))
    torch.testing.assert_close(inverse(torch.ones(2, N)), torch.tensor([[0.5], [0.125]]).expand(2, N))
    assert recon.Problem(A, y).preconditioner([1.0], [recon.Identity((N,))]) is None


def test_the_preconditioner_is_made_once_for_the_same_penalties() -> None:
    """And anew for others, for other maps, for another batch, in a copy, and where a gradient is to pass through."""
    made = []

    class Known(Matrix):
        def preconditioner(self, rho, terms):  # type: ignore[no-untyped-def]
            made.append(float(rho[0].detach().flatten()[0]))
            return lambda residual: residual / rho[0]

    problem = recon.Problem(Known(random(M, N)), random(2, M))
    maps, step = [recon.Identity((N,))], torch.full((2, 1), 2.0)
    ones = torch.ones(2, N)
    for rho in (step, step.clone(), 3 * step, 3 * step, step):
        inverse = problem.preconditioner([rho], maps)
        assert inverse is not None
        torch.testing.assert_close(inverse(ones), ones / rho)
    assert made == [2.0, 6.0, 2.0]
    problem.preconditioner([step], [recon.Identity((N,))])
    problem.select(torch.tensor([1])).preconditioner([step[:1]], maps)
    pickle.loads(pickle.dumps(problem.kept_inverse)).get([step], maps, lambda _: made.append(-1.0))
    learned = step.clone().requires_grad_()
    for _ in range(2):
        problem.preconditioner([learned], maps)
    assert made == [2.0, 6.0, 2.0, 2.0, 2.0, -1.0, 2.0, 2.0]


def test_a_kept_preconditioner_sees_changes_in_place() -> None:
    """Of the penalties, of a buffer of the operator or of a map, and of the weights of the samples."""

    class Known(Matrix):
        def preconditioner(self, rho, terms):  # type: ignore[no-untyped-def]
            scale = self.matrix.abs().max() + terms[0].matrix.abs().max() + rho[0]
            return lambda residual: residual / scale

    weights = torch.full((2, M), 3.0)
    fidelity = ("gaussian", {"weights": weights})
    problem = recon.Problem(Known(random(M, N)), random(2, M), fidelity=fidelity)
    maps, rho, ones = [Matrix(random(M, N))], torch.full((2, 1), 2.0), torch.ones(2, N)
    for changed in (rho, problem.operator.matrix, maps[0].matrix, problem.item_fidelity.weights):
        before = problem.preconditioner([rho], maps)
        assert before is not None and problem.preconditioner([rho], maps) is before
        was = before(ones)
        changed.mul_(2)
        after = problem.preconditioner([rho], maps)
        assert after is not None and after is not before
        fresh = problem.select(torch.arange(2)).preconditioner([rho], maps)
        assert fresh is not None
        torch.testing.assert_close(after(ones), fresh(ones), rtol=0, atol=0)
        torch.testing.assert_close(before(ones), was, rtol=0, atol=0)


def test_a_preconditioner_kept_while_gradients_were_off_serves_when_they_are_on() -> None:
    class Known(Matrix):
        def preconditioner(self, rho, terms):  # type: ignore[no-untyped-def]
            scale = 1 + rho[0]
            return lambda residual: residual / scale

    problem, maps = recon.Problem(Known(random(M, N)), random(2, M)), [recon.Identity((N,))]
    with torch.inference_mode():
        made = problem.preconditioner([torch.full((2, 1), 1.0)], maps)
    rho = torch.full((2, 1), 1.0)
    inverse = problem.preconditioner([rho], maps)
    assert inverse is not None and inverse is made
    residual = torch.ones(2, N, requires_grad=True)
    inverse(residual).square().sum().backward()
    torch.testing.assert_close(residual.grad, torch.full((2, N), 0.5))


def test_threads_that_share_a_problem_get_the_preconditioner_of_their_penalties() -> None:
    """Another thread asks for its own while this one compares its penalties with those that are kept."""

    class Known(Matrix):
        def preconditioner(self, rho, terms):  # type: ignore[no-untyped-def]
            return lambda residual: residual / float(rho[0])

    class Slow(float):
        def __eq__(self, other: object) -> bool:
            threads.submit(problem.preconditioner, [4.0], maps).result(10)
            return float(self) == other

        __hash__ = float.__hash__

    problem, maps = recon.Problem(Known(random(M, N)), random(2, M)), [recon.Identity((N,))]
    ones = torch.ones(2, N)
    problem.preconditioner([2.0], maps)
    with ThreadPoolExecutor(1) as threads:
        inverse = problem.preconditioner([Slow(2.0)], maps)
    assert inverse is not None
    torch.testing.assert_close(inverse(ones), ones / 2)


def test_repr_names_operator_prior_and_data_term() -> None:
    text = repr(recon.Problem(Blur((4, 4)), torch.ones(2, 4, 4), prior=L1(1.0) + NonNegative()))
    assert "Blur" in text and "L1 + NonNegative" in text and "batch (2,)" in text
    assert "no prior" in repr(recon.Problem(A, torch.ones(M)))


def test_complex_operator_of_complex_matrix_reconstructs_complex_images() -> None:
    assert recon.Problem(ComplexMatrix(random(M, N)), torch.ones(M)).start.is_complex()


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"device 'nowhere' cannot be used here .* give 'cpu'"):
        recon.solve(recon.Identity((3, 3)), None, torch.zeros(3, 3), device="nowhere")
