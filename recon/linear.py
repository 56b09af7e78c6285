"""Linear forward operators: shapes, adjoint, algebra, norm, and the bridge to automatic differentiation."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
Field = Literal["real", "complex", "any"]
Step = float | Tensor

_COMPLEX = {torch.float16: torch.complex32, torch.float32: torch.complex64, torch.float64: torch.complex128}


class ShapeError(ValueError):
    """A tensor's trailing axes are not what the operator acts on."""


class LinearOperator(nn.Module):
    """A linear map between images ``(*batch, *domain_shape)`` and data ``(*batch, *range_shape)``.

    A new forward model states its two shapes and `_forward`; everything else has a default. `_forward` (and
    `_adjoint`, `_gram` where written) receive a checked tensor of any floating precision with any number of
    leading batch axes; with the class attribute ``flatten_batch = True`` they receive exactly one batch axis.
    Gradients (first and second order, forward mode, vmap) come from the base class.

    Class attributes:
        domain: ``"real"`` refuses complex images, ``"complex"`` promotes real ones, ``"any"`` keeps both.
        nonnegative: every entry of the matrix is >= 0 (CT); `norm` is then a guaranteed upper bound.
        adjoint_kind: ``"exact"``, or ``"approximate"`` when `_adjoint` is not the transpose of `_forward`.
        adjoint_tolerance: the measured relative error of an approximate adjoint.
        flatten_batch: whether the author's methods want exactly one batch axis.
    """

    domain: Field = "any"
    nonnegative: bool = False
    adjoint_kind: Literal["exact", "approximate"] = "exact"
    adjoint_tolerance: float = 0.0
    flatten_batch: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the constructor's arguments: files and provenance rebuild the operator from them."""
        self = super().__new__(cls)
        object.__setattr__(self, "constructor_arguments", (args, kwargs))
        return self

    def __init__(self, domain_shape: Sequence[int], range_shape: Sequence[int]) -> None:
        super().__init__()
        self.domain_shape: Shape = _checked_shape(domain_shape, "domain_shape")
        self.range_shape: Shape = _checked_shape(range_shape, "range_shape")
        self._cached_norm: tuple[tuple[tuple[int, ...], ...], float] | None = None
        self._gives_complex: bool | None = None

    # What an author writes

    def _forward(self, x: Tensor) -> Tensor:
        raise TypeError(
            f"{type(self).__name__} has no _forward: write one that maps {self.domain_shape} to data"
        )

    def _adjoint(self, y: Tensor) -> Tensor:
        """Conjugate transpose of `_forward`; by default its vector-Jacobian product."""
        batch = y.shape[: y.ndim - len(self.range_shape)]
        dtype = y.dtype if self.domain != "real" else real_dtype(y.dtype)
        differentiable = torch.is_grad_enabled() and self._is_learnable()
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.zeros((*batch, *self.domain_shape), dtype=dtype, device=y.device, requires_grad=True)
            image = self._forward(x)
            if not image.requires_grad:
                raise TypeError(
                    f"{type(self).__name__}._forward cannot be differentiated by torch: write its _adjoint"
                )
            y = y.clone() if y.is_inference() else y
            cotangent = y.to(image.dtype) if image.is_complex() or not y.is_complex() else y.real
            (gradient,) = torch.autograd.grad(
                image, x, cotangent, create_graph=differentiable, materialize_grads=True
            )
        return gradient if differentiable else gradient.detach()

    def _gram(self, x: Tensor) -> Tensor:
        """A^H A x; override where it is cheaper than the pair."""
        return self._run(self._run(x, adjoint=False), adjoint=True)

    def _norm(self) -> float:
        """Largest singular value; override with the exact number where it is known."""
        return _collatz_wielandt_bound(self) if self.nonnegative else _lanczos_norm(self)

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        """Direct reconstruction; by default the adjoint, scaled per item to fit the data best."""
        if options:
            raise TypeError(f"{type(self).__name__}.pinv takes no options, got {', '.join(sorted(options))}")
        image = self.adjoint(y)
        # brought to order 1 first: squares of data in small or large units leave the range of float32
        peak = image.detach().abs().amax(tuple(range(-len(self.domain_shape), 0)), keepdim=True)
        image = image / torch.where(peak > 0, peak, torch.ones_like(peak))
        predicted = self(image)
        axes = tuple(range(-len(self.range_shape), 0))
        energy = predicted.abs().square().sum(axes)
        fit = (predicted.conj() * y).real.sum(axes) / energy.clamp_min(torch.finfo(energy.dtype).tiny)
        return image * fit.reshape(fit.shape + (1,) * len(self.domain_shape))

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Solve (A^H A + sum_i rho_i K_i^H K_i) x = b exactly, or return None where no closed form is known.

        Args:
            b: right-hand side ``(B, *domain_shape)``.
            rho: one weight a term, each a number or a tensor that broadcasts against ``b``.
            terms: the linear maps K_i.
        """
        return None

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """A cheap positive definite approximation of (A^H A + sum_i rho_i K_i^H K_i)^-1, or None."""
        return None

    def fourier_symbol(self) -> Tensor | None:
        """Eigenvalues of A^H A on the unshifted FFT grid of `domain_shape`, where the FFT diagonalises it."""
        return None

    def approximate_symbol(self) -> Tensor | None:
        """As `fourier_symbol`, of a nearby operator that the FFT diagonalises; for preconditioners."""
        return self.fourier_symbol()

    @property
    def sample_mask(self) -> Tensor | None:
        """1 where data exist, broadcastable to `range_shape`; None means everywhere."""
        return None

    def noise_level(self, y: Tensor) -> Tensor:
        """Estimate the noise standard deviation of each item of ``y`` (B, *range_shape).

        Median absolute second difference along the last axis (a difference annihilates smooth data), scaled
        for white Gaussian noise; for complex data the deviation of the real and of the imaginary part each.
        """
        return _second_difference_noise(y, self)

    # What a user calls

    def forward(self, x: Tensor) -> Tensor:
        """A x: ``(*batch, *domain_shape)`` to ``(*batch, *range_shape)``."""
        return self._differentiable(self._checked(x, adjoint=False), adjoint=False)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y: ``(*batch, *range_shape)`` to ``(*batch, *domain_shape)``."""
        return self._differentiable(self._checked(y, adjoint=True), adjoint=True)

    def pinv(self, y: Tensor, **options: Any) -> Tensor:
        """Direct reconstruction of ``y``: filtered back-projection, zero-filled inverse FFT, ..."""
        y = self._checked(y, adjoint=True)
        direct = functools.partial(self._pinv, **options) if options else self._pinv
        return self._call(direct, y, self.range_shape, self.domain_shape, to_image=True)

    @property
    def H(self) -> LinearOperator:
        return Adjoint(self)

    @property
    def gram(self) -> LinearOperator:
        """The normal operator A^H A."""
        return Gram(self)

    def norm(self) -> float:
        """Largest singular value, not below the true one (a guarantee for non-negative operators).

        Kept until a buffer or parameter is changed, moved or replaced.
        """
        contents = tuple(
            (id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
            for tensor in (*self.buffers(), *self.parameters())
        )
        if self._cached_norm is None or self._cached_norm[0] != contents:
            with torch.no_grad():
                self._cached_norm = (contents, float(self._norm()))
        return self._cached_norm[1]

    def to_dense(self, dtype: torch.dtype | None = None, chunk: int = 256) -> Tensor:
        """The matrix (range size, domain size), made of the images of unit vectors; for small operators."""
        if dtype is None:
            dtype = torch.complex64 if self.domain == "complex" else torch.float32
        size = math.prod(self.domain_shape)
        columns = []
        with torch.no_grad():
            for start in range(0, size, chunk):
                count = min(chunk, size - start)
                units = torch.zeros(count, size, dtype=dtype, device=self.device)
                units[torch.arange(count), torch.arange(start, start + count)] = 1
                columns.append(self(units.reshape(count, *self.domain_shape)).reshape(count, -1))
        return torch.cat(columns).T.contiguous()

    def measure(self, x: Tensor, *, noise: Any = None, seed: int = 0) -> Tensor:
        """Simulate a measurement: A x, then noise where data exist.

        Args:
            x: image ``(*batch, *domain_shape)``.
            noise: a `Noise`, its name (``"poisson:photons=1e4"``), or None for noise-free data.
            seed: every item of a batch draws from its own generator made of this seed and its index.
        """
        from recon.simulate import as_noise

        clean = self(x)
        if noise is None:
            return clean
        model = as_noise(noise)
        return model(clean, item_ndim=len(self.range_shape), seed=seed, sample_mask=self.sample_mask)

    @property
    def device(self) -> torch.device:
        """Where the buffers lie; an operator without buffers works wherever its input lies."""
        for tensor in (*self.buffers(), *self.parameters()):
            return tensor.device
        return torch.device("cpu")

    def __add__(self, other: LinearOperator) -> LinearOperator:
        return Sum([self, other])

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return Sum([self, Scaled(other, -1.0)])

    def __neg__(self) -> LinearOperator:
        return Scaled(self, -1.0)

    def __mul__(self, factor: complex) -> LinearOperator:
        return Scaled(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: complex) -> LinearOperator:
        return Scaled(self, 1 / _checked_factor(divisor))

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Composition(self, other)

    def extra_repr(self) -> str:
        """Shapes for `repr`."""
        return f"{self.domain_shape} -> {self.range_shape}"

    # How it works

    def _is_learnable(self) -> bool:
        return any(parameter.requires_grad for parameter in self.parameters())

    def _differentiable(self, x: Tensor, *, adjoint: bool) -> Tensor:
        if self._is_learnable():  # gradients must also reach the operator's own parameters
            return self._run(x, adjoint=adjoint)
        result: Tensor = _LinearFunction.apply(self, adjoint, x)
        return result

    def _gives_complex_data(self) -> bool:
        """Whether a real image gives complex data, as a spectrum does; tried once."""
        if self._gives_complex is None:
            with torch.no_grad():
                x = torch.zeros(self.domain_shape, device=self.device)
                self._gives_complex = self._run(x, adjoint=False).is_complex()
        return self._gives_complex

    def _checked(self, x: Tensor, *, adjoint: bool) -> Tensor:
        name, item = type(self).__name__, self.range_shape if adjoint else self.domain_shape
        what = "data" if adjoint else "image"
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} acts on torch tensors, got {type(x).__name__}: use torch.as_tensor(x)")
        if x.ndim < len(item) or tuple(x.shape[x.ndim - len(item) :]) != item:
            raise ShapeError(
                f"{name} needs {what} of shape (*batch, {', '.join(map(str, item))}), got {tuple(x.shape)}"
            )
        if not (x.is_floating_point() or x.is_complex()):
            raise TypeError(f"{name} needs floating-point {what}, got {x.dtype}: convert with x.float()")
        if x.is_complex() and self.domain == "real" and not (adjoint and self._gives_complex_data()):
            raise TypeError(
                f"{name} acts on real images, got {x.dtype}: pass the real and imaginary parts as two items, "
                "or the magnitude"
            )
        if self.domain == "complex" and not x.is_complex() and x.dtype not in _COMPLEX:
            raise TypeError(
                f"{name} needs complex {what}, and {x.dtype} has no complex form: convert with x.float()"
            )
        for tensor in (*self.buffers(), *self.parameters()):
            if tensor.device != x.device:
                raise ValueError(
                    f"{name} lies on {tensor.device} but the {what} on {x.device}: move one with .to(...)"
                )
            break
        return x

    def _run(self, x: Tensor, *, adjoint: bool) -> Tensor:
        if adjoint:
            return self._call(self._adjoint, x, self.range_shape, self.domain_shape, to_image=True)
        return self._call(self._forward, x, self.domain_shape, self.range_shape, to_image=False)

    def _run_gram(self, x: Tensor) -> Tensor:
        return self._call(self._gram, x, self.domain_shape, self.domain_shape, to_image=True)

    def _call(
        self, method: Callable[[Tensor], Tensor], x: Tensor, source: Shape, target: Shape, *, to_image: bool
    ) -> Tensor:
        """Hand the author's method a clean tensor, and the caller the declared shape, precision and field."""
        batch = tuple(x.shape[: x.ndim - len(source)])
        if self.domain == "complex" and not x.is_complex():
            x = x.to(_COMPLEX[x.dtype])
        x = x.resolve_conj().resolve_neg()
        if 0 in batch:
            return x.new_zeros((*batch, *target))
        result = method(x.reshape(-1, *source) if self.flatten_batch else x)
        if self.flatten_batch and tuple(result.shape[1:]) == target:
            result = result.reshape(*batch, *target)
        if tuple(result.shape) != (*batch, *target):
            raise ShapeError(
                f"{type(self).__name__}.{getattr(method, '__name__', '_pinv')} returned shape "
                f"{tuple(result.shape)} for input {tuple(x.shape)}; its declared shapes ask for "
                f"{(*batch, *target)}"
            )
        if to_image and self.domain == "real" and result.is_complex():
            result = result.real
        if real_dtype(result.dtype) != real_dtype(x.dtype):
            wanted = real_dtype(x.dtype)
            result = result.to(_COMPLEX[wanted] if result.is_complex() else wanted)
        return result


class _LinearFunction(torch.autograd.Function):
    """A linear map and its adjoint, each the other's derivative; recursion gives every higher order."""

    @staticmethod
    def forward(operator: LinearOperator, adjoint: bool, x: Tensor) -> Tensor:
        result = operator._run(x, adjoint=adjoint)
        # a view of the input would let a change of the data change the image
        shared = result is x or (result._is_view() and result._base is (x._base if x._is_view() else x))
        return result.clone() if shared else result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[LinearOperator, bool, Tensor], output: Tensor) -> None:
        ctx.operator, ctx.adjoint, x = inputs
        ctx.complex_input = x.is_complex()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        (gradient,) = gradients
        result = _LinearFunction.apply(ctx.operator, not ctx.adjoint, gradient)
        return None, None, result if ctx.complex_input or not result.is_complex() else result.real

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        result: Tensor = _LinearFunction.apply(ctx.operator, ctx.adjoint, tangents[-1])
        return result

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], operator: LinearOperator, adjoint: bool, x: Tensor
    ) -> tuple[Tensor, int]:
        return _LinearFunction.apply(operator, adjoint, x.movedim(in_dims[-1], 0)), 0


class Identity(LinearOperator):
    """x to x: denoising, and the linear map inside a prior that acts on the image itself."""

    nonnegative = True

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape, shape)

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()

    def _gram(self, x: Tensor) -> Tensor:
        return x.clone()

    def _norm(self) -> float:
        return 1.0

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        return y.clone()

    def fourier_symbol(self) -> Tensor:
        """Ones."""
        return torch.ones(self.domain_shape)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Division in the Fourier domain where every term is diagonal there."""
        return solve_in_fourier(torch.ones(self.domain_shape, device=b.device), b, rho, terms)


class Adjoint(LinearOperator):
    """A^H as an operator of its own."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.range_shape, operator.domain_shape)
        self.operator = operator
        self.nonnegative = operator.nonnegative
        self.adjoint_kind, self.adjoint_tolerance = operator.adjoint_kind, operator.adjoint_tolerance

    @property
    def domain(self) -> Field:  # type: ignore[override]
        """The field of A's data."""
        spectrum = self.operator.domain == "real" and self.operator._gives_complex_data()
        return "any" if spectrum else self.operator.domain

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator(y)

    def _checked(self, x: Tensor, *, adjoint: bool) -> Tensor:
        return self.operator._checked(x, adjoint=not adjoint)

    def _run(self, x: Tensor, *, adjoint: bool) -> Tensor:
        return self.operator._run(x, adjoint=not adjoint)

    def _norm(self) -> float:
        return self.operator.norm()

    @property
    def H(self) -> LinearOperator:
        return self.operator


class Gram(LinearOperator):
    """A^H A, by the operator's own shortcut where it has one."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__(operator.domain_shape, operator.domain_shape)
        self.operator = operator
        self.domain, self.nonnegative = operator.domain, operator.nonnegative
        self.adjoint_kind, self.adjoint_tolerance = operator.adjoint_kind, operator.adjoint_tolerance

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator._run_gram(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._run_gram(y)

    def _norm(self) -> float:
        return self.operator.norm() ** 2


class Scaled(LinearOperator):
    """c A."""

    def __init__(self, operator: LinearOperator, factor: complex) -> None:
        _check_is_operator(operator, "scale")
        factor = _checked_factor(factor)
        super().__init__(operator.domain_shape, operator.range_shape)
        self.operator, self.factor = operator, factor
        if isinstance(factor, complex) and operator.domain == "real":
            raise TypeError(
                f"cannot scale the real operator {type(operator).__name__} by the complex {factor}"
            )
        self.domain = operator.domain
        self.nonnegative = operator.nonnegative and not isinstance(factor, complex) and factor >= 0
        self.adjoint_kind, self.adjoint_tolerance = operator.adjoint_kind, operator.adjoint_tolerance

    def _forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.factor.conjugate() * self.operator.adjoint(y)

    def _gram(self, x: Tensor) -> Tensor:
        return abs(self.factor) ** 2 * self.operator.gram(x)

    def _norm(self) -> float:
        return abs(self.factor) * self.operator.norm()

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        return self.operator.pinv(y, **options) / self.factor

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """The operator's own, with everything divided by |c|^2."""
        square = abs(self.factor) ** 2
        if square == 0:
            return None
        return self.operator.solve_gram(b / square, [weight / square for weight in rho], terms)

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The operator's own, with everything divided by |c|^2."""
        square = abs(self.factor) ** 2
        inverse = None if square == 0 else self.operator.preconditioner([w / square for w in rho], terms)
        return None if inverse is None else lambda residual: inverse(residual / square)

    @property
    def sample_mask(self) -> Tensor | None:
        return self.operator.sample_mask

    def noise_level(self, y: Tensor) -> Tensor:
        return self.operator.noise_level(y)


class Composition(LinearOperator):
    """A B: first B, then A."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if not isinstance(right, LinearOperator):
            raise TypeError(f"op @ other composes operators, got {type(right).__name__}: apply with op(x)")
        if left.domain_shape != right.range_shape:
            raise ShapeError(
                f"cannot compose {type(left).__name__} @ {type(right).__name__}: the left acts on "
                f"{left.domain_shape}, the right gives {right.range_shape}"
            )
        super().__init__(right.domain_shape, left.range_shape)
        self.left, self.right = left, right
        self.domain = right.domain if right.domain != "any" else left.domain
        self.nonnegative = left.nonnegative and right.nonnegative
        _inherit_adjoint_kind(self, (left, right))

    def _forward(self, x: Tensor) -> Tensor:
        return self.left(self.right(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.right.adjoint(self._between(self.left.adjoint(y)))

    def _gram(self, x: Tensor) -> Tensor:
        return self.right.adjoint(self._between(self.left.gram(self.right(x))))

    def _between(self, image: Tensor) -> Tensor:
        """What B^H is applied to: where B gives real data and A takes complex images, the real part."""
        if image.is_complex() and self.right.domain == "real" and not self.right._gives_complex_data():
            return image.real
        return image

    @property
    def sample_mask(self) -> Tensor | None:
        return self.left.sample_mask

    def noise_level(self, y: Tensor) -> Tensor:
        return self.left.noise_level(y)


class Sum(LinearOperator):
    """A + B + ..."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        first = operators[0]
        for other in operators[1:]:
            _check_is_operator(other, "add")
            if (other.domain_shape, other.range_shape) != (first.domain_shape, first.range_shape):
                raise ShapeError(
                    f"cannot add {type(other).__name__} {other.domain_shape} -> {other.range_shape} to "
                    f"{type(first).__name__} {first.domain_shape} -> {first.range_shape}"
                )
        super().__init__(first.domain_shape, first.range_shape)
        self.operators = nn.ModuleList(operators)
        self.domain = _common_field(operators)
        self.nonnegative = all(operator.nonnegative for operator in operators)
        _inherit_adjoint_kind(self, operators)

    def _forward(self, x: Tensor) -> Tensor:
        return _add(operator(x) for operator in self._members())

    def _adjoint(self, y: Tensor) -> Tensor:
        return _add(operator.adjoint(y) for operator in self._members())

    def _members(self) -> list[LinearOperator]:
        return list(self.operators)  # type: ignore[arg-type]


class Stack(LinearOperator):
    """Several operators that look at one image; see `stack`."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        if not operators:
            raise ValueError("stack needs at least one operator, got an empty list")
        first = operators[0]
        for other in operators:
            _check_is_operator(other, "stack")
            if other.domain_shape != first.domain_shape:
                raise ShapeError(
                    f"stacked operators must act on one image shape: {type(first).__name__} acts on "
                    f"{first.domain_shape}, {type(other).__name__} on {other.domain_shape}"
                )
        uniform = all(operator.range_shape == first.range_shape for operator in operators)
        sizes = [math.prod(operator.range_shape) for operator in operators]
        super().__init__(
            first.domain_shape, (len(operators), *first.range_shape) if uniform else (sum(sizes),)
        )
        self.operators = nn.ModuleList(operators)
        self.sizes = sizes
        self.domain = _common_field(operators)
        self.nonnegative = all(operator.nonnegative for operator in operators)
        _inherit_adjoint_kind(self, operators)

    def _forward(self, x: Tensor) -> Tensor:
        parts = [operator(x) for operator in self.operators]
        if self._is_uniform():
            return torch.stack(parts, dim=-len(self.range_shape))
        batch = x.shape[: x.ndim - len(self.domain_shape)]
        return torch.cat([part.reshape(*batch, -1) for part in parts], dim=-1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _add(
            operator.adjoint(part) for operator, part in zip(self._members(), self.split(y), strict=True)
        )

    def _gram(self, x: Tensor) -> Tensor:
        return _add(operator.gram(x) for operator in self._members())

    def split(self, y: Tensor) -> list[Tensor]:
        """The members' own data, in their own shapes."""
        if self._is_uniform():
            return list(y.unbind(dim=-len(self.range_shape)))
        batch = y.shape[:-1]
        parts = y.split(self.sizes, dim=-1)
        return [
            part.reshape(*batch, *operator.range_shape)
            for operator, part in zip(self._members(), parts, strict=True)
        ]

    def _is_uniform(self) -> bool:
        return len({operator.range_shape for operator in self._members()}) == 1

    def _members(self) -> list[LinearOperator]:
        return list(self.operators)  # type: ignore[arg-type]

    @property
    def sample_mask(self) -> Tensor | None:
        masks = [operator.sample_mask for operator in self._members()]
        if all(mask is None for mask in masks):
            return None
        filled = [
            (torch.ones(operator.range_shape, device=self.device) if mask is None else mask).expand(
                operator.range_shape
            )
            for operator, mask in zip(self._members(), masks, strict=True)
        ]
        return torch.stack(filled) if self._is_uniform() else torch.cat([mask.reshape(-1) for mask in filled])


def stack(operators: Sequence[LinearOperator]) -> LinearOperator:
    """Operators that look at one image, as one operator.

    Members of equal range shape give data ``(*batch, members, *range_shape)``; members of different range
    shapes give their flattened data joined along one axis (`Stack.split` takes them apart).
    """
    return Stack(list(operators))


def solve_in_fourier(
    symbol: Tensor, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]
) -> Tensor | None:
    """Solve (F^H diag(symbol) F + sum_i rho_i K_i^H K_i) x = b if the FFT diagonalises every term, else None.

    Args:
        symbol: eigenvalues of A^H A on the unshifted FFT grid of the image.
        b: right-hand side ``(B, *shape)``; the last ``symbol.ndim`` axes are transformed.
        rho: weights of the terms, numbers or tensors that broadcast against ``b``.
        terms: the linear maps K_i, asked for their `fourier_symbol`.
    """
    axes = tuple(range(-symbol.ndim, 0))
    total: Tensor = symbol.to(real_dtype(b.dtype))
    for weight, term in zip(rho, terms, strict=True):
        eigenvalues = term.fourier_symbol()
        if eigenvalues is None:
            return None
        total = total + weight * eigenvalues.to(b.device, total.dtype)
    if float(total.min()) <= 0:
        return None
    if b.is_complex():
        return torch.fft.ifftn(torch.fft.fftn(b, dim=axes) / total, dim=axes)
    half = total[..., : total.shape[-1] // 2 + 1]
    return torch.fft.irfftn(torch.fft.rfftn(b, dim=axes) / half, s=b.shape[-symbol.ndim :], dim=axes)


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of a dtype: complex64 to float32, and so on; real dtypes stay."""
    return dtype.to_real() if dtype.is_complex else dtype


def complex_dtype(dtype: torch.dtype) -> torch.dtype:
    """The complex dtype of a precision: float32 to complex64, and so on; complex dtypes stay."""
    return dtype if dtype.is_complex else _COMPLEX[dtype]


def _checked_shape(shape: Sequence[int], name: str) -> Shape:
    values = tuple(int(side) for side in shape)
    if not values or any(side < 1 for side in values):
        raise ValueError(f"{name} must be one or more positive integers, got {tuple(shape)}")
    return values


def _check_is_operator(thing: Any, verb: str) -> None:
    if not isinstance(thing, LinearOperator):
        raise TypeError(f"can only {verb} operators (recon.LinearOperator), got {type(thing).__name__}")


def _checked_factor(factor: Any) -> float | complex:
    if not isinstance(factor, numbers.Complex):
        raise TypeError(
            f"an operator is multiplied by a number, got {type(factor).__name__}: compose with @, apply with op(x)"
        )
    return float(factor) if isinstance(factor, numbers.Real) else complex(factor)


def _common_field(operators: Sequence[LinearOperator]) -> Field:
    fields = {operator.domain for operator in operators} - {"any"}
    if fields == {"real", "complex"}:
        raise TypeError("cannot join an operator on real images with one on complex images")
    return fields.pop() if fields else "any"


def _inherit_adjoint_kind(operator: LinearOperator, members: Sequence[LinearOperator]) -> None:
    if any(member.adjoint_kind == "approximate" for member in members):
        operator.adjoint_kind = "approximate"
        operator.adjoint_tolerance = sum(member.adjoint_tolerance for member in members)


def _add(tensors: Any) -> Tensor:
    iterator = iter(tensors)
    total: Tensor = next(iterator)
    for tensor in iterator:
        total = total + tensor
    return total


def _lanczos_norm(
    operator: LinearOperator, tolerance: float = 1e-3, least: int = 30, most: int = 300
) -> float:
    """Largest singular value from the tridiagonal matrix that Lanczos' method makes of A^H A.

    From a fixed random start, at least 30 steps, then until the residual of the largest Ritz value is below
    the
    tolerance (Golub and Van Loan 2013, 10.1). The Ritz value comes from below and lies within its residual
    of an
    eigenvalue: the residual is added, and 1 % for a direction that the start hardly holds. Where two singular
    values lie close, a power iteration seems to settle long before it is there.
    """
    generator = torch.Generator().manual_seed(0)
    gives_complex = operator.domain == "any" and operator._gives_complex_data()
    dtype = torch.complex64 if operator.domain == "complex" or gives_complex else torch.float32
    vector = torch.randn(operator.domain_shape, generator=generator, dtype=dtype).to(operator.device)
    vector = vector / torch.linalg.vector_norm(vector)
    before, coupling = torch.zeros_like(vector), 0.0
    diagonal: list[float] = []
    couplings: list[float] = []
    largest = residual = 0.0
    for step in range(1, most + 1):
        image = operator._run_gram(vector) - coupling * before
        diagonal.append(float(torch.linalg.vecdot(vector.flatten(), image.flatten()).real))
        image = image - diagonal[-1] * vector
        # float64: squares of small or large units leave the range of float32
        wide = torch.complex128 if image.is_complex() else torch.float64
        coupling = float(torch.linalg.vector_norm(image, dtype=wide).real)
        exhausted = coupling <= 1e-6 * max(*map(abs, diagonal), *couplings, 0.0)
        if exhausted or step == most or (step >= least and step % 5 == 0):
            off = torch.tensor(couplings, dtype=torch.float64)
            matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
            matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
            values, vectors = torch.linalg.eigh(matrix)
            largest, residual = float(values[-1]), coupling * abs(float(vectors[-1, -1]))
            if exhausted or residual <= tolerance * largest:
                break
        couplings.append(coupling)
        before, vector = vector, image / coupling
    return 1.01 * math.sqrt(max(largest + residual, 0.0))


def _collatz_wielandt_bound(operator: LinearOperator, tolerance: float = 1e-3, most: int = 60) -> float:
    """An upper bound of the norm of a non-negative operator.

    For B = A^H A >= 0 and any x > 0 the largest eigenvalue lies between min (Bx)_i/x_i and max (Bx)_i/x_i
    (Collatz 1942, Wielandt 1950), so the bound holds at every iteration; iterating x <- Bx tightens it.
    Pixels that no ray meets drop out. The last digits of float32 are covered by a factor 1 + 1e-4.
    """
    x = torch.ones(operator.domain_shape, device=operator.device)
    upper = math.inf
    for _ in range(most):
        image = operator.gram(x)
        met = image > 0
        if not bool(met.any()):
            return 0.0
        ratio = image[met] / x[met]
        upper = min(upper, float(ratio.max()))
        lower = float((image * x).sum() / (x * x).sum())
        if upper <= (1 + tolerance) * lower:
            break
        # pixels that decay to nothing are held up: a positive x keeps the bound valid and finite
        x = (image / image.max()).clamp_min(1e-6) * met
    return math.sqrt(upper) * (1 + 1e-4)


def _second_difference_noise(y: Tensor, operator: LinearOperator) -> Tensor:
    values = torch.view_as_real(y.resolve_conj()).movedim(-1, 1) if y.is_complex() else y.unsqueeze(1)
    mask = operator.sample_mask
    measured = torch.ones(operator.range_shape, device=y.device, dtype=torch.bool)
    if mask is not None:
        measured = mask.to(y.device).bool().expand(operator.range_shape)
    if y.shape[-1] >= 3:
        triple = measured[..., 2:] & measured[..., 1:-1] & measured[..., :-2]
        if int(triple.sum()) >= 16:
            difference = (values[..., 2:] - 2 * values[..., 1:-1] + values[..., :-2]) / math.sqrt(6)
            flat = difference[..., triple].abs().flatten(1)
            return flat.median(dim=1).values / 0.6744897501960817
    raise ValueError(
        f"the noise level of {type(operator).__name__} data of shape {operator.range_shape} cannot be estimated: "
        'give it, as in fidelity=("gaussian", {"noise_level": 0.01})'
    )
