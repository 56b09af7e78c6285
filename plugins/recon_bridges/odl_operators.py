"""ODL: `odl.Operator` as an operator of ours, and back; with weighted and Euclidean adjoints told apart."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon_bridges.bridged import complex_parts, field_of_data, require_ours, with_declared_adjoint
from recon_bridges.libraries import library
from recon_bridges.odl_spaces import SpaceView, is_one


class OdlOperator(LinearOperator):
    """A linear ODL operator; see `from_odl`.

    ODL's adjoint A* is that of its weighted spaces, <A x, y>_R = <x, A* y>_D. With the weights W_D and W_R of
    the two inner products, which are cell volumes where spaces are discretised functions, the Euclidean
    adjoint that this operator computes is

        A^H y = W_D A*(W_R^-1 y).
    """

    flatten_batch = True

    def __init__(self, op: Any) -> None:
        images, data = SpaceView(op.domain), SpaceView(op.range)
        super().__init__(images.shape, data.shape)
        self.domain = "complex" if images.is_complex else "real" if data.is_complex else "any"
        if images.device != data.device:
            raise TypeError(
                f"images lie on {images.device} and data on {data.device}: make both spaces on one device"
            )
        self.op = op
        self._images, self._data = images, data

    @property
    def device(self) -> torch.device:
        """Where the ODL spaces lie; `.to()` does not move them."""
        return self._images.device

    def _forward(self, x: Tensor) -> Tensor:
        if x.is_complex() and self.domain == "any":
            return complex_parts(self._forward, x)
        return torch.stack([self._data.values(self.op(self._images.element(item))) for item in x])

    def _adjoint(self, y: Tensor) -> Tensor:
        if y.is_complex() and self.domain == "any":
            return complex_parts(self._adjoint, y)
        try:
            adjoint = self.op.adjoint
        except NotImplementedError:
            raise TypeError(
                f"the ODL operator {type(self.op).__name__} has no adjoint: give it one, or write the forward "
                "map in torch, where the adjoint comes from automatic differentiation"
            ) from None
        images = torch.stack(
            [
                self._images.values(adjoint(self._data.element(item)))
                for item in _divided(y, self._data.weights)
            ]
        )
        return _multiplied(images, self._images.weights)

    def _checked(self, x: Tensor, *, adjoint: bool) -> Tensor:
        x = super()._checked(x, adjoint=adjoint)
        if x.device.type != self.device.type:
            kind = "torch tensors" if self._images.is_torch else "NumPy arrays"
            raise ValueError(
                f"the ODL spaces of {type(self.op).__name__} hold {kind} on {self.device}, got a tensor on "
                f"{x.device}: make the spaces with impl='pytorch' and device='{x.device}', or move the tensor"
            )
        return x


def from_odl(op: Any, *, adjoint_tolerance: float | None = None) -> OdlOperator:
    """A linear ODL operator as an operator of ours, with the plain Euclidean adjoint.

    Images and data are tensors of the shapes of its spaces; a power space, such as the range of a gradient,
    has its parts on the first axis. Computation is in the precision of the spaces, whatever the tensors have.
    With spaces of ``impl="pytorch"`` tensors of that precision are handed over without a copy, on a GPU too;
    with the default ``impl="numpy"`` they share main memory, and tensors on a GPU are refused.

    Args:
        op: `odl.Operator`, linear.
        adjoint_tolerance: relative error of the adjoint; None: measured, which finds that ODL's
            back-projections by scikit-image and on a GPU are not the transposes of the projections.

    Raises:
        TypeError: not an ODL operator, not linear, or between spaces that one tensor cannot hold.
        ValueError: an adjoint that is none, such as the inverse that ODL offers for its Fourier transforms.
    """
    odl = library("odl")
    if not isinstance(op, odl.Operator):
        raise TypeError(f"from_odl takes an odl.Operator, got {type(op).__name__}")
    if not op.is_linear:
        raise TypeError(
            f"the ODL operator {type(op).__name__} is not linear: bridge its derivative at a point, "
            "from_odl(op.derivative(x))"
        )
    return with_declared_adjoint(OdlOperator(op), adjoint_tolerance)


def to_odl(op: LinearOperator, domain: Any = None, range: Any = None) -> Any:  # noqa: A002 (ODL's name)
    """An operator of ours as an `odl.Operator`, whose adjoint is that of the weighted spaces.

    Args:
        op: the operator.
        domain: ODL space of the images (a power space for a first axis of parts); None: an unweighted space in
            single precision, kept as NumPy arrays for an operator on the CPU and as torch tensors for one on a
            GPU.
        range: ODL space of the data, likewise.

    Raises:
        TypeError: no operator of ours, one that is linear over the real numbers only, or unfit spaces.
        ValueError: spaces of another shape.
    """
    require_ours(op, "to_odl")
    field = field_of_data(op)
    spaces = [
        _space_of(shape, field, op.device) if space is None else space
        for space, shape in ((domain, op.domain_shape), (range, op.range_shape))
    ]
    for name, space, shape in zip(
        ("domain", "range"), spaces, (op.domain_shape, op.range_shape), strict=True
    ):
        view = SpaceView(space)
        if view.shape != shape:
            raise ValueError(f"the {name} must have shape {shape}, got {view.shape}")
        if field == "complex" and not view.is_complex:
            raise TypeError(f"{type(op).__name__} has a complex {name}: give a space of dtype 'complex64'")
        if view.is_complex != SpaceView(spaces[0]).is_complex:
            raise TypeError("domain and range must both be real or both be complex")
    return _operator_class()(op, *spaces)


def _space_of(shape: tuple[int, ...], field: str, device: torch.device) -> Any:
    dtype = "complex64" if field == "complex" else "float32"
    place = {} if device.type == "cpu" else {"impl": "pytorch", "device": str(device)}
    return library("odl").tensor_space(shape, dtype=dtype, **place)


@functools.cache
def _operator_class() -> Any:
    class OurOperator(library("odl").Operator):  # type: ignore[misc]
        """An operator of ours that ODL calls: y = A x, with A* y = W_D^-1 A^H W_R y."""

        def __init__(self, op: LinearOperator, domain: Any, range: Any) -> None:  # noqa: A002
            super().__init__(domain, range, linear=True)
            self.operator = op
            self._spaces = SpaceView(domain), SpaceView(range)

        def _call(self, x: Any) -> Any:
            images, data = self._spaces
            return data.element(_apply(self.operator, images.values(x), adjoint=False))

        @property
        def adjoint(self) -> Any:
            return OurAdjoint(self)

        def __reduce__(self) -> Any:
            return to_odl, (self.operator, self.domain, self.range)

    class OurAdjoint(library("odl").Operator):  # type: ignore[misc]
        """The adjoint of an operator of ours in ODL's weighted spaces."""

        def __init__(self, forward: Any) -> None:
            super().__init__(forward.range, forward.domain, linear=True)
            self.forward = forward

        def _call(self, y: Any) -> Any:
            images, data = self.forward._spaces
            weighted = _multiplied(data.values(y), data.weights)
            image = _apply(self.forward.operator, weighted, adjoint=True)
            return images.element(_divided(image, images.weights))

        @property
        def adjoint(self) -> Any:
            return self.forward

        def __reduce__(self) -> Any:
            return _adjoint_of, (self.forward,)

    return OurOperator


def _adjoint_of(op: Any) -> Any:
    return op.adjoint


def _apply(op: LinearOperator, values: Tensor, *, adjoint: bool) -> Tensor:
    """An operator of ours on the values of an element, on the operator's device, brought back to theirs."""
    apply = op.adjoint if adjoint else op
    with torch.no_grad():
        placed = values.to(op.device) if any(True for _ in op.buffers()) else values
        if placed.is_complex() and op.domain == "real":
            result = complex_parts(apply, placed.unsqueeze(0)).squeeze(0)
        else:
            result = apply(placed)
    return result.to(values.device)


def _multiplied(values: Tensor, weights: float | Tensor) -> Tensor:
    return values if is_one(weights) else values * weights


def _divided(values: Tensor, weights: float | Tensor) -> Tensor:
    return values if is_one(weights) else values / weights
