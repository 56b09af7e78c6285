"""Conformance checks for linear operators: every promise of `LinearOperator`, measured on an instance.

Give a small instance (a few dozen pixels): some checks write the operator as a matrix. In a test::

    from recon.testing import check_operator

    def test_my_operator_conforms():
        check_operator(MotionBlur(kernel, shape=(8, 9)))

Each check is also a function of its own, raising AssertionError with what was measured and what is expected.
Random input is seeded; nothing but the operator's own state is touched.
"""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.linear import Identity, LinearOperator, Shape, Step, real_dtype

OperatorCheck = Callable[[LinearOperator], None]
"""A check: called with an operator, it returns None or raises AssertionError."""


@dataclass(frozen=True)
class _Map:
    """One of the maps that an operator offers: the call, the item shapes, and the types of input it takes."""

    name: str
    apply: Callable[[Tensor], Tensor]
    source: Shape
    target: Shape
    dtypes: tuple[torch.dtype, ...]
    device: torch.device

    def draw(self, *batch: int, dtype: torch.dtype | None = None, seed: int = 0) -> Tensor:
        """Random input, of the most general type unless one is given."""
        return _random((*batch, *self.source), dtype or self.dtypes[-1], seed).to(self.device)


@dataclass(frozen=True)
class _System:
    """The matrix A^H A + sum_i rho_i K_i^H K_i, dense and in double precision, for any rho."""

    maps: list[LinearOperator]
    rho: list[float]
    parts: list[Tensor]

    def matrix(self, rho: Sequence[float]) -> Tensor:
        """The matrix for these weights."""
        total = self.parts[0].clone()
        for weight, part in zip(rho, self.parts[1:], strict=True):
            total = total + weight * part
        return total

    def __str__(self) -> str:
        names = ", ".join(
            f"{weight:.2g} {type(K).__name__}" for weight, K in zip(self.rho, self.maps, strict=True)
        )
        return f"with {names}"


LARGEST_MATRIX = 4_000_000
"""Elements of the largest matrix that the dense checks write down."""


def check_operator(
    operator: LinearOperator,
    *,
    terms: Sequence[LinearOperator] = (),
    expected_failures: Mapping[str, str] | None = None,
) -> list[str]:
    """Run every check on an operator and return their names.

    Args:
        operator: a small instance.
        terms: linear maps K on the same images, such as a gradient, with which `solve_gram` and
            `preconditioner` are tried beside the identity.
        expected_failures: name of a check to the reason why it is known to fail. Such a check must fail.

    Raises:
        AssertionError: naming every check that failed, or that passed although it was expected to fail.
        ValueError: if an expected failure names no check, or the instance is too large for a matrix.
    """
    _require_small(operator)
    expected = dict(expected_failures or {})
    checks = dict(operator_checks(terms=terms))
    unknown = sorted(set(expected) - set(checks))
    if unknown:
        raise ValueError(f"no such check: {', '.join(unknown)}; the checks are {', '.join(checks)}")
    problems = []
    for name, check in checks.items():
        try:
            check(operator)
        except Exception as error:
            if name not in expected:
                kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                problems.append(f"{name}: {kind}{error}")
        else:
            if name in expected:
                problems.append(f"{name}: passed, although it is expected to fail ({expected[name]})")
    if problems:
        raise AssertionError(
            f"{type(operator).__name__} fails {len(problems)} checks\n" + "\n".join(problems)
        )
    return list(checks)


def operator_checks(*, terms: Sequence[LinearOperator] = ()) -> Iterator[tuple[str, OperatorCheck]]:
    """Yield the name of every check and the check itself; `terms` as in `check_operator`."""
    for check in _CHECKS:
        name = check.__name__.removeprefix("check_")
        if "terms" in inspect.signature(check).parameters:
            yield name, lambda operator, check=check: check(operator, terms=terms)  # type: ignore[misc]
        else:
            yield name, check


def check_shapes(operator: LinearOperator) -> None:
    """Images become data and data images, whatever the batch axes; other shapes raise and say what fits."""
    for way in _both_ways(operator):
        for batch in ((), (1,), (2,), (2, 3)):
            got = tuple(way.apply(way.draw(*batch)).shape)
            expected = (*batch, *way.target)
            _require(got == expected, f"{way.name} of batch {batch} has shape {got}, expected {expected}")
        wrong = way.draw(2)[..., :1].expand(*way.draw(2).shape[:-1], way.source[-1] + 1)
        try:
            way.apply(wrong)
        except ValueError as error:
            named = all(str(side) in str(error) for side in way.source)
            _require(named, f"the error for {way.name} of {wrong.shape} does not name {way.source}: {error}")
        else:
            raise AssertionError(
                f"{way.name} accepts an input of shape {tuple(wrong.shape)}; it needs (*batch, *{way.source})"
            )


def check_linearity(operator: LinearOperator) -> None:
    """A(a x + b y) = a A x + b A y for forward and adjoint, with complex factors for complex x; A 0 = 0."""
    for way in _both_ways(operator):
        for dtype in way.dtypes:
            over_complex = dtype.is_complex and operator.domain != "real"
            a, b = (0.7 - 0.4j, -1.3 + 0.2j) if over_complex else (0.7, -1.3)
            x, y = (way.draw(dtype=dtype, seed=seed) for seed in (1, 2))
            what = f"{way.name} in {dtype} is not linear"
            _require_close(way.apply(a * x + b * y), a * way.apply(x) + b * way.apply(y), what)
            at_zero = float(way.apply(torch.zeros_like(x)).abs().max())
            _require(at_zero == 0, f"{way.name} of zeros in {dtype} reaches {at_zero:.1e}, expected 0")


def check_dense_adjoint(operator: LinearOperator) -> None:
    """The matrix of the adjoint is the conjugate transpose of the forward matrix.

    The difference is measured in the spectral norm, relative to that of the operator. An operator that
    declares ``adjoint_kind = "approximate"`` may differ by its `adjoint_tolerance`.
    """
    forward, adjoint = _dense(operator), _dense_adjoint(operator)
    scale = float(torch.linalg.matrix_norm(forward, 2))
    error = float(torch.linalg.matrix_norm(adjoint - forward.mH, 2)) / max(scale, _TINY)
    tolerance = max(_CLOSE, _declared_error(operator))
    _require(
        error <= tolerance,
        f"|B - A^H| is {error:.1e} of |A|, expected at most {tolerance:.1e} "
        f"for an adjoint declared as {operator.adjoint_kind}",
    )


def check_adjoint(operator: LinearOperator) -> None:
    """<A x, y> = <x, A^H y> for zero-mean random x and y, relative to |A x| |y|; needs no matrix."""
    forward, adjoint = _both_ways(operator)
    tolerance = max(1e-3, _declared_error(operator))
    for seed in (1, 2, 3):
        x, y = forward.draw(seed=seed), adjoint.draw(seed=seed + 10)
        image, back = operator(x), operator.adjoint(y)
        difference = _inner(image, y) - _inner(x, back)
        mismatch = float(difference.real.abs() if operator.domain == "real" else difference.abs())
        error = mismatch / max(float(image.norm() * y.norm()), _TINY)
        _require(
            error <= tolerance,
            f"<Ax, y> and <x, A^H y> differ by {error:.1e} of |Ax||y|, expected at most {tolerance:.1e}",
        )


def check_gradients(operator: LinearOperator) -> None:
    """The derivative of A x is A, in every mode: backward, twice backward, and forward.

    Backward multiplies by A^H, its own backward by A again, and the forward derivative along t is A t.
    Operators with an exact adjoint are also compared with finite differences in double precision.
    """
    forward, adjoint = _both_ways(operator)
    for way, transposed in ((forward, adjoint), (adjoint, forward)):
        for dtype in way.dtypes:
            x, v = way.draw(2, dtype=dtype, seed=1).requires_grad_(), way.draw(2, dtype=dtype, seed=3)
            image = way.apply(x)
            w = _random(tuple(image.shape), image.dtype, 2).to(image.device).requires_grad_()
            (gradient,) = torch.autograd.grad(image, x, w, create_graph=True)
            what = f"of {way.name} in {dtype} is wrong"
            backward = _as_real_as(x, transposed.apply(w.detach()))
            _require_close(gradient.detach(), backward, f"the gradient {what}")
            (second,) = torch.autograd.grad(gradient, w, v)
            _require_close(second, _as_real_as(w, way.apply(v)), f"the second derivative {what}")
            with warnings.catch_warnings():
                # torch's own forward mode uses what torch deprecates
                warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
                tangent = torch.func.jvp(way.apply, (x.detach(),), (v,))[1]
            _require_close(tangent, way.apply(v), f"the forward derivative {what}")
            if operator.adjoint_kind == "exact":
                _require_finite_differences(way, x.detach().to(_DOUBLE[dtype]))


def check_vmap(operator: LinearOperator) -> None:
    """`torch.func.vmap` over any axis, nested, and over a gradient gives what a loop gives."""
    forward, adjoint = _both_ways(operator)
    for way, transposed in ((forward, adjoint), (adjoint, forward)):
        xs = way.draw(3, 2)
        wanted = torch.stack([way.apply(x) for x in xs])
        _require_close(torch.func.vmap(way.apply)(xs), wanted, f"vmap of {way.name} differs from a loop")
        nested = torch.func.vmap(torch.func.vmap(way.apply))(xs)
        _require_close(nested, wanted, f"nested vmap of {way.name} differs from a loop")
        last = torch.func.vmap(way.apply, in_dims=-1, out_dims=-1)(xs.movedim(0, -1))
        _require_close(last, wanted.movedim(0, -1), f"vmap of {way.name} over the last axis differs")

        def energy(x: Tensor, way: _Map = way) -> Tensor:
            return way.apply(x).abs().square().sum() / 2

        gradients = torch.func.vmap(torch.func.grad(energy))(xs)
        normal = _as_real_as(xs, torch.stack([transposed.apply(way.apply(x)) for x in xs]))
        _require_close(gradients, normal, f"vmap over the gradient of {way.name} differs from a loop")


def check_batch_equals_loop(operator: LinearOperator) -> None:
    """A batch gives the same as its items one by one: forward, adjoint, gram and pinv."""
    for way in _all_ways(operator):
        xs = way.draw(2, 3)
        wanted = torch.stack([torch.stack([way.apply(x) for x in row]) for row in xs])
        _require_close(way.apply(xs), wanted, f"{way.name} of a batch differs from a loop over its items")


def check_empty_batch(operator: LinearOperator) -> None:
    """A batch of no items gives no items, of the right shape: forward, adjoint, gram and pinv."""
    for way in _all_ways(operator):
        for batch in ((0,), (2, 0)):
            got = tuple(way.apply(way.draw(*batch)).shape)
            expected = (*batch, *way.target)
            _require(got == expected, f"{way.name} of an empty batch has shape {got}, expected {expected}")


def check_dtypes(operator: LinearOperator) -> None:
    """The precision of the input is kept, both precisions agree, types that do not fit raise a TypeError."""
    for way in _all_ways(operator):
        for dtype in way.dtypes:
            x = way.draw(dtype=_DOUBLE[dtype])
            double, single = way.apply(x), way.apply(x.to(dtype))
            for result, given in ((double, _DOUBLE[dtype]), (single, dtype)):
                kept = real_dtype(result.dtype) == real_dtype(given)
                _require(kept, f"{way.name} of {given} gives {result.dtype}: the precision must stay")
                is_image = way.name != "forward"
                fits = (
                    not (operator.domain == "complex" and not result.is_complex())
                    and not (operator.domain == "real" and is_image and result.is_complex())
                    and not (operator.domain == "any" and given.is_complex and not result.is_complex())
                )
                _require(fits, f"{way.name} of {given} gives {result.dtype}; domain={operator.domain!r}")
            _require_close(
                single.to(double.dtype), double, f"{way.name} differs in single and double precision"
            )
    for dtype in (torch.int64, torch.bool, *((torch.complex64,) if operator.domain == "real" else ())):
        try:
            operator(torch.ones(operator.domain_shape, dtype=dtype, device=operator.device))
        except TypeError:
            continue
        raise AssertionError(f"forward accepts {dtype}; with domain={operator.domain!r} it must refuse it")


def check_input_unchanged(operator: LinearOperator) -> None:
    """No map writes into its input or returns a tensor that shares memory with it."""
    for way in _all_ways(operator):
        for dtype in way.dtypes:
            x = way.draw(2, dtype=dtype)
            before = x.clone()
            result = way.apply(x)
            _require(torch.equal(x, before), f"{way.name} in {dtype} changes its input")
            shared = result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
            _require(not shared, f"{way.name} in {dtype} returns a view of its input: return a copy")


def check_noncontiguous(operator: LinearOperator) -> None:
    """Strided, expanded and lazily conjugated inputs give the same as contiguous ones."""
    for way in _both_ways(operator):
        x = way.draw(4)
        wanted = way.apply(x)
        strided = torch.stack([x, x + 1], dim=-1)[..., 0]
        _require_close(way.apply(strided), wanted, f"{way.name} of a strided input differs")
        turned = x.movedim(-1, 0).contiguous().movedim(0, -1)
        _require_close(way.apply(turned), wanted, f"{way.name} of a transposed input differs")
        _require_close(way.apply(x[::2]), wanted[::2], f"{way.name} of every second item differs")
        expanded = way.apply(x[:1].expand_as(x))
        _require_close(expanded, wanted[:1].expand_as(wanted), f"{way.name} of an expanded input differs")
        if x.is_complex():
            conjugated = way.apply(x.conj().resolve_conj())
            _require_close(way.apply(x.conj()), conjugated, f"{way.name} of a conjugated view differs")


def check_deterministic(operator: LinearOperator) -> None:
    """The same input gives the same output, to the last bit."""
    for way in _all_ways(operator):
        x = way.draw(2)
        _require(torch.equal(way.apply(x), way.apply(x)), f"{way.name} gives two different results")


def check_pickle_and_state_dict(operator: LinearOperator) -> None:
    """A pickled copy, a deep copy, and a copy with the state loaded do the same as the operator.

    The state is loaded into a copy that was used with halved buffers, so that results kept from before show.
    """
    x = _both_ways(operator)[0].draw()
    wanted, normal = operator(x), operator.gram(x)
    twin = copy.deepcopy(operator)
    state = {name: value.clone() for name, value in twin.state_dict().items()}
    with torch.no_grad():
        for value in twin.state_dict().values():
            if value.layout == torch.strided and (value.is_floating_point() or value.is_complex()):
                value.mul_(0.5)
    twin(x), twin.gram(x), twin.adjoint(wanted)
    twin.load_state_dict(state)
    copies = {
        "a pickled copy": pickle.loads(pickle.dumps(operator)),  # noqa: S301 (our own bytes)
        "a deep copy": copy.deepcopy(operator),
        "a copy with the state loaded": twin,
    }
    for what, same in copies.items():
        fine = torch.equal(same(x), wanted) and torch.equal(same.gram(x), normal)
        _require(fine, f"{what} gives another result than the operator")


def check_norm_bound(operator: LinearOperator, *, looseness: float = 2.0) -> None:
    """`norm()` is not below the largest singular value, and at most `looseness` times it."""
    truth = float(torch.linalg.matrix_norm(_dense(operator), 2))
    bound, room = operator.norm(), 1e-6 * truth  # the norm may have been computed in single precision
    _require(bound >= truth - room, f"norm() is {bound:.7g}, below the largest singular value {truth:.7g}")
    _require(
        bound <= looseness * truth + room,
        f"norm() is {bound:.4g}, expected at most {looseness:g} times the largest singular value {truth:.4g}",
    )


def check_gram(operator: LinearOperator) -> None:
    """`gram` is the adjoint after the forward."""
    tolerance = max(_CLOSE, 2 * _declared_error(operator))
    for dtype in _both_ways(operator)[0].dtypes:
        x = _both_ways(operator)[0].draw(2, dtype=dtype)
        what = f"gram in {dtype} differs from the adjoint after the forward"
        _require_close(operator.gram(x), operator.adjoint(operator(x)), what, tolerance)


def check_pinv(operator: LinearOperator) -> None:
    """`pinv` gives a finite image, zero for zero data, and A pinv(y) explains a part of clean data y."""
    y = operator(_both_ways(operator)[0].draw(2))
    image = operator.pinv(y)
    _require(bool(torch.isfinite(image).all()), "pinv gives NaN or infinite values")
    at_zero = float(operator.pinv(torch.zeros_like(y)).abs().max())
    _require(at_zero == 0, f"pinv of zeros reaches {at_zero:.1e}, expected 0")
    rest = _relative_error(operator(image), y)
    _require(rest < 1, f"A pinv(y) leaves {rest:.0%} of clean data y, expected less than all of it")


def check_solve_gram(operator: LinearOperator, *, terms: Sequence[LinearOperator] = ()) -> None:
    """`solve_gram`, where it gives a solution, solves the dense system, also with one weight per item."""
    for system in _systems(operator, terms):
        truth = _random((2, *operator.domain_shape), system.parts[0].dtype).to(operator.device)
        for factors in ((1.0, 1.0), (1.0, 3.0)):
            b = torch.stack(
                [
                    (system.matrix([factor * weight for weight in system.rho]) @ x.flatten()).reshape(x.shape)
                    for factor, x in zip(factors, truth, strict=True)
                ]
            )
            rho: list[Step] = list(system.rho)
            if factors[0] != factors[1]:
                scale = torch.tensor(factors, dtype=torch.float64, device=b.device)
                rho = [weight * scale.reshape(2, *(1,) * len(operator.domain_shape)) for weight in system.rho]
            before = b.clone()
            solution = operator.solve_gram(b, rho, system.maps)
            if solution is None:
                continue
            _require(torch.equal(b, before), f"solve_gram {system} changes its input")
            _require_close(solution, truth, f"solve_gram {system} differs from the dense solution")


def check_preconditioner(operator: LinearOperator, *, terms: Sequence[LinearOperator] = ()) -> None:
    """`preconditioner`, where there is one, is Hermitian positive definite and slows nothing down."""
    for system in _systems(operator, terms):
        apply = operator.preconditioner(system.rho, system.maps)
        if apply is None:
            continue
        size, dtype = math.prod(operator.domain_shape), system.parts[0].dtype
        units = torch.eye(size, dtype=dtype, device=operator.device).reshape(size, *operator.domain_shape)
        dense = apply(units).reshape(size, size).T
        _require_close(dense, dense.mH, f"the preconditioner {system} is not Hermitian")
        values = torch.linalg.eigvalsh((dense + dense.mH) / 2)
        smallest, largest = float(values[0]), float(values[-1])
        _require(
            smallest > 0, f"the preconditioner {system} has eigenvalues from {smallest:.1e} to {largest:.1e}"
        )
        plain = conjugate_gradient_iterations(system.matrix(system.rho))
        steered = conjugate_gradient_iterations(system.matrix(system.rho), dense)
        _require(
            steered <= plain,
            f"conjugate gradients need {steered} steps with the preconditioner {system}, {plain} without",
        )


def conjugate_gradient_iterations(
    matrix: Tensor, preconditioner: Tensor | None = None, tolerance: float = 1e-2, most: int = 1000
) -> int:
    """Count the conjugate gradient steps that bring |x - x*|_M to `tolerance` |x*|_M, in double precision.

    Args:
        matrix: M, Hermitian positive definite ``(n, n)``.
        preconditioner: approximate inverse of M ``(n, n)``, or None.
        tolerance: where to stop.
        most: the answer if that many iterations are not enough.
    """
    matrix = matrix.to(_DOUBLE.get(matrix.dtype, matrix.dtype))
    steer = torch.eye(len(matrix)).to(matrix) if preconditioner is None else preconditioner.to(matrix)
    truth = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0)).to(matrix)
    x, residual = torch.zeros_like(truth), matrix @ truth
    goal = tolerance**2 * float(_inner(truth, residual).real)
    direction = steered = steer @ residual
    product = _inner(residual, steered).real
    for iteration in range(1, most + 1):
        image = matrix @ direction
        alpha = product / _inner(direction, image).real
        x, residual = x + alpha * direction, residual - alpha * image
        if float(_inner(truth - x, matrix @ (truth - x)).real) <= goal:
            return iteration
        steered = steer @ residual
        previous, product = product, _inner(residual, steered).real
        direction = steered + product / previous * direction
    return most


_CHECKS: tuple[Callable[..., None], ...] = (
    check_shapes,
    check_linearity,
    check_dense_adjoint,
    check_adjoint,
    check_gradients,
    check_vmap,
    check_batch_equals_loop,
    check_empty_batch,
    check_dtypes,
    check_input_unchanged,
    check_noncontiguous,
    check_deterministic,
    check_pickle_and_state_dict,
    check_norm_bound,
    check_gram,
    check_pinv,
    check_solve_gram,
    check_preconditioner,
)

_DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}
_TINY = 1e-30
_CLOSE = 1e-5
"""Relative error of single precision after a transform or a sum over many rays: 1e-7 times a hundred."""
_GENERIC_RHO = 0.1
"""Weight of a term relative to |A|^2 / |K|^2: neither side of the system dominates."""


def _both_ways(operator: LinearOperator) -> tuple[_Map, _Map]:
    """Forward and adjoint. A complex operator promotes real input, a real one refuses complex images."""
    image, data, device = operator.domain_shape, operator.range_shape, operator.device
    dtypes = (torch.float32,) if operator.domain == "real" else (torch.float32, torch.complex64)
    with torch.no_grad():
        of_real = operator(torch.zeros(image, device=device)).is_complex()
    of_data = (torch.complex64,) if operator.domain == "real" and of_real else dtypes
    return (
        _Map("forward", operator, image, data, dtypes, device),
        _Map("adjoint", operator.adjoint, data, image, of_data, device),
    )


def _all_ways(operator: LinearOperator) -> tuple[_Map, ...]:
    forward, adjoint = _both_ways(operator)
    image, data, device = operator.domain_shape, operator.range_shape, operator.device
    gram = _Map("gram", operator.gram, image, image, forward.dtypes, device)
    return forward, adjoint, gram, _Map("pinv", operator.pinv, data, image, adjoint.dtypes, device)


def _declared_error(operator: LinearOperator) -> float:
    return operator.adjoint_tolerance if operator.adjoint_kind == "approximate" else 0.0


def _random(shape: Shape, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _require_small(operator: LinearOperator) -> None:
    rows, columns = math.prod(operator.range_shape), math.prod(operator.domain_shape)
    if rows * columns > LARGEST_MATRIX:
        raise ValueError(
            f"{type(operator).__name__} {operator.domain_shape} -> {operator.range_shape} is too large to be "
            f"written as a matrix of {rows} x {columns}: check a smaller instance"
        )


def _dense(operator: LinearOperator) -> Tensor:
    """The matrix in double precision; complex data of real images as real, then imaginary rows."""
    _require_small(operator)
    matrix = operator.to_dense(torch.complex128 if operator.domain == "complex" else torch.float64)
    return (
        torch.cat([matrix.real, matrix.imag]) if operator.domain == "real" and matrix.is_complex() else matrix
    )


def _dense_adjoint(operator: LinearOperator) -> Tensor:
    """The matrix of the adjoint, columns as the rows of `_dense`."""
    adjoint = _both_ways(operator)[1]
    size, dtype = math.prod(operator.range_shape), _DOUBLE[adjoint.dtypes[-1]]
    units = torch.eye(size, dtype=dtype, device=operator.device)
    if operator.domain == "real" and dtype.is_complex:
        units = torch.cat([units, 1j * units])
    return operator.adjoint(units.reshape(-1, *operator.range_shape)).flatten(1).T


def _systems(operator: LinearOperator, terms: Sequence[LinearOperator]) -> Iterator[_System]:
    """The operator with the identity, with every term, and with all of them, where that is well posed."""
    identity = Identity(operator.domain_shape).to(operator.device)
    matrix = _dense(operator)
    squared = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    normal = matrix.mH @ matrix
    choices: list[list[LinearOperator]] = [[identity], *([term] for term in terms), [identity, *terms]]
    for maps in choices:
        parts = [normal]
        for term in maps:
            dense = _dense(term).to(normal)
            parts.append(dense.mH @ dense)
        rho = [_GENERIC_RHO * squared / max(term.norm() ** 2, _TINY) for term in maps]
        system = _System(maps, rho, parts)
        values = torch.linalg.eigvalsh(system.matrix(rho))
        if float(values[0]) > 1e-6 * float(values[-1]):
            yield system


def _require(fine: bool, otherwise: str) -> None:
    if not fine:
        raise AssertionError(otherwise)


def _require_close(measured: Tensor, expected: Tensor, otherwise: str, tolerance: float = _CLOSE) -> None:
    _require(
        measured.shape == expected.shape,
        f"{otherwise}: shape {tuple(measured.shape)}, not {tuple(expected.shape)}",
    )
    error = _relative_error(measured, expected)
    _require(error <= tolerance, f"{otherwise}: relative error {error:.1e}, expected at most {tolerance:.0e}")


def _require_finite_differences(way: _Map, x: Tensor) -> None:
    """Compare first and second derivatives with differences; a linear map allows large steps."""
    x = x[:1].requires_grad_()
    try:
        torch.autograd.gradcheck(
            way.apply, x, eps=0.1, atol=1e-5, rtol=1e-4, fast_mode=True, check_forward_ad=True
        )
        torch.autograd.gradgradcheck(way.apply, x, eps=0.1, atol=1e-5, rtol=1e-4, fast_mode=True)
    except RuntimeError as error:
        raise AssertionError(
            f"the derivative of {way.name} differs from finite differences: {error}"
        ) from None


def _relative_error(measured: Tensor, expected: Tensor) -> float:
    """|measured - expected| / |expected|; infinite where one is not finite, or where only one is zero."""
    scale, difference = (
        float(expected.abs().square().sum().sqrt()),
        (measured - expected).abs().square().sum().sqrt(),
    )
    if not math.isfinite(float(difference)):
        return math.inf
    return float(difference) / scale if scale > 0 else math.inf if float(difference) > 0 else 0.0


def _inner(x: Tensor, y: Tensor) -> Tensor:
    return (x.conj() * y).sum()


def _as_real_as(like: Tensor, x: Tensor) -> Tensor:
    """The real part where `like` is real: the gradient of a real input is real."""
    return x if like.is_complex() else x.real if x.is_complex() else x
