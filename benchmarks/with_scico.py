"""The problems as SCICO solves them, in a Python of its own: `make peers` puts it into .venv-scico.

    .venv-scico/bin/python with_scico.py PROBLEM ARRAYS.npz BUDGET

ADMM with the penalty parameter found by hand; its functions are compiled before they are timed.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import scico.numpy as snp
from scico import functional, linop, loss, optimize
from trajectory import Method, Watch, followed, timed

MOST = 100_000


def admm(fit: Any, differences: Any, weight: float, rho: float, solver: Any) -> Method:
    """Isotropic TV split at the gradient."""

    def run(watch: Watch) -> None:
        algorithm = optimize.admm.ADMM(
            f=fit,
            g_list=[weight * functional.L21Norm()],
            C_list=[differences],
            rho_list=[rho],
            x0=snp.zeros(differences.input_shape, dtype=differences.input_dtype),
            subproblem_solver=solver(),
            maxiter=MOST,
        )
        while True:
            algorithm.step()
            if watch(algorithm.x):
                return

    return run


def ct(arrays: dict[str, Any]) -> Method:
    """Parallel beam by its own projector; data of that projector with noise of 1 % of the maximum."""
    from scico.linop.xray import XRayTransform2D

    truth, views, elements = arrays["truth"], int(arrays["views"]), int(arrays["elements"])
    # an element is as wide as a pixel, as in the other libraries' scans; its projector then warns of accuracy
    operator = XRayTransform2D(truth.shape, np.arange(views) * np.pi / views, dx=1.0, det_count=elements)
    clean = np.asarray(operator(snp.array(truth)))
    noise = np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    fit = loss.SquaredL2Loss(y=snp.array(clean + 0.01 * clean.max() * noise), A=operator)
    differences = linop.FiniteDifference(truth.shape, append=0)
    weight = float(arrays["weight"])
    return admm(fit, differences, weight, RHO["CT TV"], lambda: inexact(3))


def mri(arrays: dict[str, Any]) -> Method:
    """The same data: A^H A is a circular convolution, so that its x-step is in closed form."""
    truth, mask, y = arrays["truth"], arrays["mask"], arrays["y"]
    shifted = np.fft.ifftshift(np.broadcast_to(mask, truth.shape)).astype(np.complex64)
    operator = linop.CircularConvolve(
        snp.array(shifted), truth.shape, input_dtype=np.complex64, h_is_dft=True
    )
    zero_filled = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(mask * y), norm="ortho")).astype(np.complex64)
    fit = loss.SquaredL2Loss(y=snp.array(zero_filled), A=operator)
    differences = linop.FiniteDifference(truth.shape, input_dtype=np.complex64, circular=True)
    solver = optimize.admm.CircularConvolveSolver
    return admm(fit, differences, float(arrays["weight"]), RHO["MRI TV"], solver)


def inpainting(arrays: dict[str, Any]) -> Method:
    """The same data."""
    truth, mask, y = arrays["truth"], arrays["mask"], arrays["y"]
    fit = loss.SquaredL2Loss(y=snp.array(y), A=linop.Diagonal(snp.array(mask)))
    differences = linop.FiniteDifference(truth.shape, append=0)
    return admm(fit, differences, float(arrays["weight"]), RHO["inpainting TV"], lambda: inexact(3))


def inexact(iterations: int) -> Any:
    """Its conjugate gradients, warm-started."""
    return optimize.admm.LinearSubproblemSolver(cg_kwargs={"tol": 1e-5, "maxiter": iterations})


RHO = {"CT TV": 100.0, "MRI TV": 0.1, "inpainting TV": 0.1}
METHODS = {"CT TV": ct, "MRI TV": mri, "inpainting TV": inpainting}


def main() -> None:
    """Print the run as JSON."""
    warnings.simplefilter("ignore")
    name, file, budget = sys.argv[1], sys.argv[2], float(sys.argv[3])
    arrays = dict(np.load(file))
    method = METHODS[name](arrays)
    method(lambda image: True)
    run = followed(method, arrays["truth"], budget)
    seconds = timed({"": method}, {"": run})[""]
    iterations = run.iterations if run.settled else len(run.psnr)
    found = {
        "settled": run.settled,
        "iterations": iterations,
        "psnr": run.psnr[-1],
        "seconds": seconds if run.settled else run.seconds[-1],
        "version": version("scico"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
