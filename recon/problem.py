"""An inverse problem: operator, data, data term, prior and scaling; checked once, solved by any algorithm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recon.fidelity import Gaussian, as_fidelity
from recon.linear import Identity, LinearOperator, ShapeError, Step, complex_dtype, real_dtype
from recon.preconditioning import KeptInverse, data_inverse
from recon.priors import Denoiser, Functional, Generator, Prior
from recon.terms import Term
from recon.values import as_numbers, interpolated

DEPENDS_ON_DATA = ("direct", "start", "image_norm", "backprojection", "normal_norm")
"""What a `Problem` keeps once it was computed and must forget where the data change."""


class Problem:
    """minimise over x: f(A x; y) + sum_i g_i(K_i x).

    Args:
        operator: the forward operator A.
        data: y, ``(*batch, *operator.range_shape)``.
        prior: the sum of g_i, or None.
        fidelity: the data term: a name, ``(name, {arguments})`` or an object.
        x0: first image; None starts from ``operator.pinv(data)``.
        reference: the true image where it is known, to judge by.
        image_range: (low, high) of the image values, (0, high) of the magnitude for complex images: learned
            priors are mapped to their own range by it.

    Attributes:
        seed: of everything random that an algorithm does.
        notes: what else is known of the data (unit, pixel size [mm], noise, seed, source), for files and
            reports.

    Raises:
        ShapeError, TypeError, ValueError: data, start or reference do not fit the operator, are empty or not
            finite; before any computation.
    """

    def __init__(
        self,
        operator: LinearOperator,
        data: Any,
        *,
        prior: Prior | None = None,
        fidelity: Any = "gaussian",
        x0: Any = None,
        reference: Any = None,
        image_range: tuple[float, float] | None = None,
    ) -> None:
        if not isinstance(operator, LinearOperator):
            raise TypeError(f"the operator must be a recon.LinearOperator, got {type(operator).__name__}")
        if image_range is not None and not _is_range(image_range):
            raise ValueError(f"image_range must be (low, high) with low < high, got {image_range}")
        self.operator = operator
        self.fidelity: Gaussian = as_fidelity(fidelity)
        self.prior = prior
        self.image_range = None if image_range is None else (float(image_range[0]), float(image_range[1]))
        self.notes: dict[str, Any] = {}
        checked = self._checked_data(data)
        self.batch_shape = tuple(checked.shape[: checked.ndim - len(operator.range_shape)])
        self.y = checked.reshape(-1, *operator.range_shape)
        self.x0 = self._checked_image(x0, "x0")
        self.reference = self._checked_image(reference, "reference")
        self.strength = torch.ones(self.y.shape[0], dtype=torch.float32, device=self.y.device)
        self.seed = 0
        self.item_fidelity = self.fidelity.for_items(self.y, self.batch_shape)
        self._check_prior()

    # Checks

    def _checked_data(self, data: Any) -> Tensor:
        operator, name = self.operator, type(self.operator).__name__
        y = as_numbers(data, "the data")
        y = operator._checked(y.detach(), adjoint=True)
        if y.numel() == 0:
            raise ValueError(f"the data are empty (shape {tuple(y.shape)}): nothing to reconstruct")
        finite = torch.isfinite(y)
        if not bool(finite.all()):
            bad = int((~finite).sum())
            raise ValueError(
                f"the data hold {bad} NaN or infinite of {y.numel()} values: "
                f"remove them, or give them weight 0 and a finite value before solving with {name}"
            )
        if operator.domain == "complex" and not y.is_complex():
            y = y.to(complex_dtype(y.dtype))
        return y

    def _checked_image(self, image: Any, label: str) -> Tensor | None:
        if image is None:
            return None
        x = as_numbers(image, label).detach().to(self.y.device)
        wanted = (*self.batch_shape, *self.operator.domain_shape)
        if tuple(x.shape) not in (wanted, self.operator.domain_shape):
            raise ShapeError(f"{label} must have shape {wanted}, got {tuple(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"{label} holds NaN or infinite values")
        if x.is_complex() and not self.is_complex:
            raise TypeError(
                f"{label} is complex, but {type(self.operator).__name__} reconstructs real images from these data: "
                "pass its real part, or its magnitude"
            )
        x = x.to(complex_dtype(self.y.dtype) if self.is_complex else real_dtype(self.y.dtype))
        return x.expand(wanted).reshape(-1, *self.operator.domain_shape)

    def _check_prior(self) -> None:
        if self.prior is None:
            return
        if not isinstance(self.prior, Prior):
            raise TypeError(
                f"the prior must be a recon.priors.Prior or a name, got {type(self.prior).__name__}"
            )
        complex_image = self.is_complex
        for member in self.prior.members:
            if member.domain == "real" and complex_image:
                raise TypeError(
                    f"{type(member).__name__} is defined on real images, but {type(self.operator).__name__} "
                    "reconstructs complex ones: wrap it in recon.Magnitude or recon.RealAndImaginary"
                )
            if member.domain == "complex" and not complex_image:
                raise TypeError(
                    f"{type(member).__name__} is defined on complex images, "
                    f"but {type(self.operator).__name__} reconstructs real ones"
                )

    # What algorithms use: one batch axis, always

    @property
    def data(self) -> Tensor:
        """The data in their batch shape."""
        return self.y.reshape(*self.batch_shape, *self.operator.range_shape)

    @property
    def items(self) -> int:
        """How many images are reconstructed at once."""
        return int(self.y.shape[0])

    @property
    def is_complex(self) -> bool:
        """Whether the image is complex."""
        return self.operator.domain == "complex" or (self.operator.domain == "any" and self.y.is_complex())

    @property
    def members(self) -> list[Functional | Denoiser]:
        """The priors that are terms of the objective; generators are not."""
        members = [] if self.prior is None else self.prior.members
        return [member for member in members if isinstance(member, Functional | Denoiser)]

    @cached_property
    def terms(self) -> list[Term]:
        """The priors with their linear maps built for this image shape; generators are not terms."""
        shape = self.operator.domain_shape
        return [self.checked_term(Term(member, shape, self.image_range)) for member in self.members]

    def checked_term(self, term: Term) -> Term:
        """The term, if its scaling fits the images."""
        if self.is_complex and term.scaling.offset != 0:
            raise ValueError(
                f"image_range={self.image_range} would shift complex images for {type(term.prior).__name__}, "
                "made for magnitudes: give the range of the magnitude, (0, high)"
            )
        return term

    @property
    def generator(self) -> Generator | None:
        """The generator among the priors, if there is one."""
        members = [] if self.prior is None else self.prior.members
        return next((member for member in members if isinstance(member, Generator)), None)

    @cached_property
    def fitted_generator(self) -> Generator | None:
        """The generator made for these images: fresh weights from `seed`, in the problem's precision."""
        if self.generator is None:
            return None
        return self.generator.for_images(
            self.operator.domain_shape, is_complex=self.is_complex, seed=self.seed, like=self.y
        )

    @cached_property
    def direct(self) -> Tensor:
        """The operator's direct reconstruction."""
        return self.operator.pinv(self.usable_data)

    @cached_property
    def start(self) -> Tensor:
        """The image to start from: x0, or the operator's direct reconstruction."""
        return self.direct if self.x0 is None else self.x0.clone()

    @cached_property
    def image_norm(self) -> Tensor:
        """Norm of the image to start from, of the direct reconstruction where that is zero: the images' scale."""
        size = torch.linalg.vector_norm(self.start.flatten(1), dim=1)
        if bool((size > 0).all()):
            return size
        direct = torch.linalg.vector_norm(self.direct.flatten(1), dim=1)
        return torch.where(size > 0, size, direct.nan_to_num(0, 0, 0))

    @cached_property
    def backprojection(self) -> Tensor:
        """A^H W y, which least-squares algorithms need once."""
        return self.operator.adjoint(self.item_fidelity.weighted(self.y))

    @cached_property
    def normal_norm(self) -> Tensor:
        """|A^H W A| of each item within some 10 %, by five power iterations from the back-projection, ``(B,)``."""
        x = self.backprojection
        estimate = torch.ones_like(self.strength)
        for _ in range(5):
            size = torch.linalg.vector_norm(x.flatten(1), dim=1).reshape(-1, *(1,) * (x.ndim - 1))
            x = self.normal(torch.where(size > 0, x / size.clamp_min(1e-30), torch.ones_like(x)))
            estimate = torch.linalg.vector_norm(x.flatten(1), dim=1).to(estimate)
        return estimate.clamp_min(1e-30)

    def normal(self, x: Tensor) -> Tensor:
        """A^H W A x."""
        if self.item_fidelity.weights is None:
            return self.operator._run_gram(x)
        return self.operator.adjoint(self.item_fidelity.weighted(self.operator(x)))

    def preconditioner(
        self, rho: Sequence[Step], maps: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """The operator's approximate inverse of A^H W A + sum_i rho_i K_i^H K_i.

        W enters as the pixels see it where the operator knows that and W is the data term's own; by its mean
        elsewhere, and where W is but the metric in which A x is split. The last one is kept: it is asked for in
        every iteration, and most of them have the penalties of the one before.
        """
        return self.kept_inverse.get(
            rho,
            [self.operator, *maps],
            lambda penalties: data_inverse(self, penalties, maps),
            self.item_fidelity.weights,
        )

    @cached_property
    def kept_inverse(self) -> KeptInverse:
        """The last of `preconditioner`, or that of a data step which takes its place."""
        return KeptInverse()

    @cached_property
    def weights_seen(self) -> Tensor | None:
        """The weights of the samples as each pixel sees them, one row where all items share them."""
        weights = self.item_fidelity.weights
        if weights is None:
            return None
        return self.operator.weights_seen(weights.expand(len(weights), *self.operator.range_shape))

    def residual_norm(self, x: Tensor) -> Tensor:
        """What of the data each image leaves: sqrt(sum_j w_j |(A x - y)_j|^2), or what counts make of it."""
        return self.item_fidelity.residual(self.operator(x), self.y)

    def objective(self, x: Tensor) -> Tensor:
        """f(A x; y) + sum_i g_i(K_i x) of each item; denoisers add nothing."""
        return self.penalty(x) + self.item_fidelity.value(self.operator(x), self.y)

    def penalty(self, x: Tensor) -> Tensor:
        """sum_i g_i(K_i x) of each item."""
        strength = self.strength.to(x.real.dtype if x.is_complex() else x.dtype)
        total = torch.zeros_like(strength)
        for term in self.terms:
            total = total + term.value(x, strength)
        return total

    def project(self, x: Tensor) -> Tensor:
        """The image inside every constraint that acts on the image itself."""
        for term in self.terms:
            if term.constraint and isinstance(term.K, Identity):
                x = term.prox(x, 1.0, self.strength)
        return x

    @cached_property
    def noise_level(self) -> Tensor:
        """Noise standard deviation of each item: given with the data term, else estimated from the data.

        Operators estimate the root mean square of the noise, and sample j has the variance noise_level^2 / w_j:
        with weights, noise_level^2 is the estimate squared over the mean of 1 / w_j.
        """
        given = self.item_fidelity.noise_level
        if given is not None:
            return given.to(self.strength)
        estimate = self.operator.noise_level(self.usable_data).to(self.strength)
        weights = self.item_fidelity.weights
        if weights is None:
            return estimate
        counted = self._counted.to(weights)
        variances = (counted / weights.where(weights > 0, 1)).expand(self.items, *self.operator.range_shape)
        mean = variances.flatten(1).sum(1) / counted.expand_as(variances).flatten(1).sum(1)
        return estimate / mean.sqrt().to(self.strength)

    @cached_property
    def measured_values(self) -> Tensor:
        """How many real numbers were measured for each item, those of weight 0 left out."""
        count = self._counted.expand(self.items, *self.operator.range_shape).flatten(1).sum(1)
        return (count * (2 if self.y.is_complex() else 1)).to(self.strength)

    @property
    def usable_data(self) -> Tensor:
        """The data with samples of weight 0 replaced: what they hold may be anything.

        Real data are interpolated between the nearest samples that count along the last axis; samples of k-space
        become zero, as those that were not measured.
        """
        weights = self.item_fidelity.weights
        if weights is None or bool((weights > 0).all()):
            return self.y
        counts = (weights > 0).expand(self.y.shape)
        return self.y.where(counts, 0) if self.y.is_complex() else interpolated(self.y, counts)

    @property
    def _counted(self) -> Tensor:
        """1 for samples that were measured and have a weight, else 0."""
        counted = torch.ones(self.operator.range_shape, device=self.y.device)
        mask = self.operator.sample_mask
        if mask is not None:
            counted = counted * mask.to(counted)
        if self.item_fidelity.weights is not None:
            counted = counted * (self.item_fidelity.weights > 0)
        return counted

    @cached_property
    def noise_norm(self) -> Tensor:
        """Expected norm of each item's weighted noise: noise_level * sqrt(number of real measured values).

        Raises:
            ValueError: a noise level neither given nor to be estimated, or a data term whose residual it is not.
        """
        if not self.item_fidelity.noise_residual:
            raise ValueError(
                f"what noise leaves of the residual of fidelity {self.item_fidelity.name!r} is not known, and no rule "
                "can compare the two: stop by recon.MovingVariance() without tau, or by recon.MaxIterations(...)"
            )
        return self.noise_level * self.measured_values.sqrt()

    def select(self, items: Tensor) -> Problem:
        """The same problem for some of its items."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.__dict__.pop("kept_inverse", None)
        for name in (
            "y",
            "x0",
            "reference",
            "strength",
            "direct",
            "start",
            "image_norm",
            "backprojection",
            "normal_norm",
            "noise_level",
            "measured_values",
            "noise_norm",
        ):
            value = self.__dict__.get(name)
            if value is not None:
                part.__dict__[name] = value[items]
        seen = self.__dict__.get("weights_seen")
        if seen is not None and len(seen) > 1:
            part.__dict__["weights_seen"] = seen[items]
        part.fidelity = part.item_fidelity = self.item_fidelity.select(items)
        part.batch_shape = (len(items),)
        return part

    def beside(self, data: Tensor) -> Problem:
        """A problem of twice the items: these, and the same with other data (B, *range_shape)."""
        twice = torch.arange(self.items, device=self.y.device).repeat(2)
        both = self.select(twice)
        both.y = torch.cat([self.y, data])
        for name in DEPENDS_ON_DATA:
            both.__dict__.pop(name, None)
        return both

    def with_prior(self, prior: Prior | None) -> Problem:
        """The same data under another prior."""
        problem = Problem(
            self.operator,
            self.data,
            prior=prior,
            fidelity=self.fidelity,
            x0=None if self.x0 is None else self.unflatten(self.x0),
            reference=None if self.reference is None else self.unflatten(self.reference),
            image_range=self.image_range,
        )
        problem.notes, problem.seed = dict(self.notes), self.seed
        return problem

    def visible(self, x: Tensor) -> Tensor:
        """The images ``(B, *shape)`` in what algorithms iterate: all of it, but for `recon.lifting`."""
        return x

    def start_like(self, items: int) -> Tensor:
        """Empty images of so many items, in the precision of the solution."""
        dtype = complex_dtype(self.y.dtype) if self.is_complex else real_dtype(self.y.dtype)
        return self.y.new_empty((items, *self.operator.domain_shape), dtype=dtype)

    def unflatten(self, x: Tensor) -> Tensor:
        """Images ``(B, *shape)`` in the batch shape of the data."""
        return x.reshape(*self.batch_shape, *self.operator.domain_shape)

    def save(self, path: str | Path) -> Path:
        """Write everything to solve and to judge into one HDF5 file; see `recon.storage`."""
        from recon.storage import save_problem

        return save_problem(self, path)

    @staticmethod
    def load(path: str | Path) -> Problem:
        """Read a problem that `save` wrote."""
        from recon.storage import load_problem

        return load_problem(path)

    def __repr__(self) -> str:
        batch = f", batch {self.batch_shape}" if self.batch_shape else ""
        prior = "no prior" if self.prior is None else " + ".join(type(m).__name__ for m in self.prior.members)
        return f"Problem({self.operator}, {prior}, {self.fidelity}{batch})"


def _is_range(bounds: Any) -> bool:
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        return False
    low, high = bounds
    return math.isfinite(low) and math.isfinite(high) and low < high
