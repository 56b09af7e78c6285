"""DeepInverse's linear physics as operators of ours, and ours as its physics."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from recon.linear import Identity, LinearOperator, Step, complex_dtype
from recon_bridges.bridged import EXACT, complex_parts, require_ours, with_declared_adjoint
from recon_bridges.libraries import library

Channels = Literal["add", "first", "complex"]


class PhysicsOperator(LinearOperator):
    """A linear physics of DeepInverse; see `from_physics`."""

    flatten_batch = True

    def __init__(self, physics: Any, img_size: Sequence[int], channels: Channels) -> None:
        image_shape = tuple(int(side) for side in img_size)
        with torch.no_grad():
            data = physics.A(torch.zeros(1, *image_shape, device=_device(physics)))
            if not isinstance(data, Tensor):
                raise TypeError(
                    f"{type(physics).__name__} gives several tensors: bridge its parts one by one and join them "
                    "with recon.stack"
                )
            image = physics.A_adjoint(data)
        data_shape = tuple(data.shape[1:])
        if channels == "complex" and not (image_shape[0] == data_shape[0] == 2 and not data.is_complex()):
            raise ValueError(
                f"channels='complex' needs real and imaginary part as two channels of image and data, but "
                f"{type(physics).__name__} maps {image_shape} to {data_shape}"
            )
        self._data_axis = channels == "add" and data_shape[0] == 1 and len(data_shape) > 1
        super().__init__(
            image_shape if channels == "first" else image_shape[1:],
            data_shape[1:] if channels == "complex" or self._data_axis else data_shape,
        )
        if channels == "complex" or image.is_complex():
            self.domain = "complex"
        elif data.is_complex():
            self.domain = "real"
        self.physics = physics
        self.channels = channels
        self._decomposed = isinstance(physics, library("deepinv").physics.DecomposablePhysics)
        self._decomposed = self._decomposed and self._closed_form_error() < EXACT

    def _forward(self, x: Tensor) -> Tensor:
        if x.is_complex() and self.domain == "any":
            return complex_parts(self._forward, x)
        return self._from_data(self.physics.A(self._to_image(x)))

    def _adjoint(self, y: Tensor) -> Tensor:
        if y.is_complex() and self.domain == "any":
            return complex_parts(self._adjoint, y)
        return self._from_image(self.physics.A_adjoint(self._to_data(y)))

    def _gram(self, x: Tensor) -> Tensor:
        if x.is_complex() and self.domain == "any":
            return complex_parts(self._gram, x)
        return self._from_image(self.physics.A_adjoint_A(self._to_image(x)))

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """Closed form by the physics' singular value decomposition, where every term is the identity.

        Tried once when the operator is made, as not every physics that offers it (`Decolorize`) keeps it.
        """
        if not self._decomposed or not rho or not all(isinstance(term, Identity) for term in terms):
            return None
        if b.is_complex() and self.domain == "any":
            return None
        total = sum(torch.as_tensor(weight, device=b.device) for weight in rho)
        assert isinstance(total, Tensor)
        if total.numel() not in (1, b.shape[0]) or float(total.min()) <= 0:
            return None
        image = self._to_image(b)
        total = total.to(image.real.dtype).reshape(-1, *(1,) * (image.ndim - 1))
        data = self.physics.A(torch.zeros_like(image))
        solution = self._from_image(self.physics.prox_l2(image / total, data, 1 / total))
        return solution.to(b.dtype)

    def _closed_form_error(self) -> float:
        """Relative residual of the closed form on random data."""
        generator = torch.Generator().manual_seed(0)
        dtype = torch.complex64 if self.domain == "complex" else torch.float32
        with torch.no_grad():
            b = torch.randn(1, *self.domain_shape, generator=generator, dtype=dtype).to(self.device)
            rho = 0.1 * torch.linalg.vector_norm(self._gram(b)) / torch.linalg.vector_norm(b)
            x = self.solve_gram(b, [float(rho)], [Identity(self.domain_shape)])
            if x is None:
                return math.inf
            return float(torch.linalg.vector_norm(self._gram(x) + rho * x - b) / torch.linalg.vector_norm(b))

    def _to_image(self, x: Tensor) -> Tensor:
        x = self._in_precision(x)
        if self.channels == "complex":
            return torch.view_as_real(x).movedim(-1, 1)
        return x if self.channels == "first" else x.unsqueeze(1)

    def _from_image(self, x: Tensor) -> Tensor:
        if self.channels == "complex":
            return torch.view_as_complex(x.movedim(1, -1).contiguous())
        return x if self.channels == "first" else x.squeeze(1)

    def _to_data(self, y: Tensor) -> Tensor:
        y = self._in_precision(y)
        if self.channels == "complex":
            return torch.view_as_real(y).movedim(-1, 1)
        return y.unsqueeze(1) if self._data_axis else y

    def _from_data(self, y: Tensor) -> Tensor:
        if self.channels == "complex":
            return torch.view_as_complex(y.movedim(1, -1).contiguous())
        return y.squeeze(1) if self._data_axis else y

    def _in_precision(self, x: Tensor) -> Tensor:
        """In the precision of the physics' own numbers: DeepInverse does not mix precisions."""
        if isinstance(self.physics, _physics_class()):
            return x
        own = {
            complex_dtype(t.dtype)
            for name, t in (*self.physics.named_buffers(), *self.physics.named_parameters())
            if (t.is_floating_point() or t.is_complex()) and name != "_device_holder"
        }
        if not own:
            return x
        wanted = functools.reduce(torch.promote_types, own)
        return x.to(wanted if x.is_complex() else wanted.to_real())


def from_physics(
    physics: Any,
    *,
    img_size: Sequence[int] | None = None,
    channels: Channels | None = None,
    adjoint_tolerance: float | None = None,
) -> PhysicsOperator:
    """A `deepinv.physics.LinearPhysics` as an operator of ours: its `A` and `A_adjoint`, without its noise.

    It moves with ``.to()``, and computes in the precision of the physics' buffers: ``op.double()`` for double.

    Args:
        physics: the physics.
        img_size: its images without the batch, (channels, height, width); None: as the physics says.
        channels: ``"add"``, images here have no channel axis and the physics has one channel; ``"first"``,
            the images' first axis is the channels; ``"complex"``, complex images here are two channels there.
            None: ``"complex"`` for MRI, else ``"add"`` for one channel and ``"first"`` for several.
        adjoint_tolerance: relative error of the adjoint; None: measured.

    Raises:
        TypeError: no physics, not linear, or with data of several tensors.
        ValueError: the image size is not known, does not fit the channels, or an adjoint that is none.
    """
    module = library("deepinv").physics
    if not isinstance(physics, module.Physics):
        raise TypeError(f"expected a deepinv.physics.LinearPhysics, got {type(physics).__name__}")
    if not isinstance(physics, module.LinearPhysics):
        raise TypeError(
            f"{type(physics).__name__} is not linear (no deepinv.physics.LinearPhysics): operators here are"
        )
    mri = isinstance(physics, module.mri.MRIMixin)
    if channels is None and isinstance(physics, _physics_class()):
        channels = physics.channels
    size = _img_size(physics, img_size, mri)
    if channels is None:
        channels = "complex" if mri else "add" if size[0] == 1 else "first"
    if channels not in ("add", "first", "complex"):
        raise ValueError(f"channels must be 'add', 'first' or 'complex', got {channels!r}")
    if channels == "add" and size[0] != 1:
        raise ValueError(f"channels='add' fits a physics of one channel, but img_size is {size}")
    return with_declared_adjoint(PhysicsOperator(physics, size, channels), adjoint_tolerance)


def to_physics(op: LinearOperator, *, channels: Channels | None = None, noise_model: Any = None) -> Any:
    """An operator of ours as a `deepinv.physics.LinearPhysics`, for images ``(B, channels, *domain_shape)``.

    Args:
        op: the operator.
        channels: ``"add"``, every channel of an image is an image of its own; ``"first"``, the operator's
            own first axes are the channels; ``"complex"``, complex images and data become two channels. None:
            ``"complex"`` for operators on complex images, else ``"add"``.
        noise_model: a `deepinv.physics.NoiseModel`; None: no noise.

    Raises:
        TypeError: no operator of ours, or complex channels of an operator on real images.
    """
    require_ours(op, "to_deepinv")
    if channels is None:
        channels = "complex" if op.domain == "complex" else "add"
    if channels == "complex" and op.domain == "real":
        raise TypeError(f"{type(op).__name__} acts on real images: channels='complex' does not fit")
    if channels not in ("add", "first", "complex"):
        raise ValueError(f"channels must be 'add', 'first' or 'complex', got {channels!r}")
    return _physics_class()(op, channels, noise_model)


def _img_size(physics: Any, given: Sequence[int] | None, mri: bool) -> tuple[int, ...]:
    size = given if given is not None else getattr(physics, "img_size", None)
    width = getattr(physics, "img_width", None)
    if size is None and width is not None:
        size = (1, width, width)
    if size is None:
        raise ValueError(
            f"{type(physics).__name__} does not say which images it takes: pass img_size=(channels, height, width)"
        )
    sides = tuple(int(side) for side in size)
    return (2, *sides) if mri and len(sides) == 2 else sides


def _device(physics: Any) -> torch.device:
    for tensor in (*physics.buffers(), *physics.parameters()):
        return torch.device(tensor.device)
    return torch.device("cpu")


@functools.cache
def _physics_class() -> Any:
    class OurPhysics(library("deepinv").physics.LinearPhysics):  # type: ignore[misc]
        """An operator of ours that DeepInverse calls."""

        def __init__(self, op: LinearOperator, channels: Channels, noise_model: Any) -> None:
            axes = {"add": (1,), "first": (), "complex": (2,)}[channels]
            noise = library("deepinv").physics.ZeroNoise() if noise_model is None else noise_model
            super().__init__(img_size=(*axes, *op.domain_shape), noise_model=noise, device=op.device)
            self.operator = op
            self.channels = channels

        def A(self, x: Tensor, **kwargs: Any) -> Tensor:
            return self._through(self.operator, x)

        def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:
            return self._through(self.operator.adjoint, y)

        def A_adjoint_A(self, x: Tensor, **kwargs: Any) -> Tensor:
            return self._through(self.operator.gram, x)

        def _through(self, apply: Any, x: Tensor) -> Tensor:
            if self.channels == "complex":
                result = apply(torch.view_as_complex(x.movedim(1, -1).contiguous()))
                return torch.view_as_real(result).movedim(-1, 1)
            return apply(x)  # a channel axis of grey images is one more batch axis

        def __reduce__(self) -> Any:
            return _rebuilt, (self.operator, self.channels, self.noise_model)

    return OurPhysics


def _rebuilt(op: LinearOperator, channels: Channels, noise_model: Any) -> Any:
    return to_physics(op, channels=channels, noise_model=noise_model)
