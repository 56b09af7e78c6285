"""Linear forward operators: shapes, adjoint, algebra, norm, and the bridge to automatic differentiation."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn

from recon import norms
from recon.parameters import Param
from recon.subsets import Subset

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

    Attributes:
        domain: ``"real"`` refuses complex images, ``"complex"`` promotes real ones, ``"any"`` keeps both.
        nonnegative: every entry of the matrix is >= 0 (CT); `norm` is then a bound without exception.
        orthonormal: K K^H = 1: the rows of the matrix are orthonormal. The proximal map of g(K x) then follows from
            that of g in closed form.
        adjoint_kind: ``"exact"``, or ``"approximate"`` when `_adjoint` is not the transpose of `_forward`.
        adjoint_tolerance: the measured relative error of an approximate adjoint.
        flatten_batch: whether the author's methods want exactly one batch axis.
    """

    domain: Field = "any"
    nonnegative: bool = False
    orthonormal: bool = False
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
        # the gradient may be a view of the data, as that of a sum is
        return gradient if differentiable else gradient.detach().clone()

    def _gram(self, x: Tensor) -> Tensor:
        """A^H A x; override where it is cheaper than the pair."""
        return self._run(self._run(x, adjoint=False), adjoint=True)

    def _norm(self) -> float:
        """A bound of the largest singular value; override with the exact number where it is known."""
        return norms.collatz_wielandt_bound(self) if self.nonnegative else norms.lanczos_bound(self)

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        """Direct reconstruction; by default the adjoint, scaled per item to fit the data best."""
        if options:
            raise TypeError(f"{type(self).__name__}.pinv takes no options, got {', '.join(sorted(options))}")
        return self._fitted(self.adjoint(y), y)

    def _fitted(self, image: Tensor, y: Tensor) -> Tensor:
        """The image scaled per item so that A image is as near to the data as a scale can bring it."""
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

    def weights_seen(self, weights: Tensor) -> Tensor | None:
        """The weights W of the samples as each pixel sees them: e with A^H W A near e^(1/2) A^H A e^(1/2), or None.

        Args:
            weights: the diagonal of W, >= 0, ``(B, *range_shape)``.

        Returns:
            ``(B, *domain_shape)``, or None where no such image is known.
        """
        return None

    def weighted_preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator], seen: Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """As `preconditioner`, of A^H W A with the weights that `weights_seen` gave; None asks for W's mean."""
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

    def subsets(self, count: int) -> list[Subset]:
        """The rows of the matrix, dealt out to ``count`` operators of about equal share; for ordered subsets.

        Raises:
            TypeError: the operator has no subsets.
        """
        raise TypeError(
            f"{type(self).__name__} has no subsets: write `subsets(count)`, which returns a list of "
            "recon.subsets.Subset(operator of some rows, one slice for each axis of the data), or use one subset"
        )

    def restricted(self, mask: Tensor) -> LinearOperator:
        """The same measurement of fewer samples: those where `mask` and `sample_mask` are 1; zero elsewhere.

        Override where the operator has shortcuts or a direct reconstruction of its own for such data. `pinv` here is
        that of whole `subsets` where the mask is made of such, as every other view of a scan is; for any other mask
        it is the operator's of data with zeros, A^+ M y rather than (M A)^+ y, which loses brightness: with a random
        half of the views of CT it gives half of the values.

        Args:
            mask: 1 where a sample stays, broadcastable to `range_shape`.

        Raises:
            ValueError: other values than 0 and 1, another shape, or no sample left.
        """
        return algebra.Restricted(self, mask)

    def noise_level(self, y: Tensor) -> Tensor:
        """Estimate the noise standard deviation of each item of ``y`` (B, *range_shape).

        Median absolute second difference along the last axis (a difference annihilates smooth data), scaled
        for white Gaussian noise; for complex data the deviation of the real and of the imaginary part each.
        """
        return second_difference_noise(y, self, type(self).__name__)

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
        return algebra.Adjoint(self)

    @property
    def gram(self) -> LinearOperator:
        """The normal operator A^H A."""
        return algebra.Gram(self)

    def norm(self) -> float:
        """An upper bound of the largest singular value, of which step sizes are made.

        A closed form where the operator has one; for non-negative operators the Collatz-Wielandt bound, always
        above; for others that of `recon.norms.lanczos_bound`, but for one random start in a million.

        Kept until a buffer or parameter is changed, moved or replaced.
        """
        contents = state_of([*self.buffers(), *self.parameters()])
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
        return algebra.Sum([self, other])

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return algebra.Sum([self, algebra.Scaled(other, -1.0)])

    def __neg__(self) -> LinearOperator:
        return algebra.Scaled(self, -1.0)

    def __mul__(self, factor: complex) -> LinearOperator:
        return algebra.Scaled(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: complex) -> LinearOperator:
        return algebra.Scaled(self, 1 / algebra.checked_factor(divisor))

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return algebra.Composition(self, other)

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
    orthonormal = True

    def __init__(self, shape: Annotated[Sequence[int], Param("image shape", unit="px", ge=1)]) -> None:
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

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """That of the first term that has one, of its K^H K and of all the others, this one among them."""
        for place, (weight, term) in enumerate(zip(rho, terms, strict=True)):
            if isinstance(term, Identity):
                continue
            shares = [1 / weight, *(other / weight for other in [*rho[:place], *rho[place + 1 :]])]
            inverse = term.preconditioner(shares, [self, *terms[:place], *terms[place + 1 :]])
            if inverse is not None:
                return functools.partial(_divided, inverse, weight)
        return None


def _divided(inverse: Callable[[Tensor], Tensor], weight: Step, residual: Tensor) -> Tensor:
    return inverse(residual) / weight


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


def state_of(tensors: Sequence[Tensor]) -> tuple[tuple[int, ...], ...]:
    """Which tensors these are, where they lie and how often they were changed: the same while nothing is."""
    return tuple(
        (id(tensor), tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors
    )


def second_difference_noise(y: Tensor, operator: LinearOperator, name: str) -> Tensor:
    """See `LinearOperator.noise_level`; errors call the data those of `name`."""
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
        f"the noise level of {name} data of shape {operator.range_shape} cannot be estimated: "
        'give it, as in fidelity=("gaussian", {"noise_level": 0.01})'
    )


from recon import algebra  # noqa: E402  (the algebra is made of the class above)
