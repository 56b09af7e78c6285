"""The problems as ODL solves them: ASTRA on the CPU and PDHG with tuned steps, no slower than its Douglas-Rachford."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import odl
from problems import VIEWS, Posed
from trajectory import Method, Watch

MOST = 100_000


def primal_dual(operator: Any, data: Any, weight: float, ratio: float) -> dict[str, Method]:
    """TV by primal-dual hybrid gradients; norms are estimated before, and every operator is brought to norm 1.

    Args:
        operator: the scanner.
        data: of it.
        weight: of TV, in its weighted spaces.
        ratio: primal step over the steps that fit operators of norm 1.
    """
    space = operator.domain
    start = space.one()
    gradient = odl.Gradient(space, pad_mode="symmetric")
    norm = odl.power_method_opnorm(
        operator, maxiter=30, xstart=start + odl.core.phantom.white_noise(space, seed=0)
    )
    steep = math.sqrt(8.0)  # bounds the norm of differences along two axes

    def watched(watch: Watch) -> Any:
        def callback(image: Any) -> None:
            if watch(image.asarray()):
                raise StopIteration

        return callback

    fit = 0.5 * norm**2 * odl.functionals.L2NormSquared(operator.range).translated(data / norm)
    sparse = weight * steep * odl.functionals.GroupL1Norm(gradient.range)
    maps = [(1 / norm) * operator, (1 / steep) * gradient]
    zero = odl.functionals.ZeroFunctional(space)

    def pdhg(watch: Watch) -> None:
        both = odl.BroadcastOperator(*maps)
        step = 0.99 / math.sqrt(2)
        try:
            odl.solvers.pdhg(
                space.zero(),
                zero,
                odl.functionals.SeparableSum(fit, sparse),
                both,
                MOST,
                tau=step * ratio,
                sigma=step / ratio,
                callback=watched(watch),
            )
        except StopIteration:
            return

    return {"tuned PDHG": pdhg}


def image_space(side: int) -> Any:
    """Pixels of side 1 around the origin."""
    return odl.uniform_discr([-side / 2] * 2, [side / 2] * 2, (side, side), dtype="float32")


def tomography(geometry: Any, posed: Posed, ratio: float) -> dict[str, Method]:
    """Data of its own projector, with noise of 1 % of the maximum."""
    space = image_space(len(posed.truth))
    transform = odl.applications.tomo.RayTransform(space, geometry, impl="astra_cpu")
    clean = transform(space.element(posed.truth.numpy())).asarray()
    noise = np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    data = transform.range.element(clean + 0.01 * clean.max() * noise)
    # the data's norm counts the area of a sample of the sinogram, that of the image is 1
    weight = posed.weight * transform.range.cell_volume
    return primal_dual(transform, data, weight, ratio)


def ct(posed: Posed) -> dict[str, Method]:
    """Parallel beam."""
    elements = posed.operator.range_shape[-1]
    geometry = odl.applications.tomo.Parallel2dGeometry(
        odl.uniform_partition(0, math.pi, VIEWS), odl.uniform_partition(-elements / 2, elements / 2, elements)
    )
    return tomography(geometry, posed, RATIO)


def fan(posed: Posed) -> dict[str, Method]:
    """Fan beam of the same geometry."""
    elements, side = posed.operator.range_shape[-1], len(posed.truth)
    geometry = odl.applications.tomo.FanBeamGeometry(
        odl.uniform_partition(0, 2 * math.pi, VIEWS),
        odl.uniform_partition(-elements / 2, elements / 2, elements),
        src_radius=2.0 * side,
        det_radius=1.0 * side,
    )
    return tomography(geometry, posed, RATIO)


def inpainting(posed: Posed) -> dict[str, Method]:
    """The same data."""
    space = image_space(len(posed.truth))
    mask = odl.MultiplyOperator(space.element(posed.operator.mask.numpy()), domain=space, range=space)
    return primal_dual(mask, space.element(posed.y.numpy()), posed.weight, 1.0)


RATIO = 0.1
"""Primal steps of CT, the best of six from 0.0003 to 100 (and of inpainting 1)."""
METHODS = {"CT TV": ct, "CT TV, fan": fan, "inpainting TV": inpainting}
CANNOT = {
    "MRI TV": "has no MRI operator",
    "MRI wavelet, 4 coils": "has no MRI operator",
    "PnP MRI brain, 4x": "has no plug-and-play",
    "PnP inpainting, 30 %": "has no plug-and-play",
}
