"""Checks of an operator's derivatives: backward, second order, forward mode, vmap, and its own parameters."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon.testing.measuring import DOUBLE, random, require, require_close
from recon.testing.ways import Way, as_real_as, both_ways


@torch.enable_grad()
def check_gradients(operator: LinearOperator) -> None:
    """The derivative of A x is A, in every mode: backward, twice backward, and forward.

    Backward multiplies by A^H, its own backward by A again, and the forward derivative along t is A t.
    Operators with an exact adjoint are also compared with finite differences in double precision.
    """
    forward, adjoint = both_ways(operator)
    for way, transposed in ((forward, adjoint), (adjoint, forward)):
        for dtype in way.dtypes:
            x, v = way.draw(2, dtype=dtype, seed=1).requires_grad_(), way.draw(2, dtype=dtype, seed=3)
            image = way.apply(x)
            w = random(tuple(image.shape), image.dtype, 2).to(image.device).requires_grad_()
            (gradient,) = torch.autograd.grad(image, x, w, create_graph=True)
            what = f"of {way.name} in {dtype} is wrong"
            backward = as_real_as(x, transposed.apply(w.detach()))
            require_close(gradient.detach(), backward, f"the gradient {what}")
            (second,) = torch.autograd.grad(gradient, w, v)
            require_close(second, as_real_as(w, way.apply(v)), f"the second derivative {what}")
            with warnings.catch_warnings():
                # torch's own forward mode uses what torch deprecates
                warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
                tangent = torch.func.jvp(way.apply, (x.detach(),), (v,))[1]
            require_close(tangent, way.apply(v), f"the forward derivative {what}")
            if operator.adjoint_kind == "exact":
                _require_finite_differences(way, x.detach().to(DOUBLE[dtype]))


@torch.enable_grad()
def check_vmap(operator: LinearOperator) -> None:
    """`torch.func.vmap` over any axis, nested, and over a gradient gives what a loop gives."""
    forward, adjoint = both_ways(operator)
    for way, transposed in ((forward, adjoint), (adjoint, forward)):
        xs = way.draw(3, 2)
        wanted = torch.stack([way.apply(x) for x in xs])
        require_close(torch.func.vmap(way.apply)(xs), wanted, f"vmap of {way.name} differs from a loop")
        nested = torch.func.vmap(torch.func.vmap(way.apply))(xs)
        require_close(nested, wanted, f"nested vmap of {way.name} differs from a loop")
        last = torch.func.vmap(way.apply, in_dims=-1, out_dims=-1)(xs.movedim(0, -1))
        require_close(last, wanted.movedim(0, -1), f"vmap of {way.name} over the last axis differs")

        def energy(x: Tensor, way: Way = way) -> Tensor:
            return way.apply(x).abs().square().sum() / 2

        gradients = torch.func.vmap(torch.func.grad(energy))(xs)
        normal = as_real_as(xs, torch.stack([transposed.apply(way.apply(x)) for x in xs]))
        require_close(gradients, normal, f"vmap over the gradient of {way.name} differs from a loop")


def _require_finite_differences(way: Way, x: Tensor) -> None:
    """Compare first and second derivatives with differences; a linear map allows large steps."""
    x = x[:1].requires_grad_()
    try:
        torch.autograd.gradcheck(
            way.apply, x, eps=0.1, atol=1e-5, rtol=1e-4, fast_mode=True, check_forward_ad=True
        )
        torch.autograd.gradgradcheck(way.apply, x, eps=0.1, atol=1e-5, rtol=1e-4, fast_mode=True)
    except RuntimeError as error:
        numbers = " ".join(str(error).partition("The above quantities")[0].split()).rstrip(",")
        raise AssertionError(
            f"the derivative of {way.name} differs from finite differences: {numbers}. The derivative is made of "
            "the adjoint: see dense_adjoint"
        ) from None


@torch.enable_grad()
def check_learnable_parameters(operator: LinearOperator) -> None:
    """The gradient of <A x, w> and <A^H y, v> with respect to the operator's own parameters is right.

    Compared with central differences along a random direction, in double precision; an operator without
    parameters that require gradients has nothing to check.
    """
    if not any(parameter.requires_grad for parameter in operator.parameters()):
        return
    precise = copy.deepcopy(operator).double()
    for way in both_ways(precise):
        x = way.draw(dtype=DOUBLE[way.dtypes[-1]], seed=1)
        w = random(way.target, way.apply(x).dtype, 2).to(x.device)

        def score(x: Tensor = x, w: Tensor = w, way: Way = way) -> Tensor:
            return (way.apply(x) * w.conj()).sum().real

        learnt = [parameter for parameter in precise.parameters() if parameter.requires_grad]
        total = score()
        gradients = (
            torch.autograd.grad(total, learnt, allow_unused=True)
            if total.requires_grad
            else (None,) * len(learnt)
        )
        for index, (parameter, gradient) in enumerate(zip(learnt, gradients, strict=True)):
            direction = random(parameter.shape, parameter.dtype, 3).to(parameter.device)
            zero = torch.zeros_like(parameter)
            measured = float((direction.conj() * (zero if gradient is None else gradient)).sum().real)
            size, sides = 1e-5 * max(float(parameter.detach().norm()), 1.0), []
            for sign in (1, -1):
                with torch.no_grad():
                    before = parameter.clone()
                    parameter.add_(sign * size * direction)
                    sides.append(float(score()))
                    parameter.copy_(before)
            expected = (sides[0] - sides[1]) / (2 * size)
            require(
                abs(measured - expected) <= 1e-4 * max(abs(expected), 1e-3 * float(w.norm())),
                f"the gradient of {way.name} with respect to parameter {index} is {measured:.6g} along a random "
                f"direction, finite differences give {expected:.6g}"
                + (": it is cut from the graph (a .data, .detach() or no_grad)" if gradient is None else ""),
            )
