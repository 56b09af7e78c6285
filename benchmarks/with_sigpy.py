"""The problems as SigPy solves them: its applications for MRI, with the best settings found by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import sigpy
import sigpy.mri
from problems import Posed
from trajectory import Method, Watch

MOST = 100_000
# numba compiles the threshold for the types it meets, and would later take the complex one for real numbers too
sigpy.thresh.soft_thresh(1.0, np.ones(1, np.float32))


def method(make: Any) -> Method:
    """Step an application."""

    def run(watch: Watch) -> None:
        np.random.seed(0)  # noqa: NPY002 - the start of SigPy's power iteration
        app = make()
        while not app.alg.done():
            app.alg.update()
            if watch(app.x):
                return

    return run


def mri(posed: Posed) -> dict[str, Method]:
    """The same data; its TV is anisotropic."""
    maps = np.ones((1, *posed.truth.shape), np.complex64)
    y = posed.y.numpy()[None]

    def made(**options: Any) -> Any:
        return sigpy.mri.app.TotalVariationRecon(
            y, maps, posed.weight, max_iter=MOST, show_pbar=False, **options
        )

    return {
        "default": method(made),
        "tuned ADMM": method(lambda: made(solver="ADMM", rho=0.3, max_cg_iter=5)),
    }


def coils(posed: Posed) -> dict[str, Method]:
    """The same data; its wavelets pad with zeros, and its penalty counts the coarsest scale too."""
    y, maps = posed.y.numpy(), posed.operator.coil_maps.numpy()

    def made(**options: Any) -> Any:
        return sigpy.mri.app.L1WaveletRecon(y, maps, posed.weight, max_iter=MOST, show_pbar=False, **options)

    return {"default": method(made)}


def inpainting(posed: Posed, rho: float = 0.1) -> dict[str, Method]:
    """The same data, as least squares with its finite differences; its TV is anisotropic and periodic."""
    mask, y = posed.operator.mask.numpy(), posed.y.numpy()

    def made() -> Any:
        differences = sigpy.linop.FiniteDifference(y.shape)
        return sigpy.app.LinearLeastSquares(
            sigpy.linop.Multiply(y.shape, mask),
            y,
            proxg=sigpy.prox.L1Reg(differences.oshape, posed.weight),
            G=differences,
            solver="ADMM",
            rho=rho,
            max_cg_iter=5,
            max_iter=MOST,
            show_pbar=False,
        )

    return {"tuned ADMM": method(made)}


METHODS = {"MRI TV": mri, "MRI wavelet, 4 coils": coils, "inpainting TV": inpainting}
CANNOT = {
    "CT TV": "has no projector",
    "CT TV, fan": "has no projector",
    "PnP MRI brain, 4x": "has no plug-and-play",
    "PnP inpainting, 30 %": "has no plug-and-play",
}
