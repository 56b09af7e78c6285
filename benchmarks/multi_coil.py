"""Multi-coil Cartesian MRI against SigPy and deepinv in one run: 8 coils, 320 x 320, a quarter of k-space.

    make peers && .venv/bin/python benchmarks/multi_coil.py [--json FILE] [--rounds 15]

Forward, adjoint and normal operator in single precision, after their results have been compared; the mask measures
columns, or points. Then total variation, anisotropic and periodic as SigPy has it, to within 1 % and 0.1 % of the
smallest objective: the number of iterations to get there is found first, by an objective that belongs to neither
library, and then the whole call with that many iterations is timed, from data to image, setting up included. SigPy
runs as it does by default, and by ADMM with the best of six settings tried for this problem.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sigpy.mri
import torch
from deepinv_import import deepinv
from recon_operators import CartesianMRI
from recon_priors import TotalVariation
from setting import environment, print_table
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon

COILS, SIDE = 8, 320
NOISE, WEIGHT, MOST = 0.01, 3e-3, 1000
SIGPY: dict[str, dict[str, Any]] = {
    "sigpy, default": {},
    "sigpy, tuned ADMM": {"solver": "ADMM", "rho": 0.3, "max_cg_iter": 5},
}
MASKS = {"columns": "random_1d:acceleration=4", "points": "random_2d:acceleration=4"}


def coil_maps() -> Tensor:
    """Birdcage sensitivities of energy 1."""
    return torch.from_numpy(sigpy.mri.birdcage_maps((COILS, SIDE, SIDE))).to(torch.complex64)


def phantom() -> Tensor:
    """Shepp-Logan in [0, 1]."""
    return torch.tensor(resize(shepp_logan_phantom(), (SIDE, SIDE), anti_aliasing=True)).to(torch.complex64)


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that what else the machine does hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: sorted(found)[rounds // 2] for name, found in seconds.items()}


def operators(kind: str, rounds: int) -> list[dict]:
    """Forward, adjoint and normal operator of the three libraries."""
    ours = CartesianMRI(MASKS[kind], coil_maps())
    x = phantom()
    y = ours(x)
    sense = sigpy.mri.linop.Sense(coil_maps().numpy(), weights=ours.mask.numpy())
    physics = deepinv.physics.MultiCoilMRI(mask=ours.mask, coil_maps=coil_maps())
    x_numpy, y_numpy, x_pair, y_pair = x.numpy(), y.numpy(), as_channels(x), as_channels(y)
    calls: dict[str, dict[str, Callable[[], Any]]] = {
        "forward": {
            "recon": lambda: ours(x),
            "sigpy": lambda: sense(x_numpy),
            "deepinv": lambda: physics.A(x_pair),
        },
        "adjoint": {
            "recon": lambda: ours.adjoint(y),
            "sigpy": lambda: sense.H(y_numpy),
            "deepinv": lambda: physics.A_adjoint(y_pair),
        },
        "normal operator": {
            "recon": lambda: ours.gram(x),
            "sigpy": lambda: sense.N(x_numpy),
            "deepinv": lambda: physics.A_adjoint_A(x_pair),
        },
    }
    rows = []
    for operation, libraries in calls.items():
        results = {name: as_complex(call()) for name, call in libraries.items()}
        for name, result in results.items():
            error = float((result - results["recon"]).norm() / results["recon"].norm())
            if not error < 1e-5:  # single precision
                raise SystemExit(f"{operation} of {name} differs from recon's by {error:.1e}")
        rows += compared(f"{operation}, {kind}", timed(libraries, rounds), {})
    return rows


def total_variation(gap: float, peers: list[str], rounds: int) -> list[dict]:
    """TV of the same data, to the same distance from the smallest objective."""
    maps = coil_maps()
    ours = CartesianMRI(MASKS["columns"], maps)
    y = ours.measure(phantom(), noise=recon.noise("complex_gaussian", std=NOISE), seed=0)
    prior = TotalVariation(WEIGHT, isotropic=False, boundary="periodic")

    def solved(iterations: int, **options: Any) -> Tensor:
        return recon.solve(ours, prior, y, stop=recon.MaxIterations(iterations), **options).image

    def objective(image: Tensor) -> float:
        image = image.to(torch.complex128)
        axes = (-2, -1)
        seen = torch.fft.ifftshift(maps.to(torch.complex128) * image, axes)
        kspace = torch.fft.fftshift(torch.fft.fft2(seen, norm="ortho"), axes)
        differences = sum(float((image - image.roll(1, axis)).abs().sum()) for axis in axes)
        return 0.5 * float((ours.mask * (kspace - y)).abs().square().sum()) + WEIGHT * differences

    smallest = objective(solved(MOST, dtype=torch.float64))
    reached: list[int] = []

    def watch(snapshot: recon.Snapshot) -> bool:
        reached.append(snapshot.iteration)
        return objective(snapshot.image[0]) <= (1 + gap) * smallest

    solved(MOST, callback=watch)
    iterations = {"recon": reached[-1]}
    for peer in peers:
        app = sigpy_app(y, maps, peer, MOST)
        while not app.alg.done() and objective(torch.from_numpy(app.x)) > (1 + gap) * smallest:
            app.alg.update()
        iterations[peer] = app.alg.iter
    calls: dict[str, Callable[[], Any]] = {"recon": lambda: solved(iterations["recon"])}
    for peer in peers:
        calls[peer] = functools.partial(lambda name: sigpy_app(y, maps, name, iterations[name]).run(), peer)
    gaps = {name: objective(as_complex(call())) / smallest - 1 for name, call in calls.items()}
    notes = {name: f"{iterations[name]} iterations, objective + {gaps[name]:.1e}" for name in calls}
    return compared(f"total variation to {gap:.1%}, columns", timed(calls, rounds), notes)


def sigpy_app(y: Tensor, maps: Tensor, settings: str, iterations: int) -> Any:
    """SigPy's reconstruction."""
    np.random.seed(0)  # noqa: NPY002 - the start of SigPy's power iteration
    return sigpy.mri.app.TotalVariationRecon(
        y.numpy(), maps.numpy(), WEIGHT, max_iter=iterations, show_pbar=False, **SIGPY[settings]
    )


def compared(operation: str, seconds: dict[str, float], notes: dict[str, str]) -> list[dict]:
    """A row for every library."""
    return [
        {
            "operation": operation,
            "library": name,
            "seconds": round(found, 4),
            "seconds over recon's": round(found / seconds["recon"], 2),
            "note": notes.get(name, ""),
        }
        for name, found in seconds.items()
    ]


def as_channels(values: Tensor) -> Tensor:
    """Complex values as deepinv holds them: (1, 2, ...)."""
    return torch.view_as_real(values).movedim(-1, 0).unsqueeze(0).contiguous()


def as_complex(values: Any) -> Tensor:
    """A library's result as a complex tensor."""
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values)
    return values if values.is_complex() else torch.complex(values[0, 0], values[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = [row for kind in MASKS for row in operators(kind, options.rounds)]
    rows += total_variation(0.01, list(SIGPY), 1)
    rows += total_variation(0.001, ["sigpy, tuned ADMM"], 1)
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
