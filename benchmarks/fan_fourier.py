"""Fan-beam CT by convolutions: A^T A as a few FFT pairs, and rebinning to parallel beams, against the matrix.

    .venv/bin/python benchmarks/fan_fourier.py [--sizes 256 512] [--views 180 720] [--runs 5] [--json FILE]

The source lies two image sides from the axis and three from the detector; the views span a full turn. First table:
A^T A of the Shepp-Logan phantom by `degree`, the highest power of s in the density of rays is twice that; its error
relative to A^T A x, and after the ramp filter relative to x, which weighs all frequencies of the image alike;
milliseconds (median). Second table: iterations and seconds of conjugate gradients on A^T A + rho D^T D, D the gradient
and rho as of TV in ADMM, to a residual of 1e-4: with the ramp as the preconditioner, and with four iterations of the
same on the convolutions. Third table: ASTRA's ``strip_fanflat`` plus noise of 0.5 %, TV on the fan's matrix and on rays
rebinned to parallel (cubic splines) with the Fourier backend, and the error of the rebinned data over the noise.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astra
import numpy as np
import torch
from fourier import milliseconds, solved, strips
from recon_operators import FanBeam, Gradient
from recon_operators.line_integrals import radial_frequency
from recon_operators.nufft import normal_kernel
from recon_operators.scan_geometry import FanGeometry
from scipy.ndimage import map_coordinates
from setting import environment, print_table
from skimage.data import shepp_logan_phantom
from skimage.transform import resize
from torch import Tensor

import recon

NOISE = 0.005


class Convolutions:
    """A^T A of a full turn of dense views, sum_k a_k P^T s^(2k) P with P the parallel beam.

    Through the line at s from the axis, n views over a turn with elements d apart at the axis go n/pi dphi ds/d
    (1 - s^2/R^2)^(-3/2) rays. That density is fitted by a polynomial in s^2, and as s = x cos phi + y sin phi along
    the whole line, s P f = cos phi P(x f) + sin phi P(y f): powers of s are multiplications of the image, and what is
    between them a convolution.
    """

    def __init__(self, geometry: FanGeometry, degree: int) -> None:
        height, width = geometry.shape
        self.shape, self.degree = geometry.shape, degree
        radius = geometry.pixel_size * math.hypot(height, width) / 2
        x = (torch.arange(width) - (width - 1) / 2) / (width / 2)
        y = ((height - 1) / 2 - torch.arange(height)) / (width / 2)
        self.monomials = [[x**i * y[:, None] ** (k - i) for i in range(k + 1)] for k in range(degree + 1)]
        unit = geometry.pixel_size * width / 2
        s = radius * np.cos(np.linspace(0, np.pi / 2, 200))
        density = (1 - (s / geometry.source_origin) ** 2) ** -1.5
        fit = np.polynomial.polynomial.polyfit((s / unit) ** 2, density, degree)
        self.misfit = float(
            np.abs(np.polynomial.polynomial.polyval((s / unit) ** 2, fit) / density - 1).max()
        )
        views = 2 * math.ceil(math.pi * math.hypot(height, width) / 2)
        phi = np.arange(views)[:, None] * (np.pi / views)
        step = 1 / (3 * max(height, width) * geometry.pixel_size)
        f = (
            np.arange(
                -math.ceil(1 / (geometry.pixel_size * step)), math.ceil(1 / (geometry.pixel_size * step))
            )
            * step
        )
        steepest = np.maximum(np.abs(np.cos(phi)), np.abs(np.sin(phi)))
        power = geometry.pixel_size**4 * np.sinc(f * geometry.pixel_size * steepest) ** 4
        power *= step / geometry.detector_size_at_axis * geometry.views / views
        cycles = f * geometry.pixel_size
        points = torch.from_numpy(
            np.stack([-cycles * np.sin(phi) * height, cycles * np.cos(phi) * width], -1)
        )
        self.symbols: list[list[list[Tensor]]] = []
        for k in range(degree + 1):

            def symbol(power_of_cosine: int, k: int = k) -> Tensor:
                turned = np.cos(phi) ** power_of_cosine * np.sin(phi) ** (2 * k - power_of_cosine)
                weights = torch.from_numpy(fit[k] * power * turned).flatten()
                kernel = normal_kernel(points.reshape(-1, 2), geometry.shape, weights).real
                return torch.fft.rfft2(kernel * (height * width)).real.float()

            kept = [symbol(total) for total in range(2 * k + 1)]
            self.symbols.append(
                [
                    [math.comb(k, i) * math.comb(k, j) * kept[i + j] for j in range(k + 1)]
                    for i in range(k + 1)
                ]
            )

    def __call__(self, image: Tensor) -> Tensor:
        """A^T A x, for one image."""
        height, width = self.shape
        grid = (2 * height, 2 * width)
        total = torch.zeros_like(image)
        for monomials, symbols in zip(self.monomials, self.symbols, strict=True):
            spectra = torch.fft.rfft2(torch.stack([m * image for m in monomials]), s=grid)
            for monomial, row in zip(monomials, symbols, strict=True):
                mixed = sum(symbol * spectrum for symbol, spectrum in zip(row, spectra, strict=True))
                total += monomial * torch.fft.irfft2(mixed, s=grid)[:height, :width]
        return total


@functools.cache
def phantom(size: int) -> Tensor:
    """Shepp-Logan in [0, 1]."""
    return torch.tensor(resize(shepp_logan_phantom(), (size, size), anti_aliasing=True), dtype=torch.float32)


def fan(size: int, views: int) -> FanBeam:
    """The scan."""
    return FanBeam((size, size), angles=views, source_origin=2.0 * size, origin_detector=1.0 * size)


def grams(size: int, views: int, runs: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Errors and times of A^T A, and of the systems solved with it."""
    op, x = fan(size, views), phantom(size)
    exact = op.gram(x)
    ramp = radial_frequency(size, size, torch.device("cpu"))
    scale = float(op.approximate_symbol()[0, 0] * ramp[0, 0])
    calls: dict[str, Callable[[], Tensor]] = {"matrix": lambda: op._run_gram(x)}
    made, rows = {}, []
    for degree in (0, 1, 2):
        made[degree] = Convolutions(op.geometry, degree)
        calls[f"degree {degree}"] = lambda degree=degree: made[degree](x)
    taken = milliseconds(calls, runs)
    for name, call in calls.items():
        off = call() - exact
        filtered = torch.fft.ifft2(torch.fft.fft2(off) * ramp / scale).real
        row = {"size": size, "views": views, "A^T A by": name, "ms": taken[name]}
        row["density off"] = "" if name == "matrix" else f"{made[int(name[-1])].misfit:.1e}"
        row["error"] = f"{float(off.norm() / exact.norm()):.1e}"
        rows.append(row | {"error, ramp filtered": f"{float(filtered.norm() / x.norm()):.1e}"})
    return rows, systems(op, made[1], x)


def systems(op: FanBeam, near: Convolutions, x: Tensor) -> list[dict[str, Any]]:
    """Conjugate gradients on A^T A + rho D^T D with two preconditioners."""
    D = Gradient(op.domain_shape)
    rows = []
    for rho in (1.0, 30.0):
        ramp = op.preconditioner([rho], [D])

        def inner(residual: Tensor, rho: float = rho, ramp: Any = ramp) -> Tensor:
            return gradients(lambda v: near(v) + rho * D.gram(v), residual, ramp, 0.0, 4)[0]

        def exact(v: Tensor, rho: float = rho) -> Tensor:
            return op._run_gram(v[None])[0] + rho * D.gram(v)

        b = exact(x)
        for name, precondition in (("ramp", ramp), ("convolutions", inner)):
            began = time.perf_counter()
            _, steps = gradients(exact, b, precondition, 1e-4, 200)
            row = {"size": op.domain_shape[0], "views": op.range_shape[0], "rho": rho, "preconditioner": name}
            rows.append(row | {"iterations": steps, "s": round(time.perf_counter() - began, 2)})
    return rows


def gradients(
    matrix: Callable[[Tensor], Tensor],
    b: Tensor,
    precondition: Callable[[Tensor], Tensor],
    tolerance: float,
    most: int,
) -> tuple[Tensor, int]:
    """Conjugate gradients that allow for a preconditioner that changes (Golub and Ye 1999)."""
    x, residual = torch.zeros_like(b), b
    direction = steered = precondition(residual)
    for step in range(1, most + 1):
        image = matrix(direction)
        alpha = (direction * residual).sum() / (direction * image).sum()
        squared = (steered * residual).sum()
        x, before, residual = x + alpha * direction, residual, residual - alpha * image
        if residual.norm() <= tolerance * b.norm():
            return x, step
        steered = precondition(residual)
        direction = steered + (steered * (residual - before)).sum() / squared * direction
    return x, most


def fan_strips(op: FanBeam, image: Tensor) -> Tensor:
    """ASTRA's strip kernel of the fan."""
    g = op.geometry
    projector = astra.create_projector(
        "strip_fanflat",
        astra.create_proj_geom(
            "fanflat", g.detector_size, g.detectors, np.asarray(g.angles), g.source_origin, g.origin_detector
        ),
        astra.create_vol_geom(*image.shape),
    )
    sinogram = np.zeros((g.views, g.detectors), dtype=np.float32)
    astra.projector.direct_FP(projector, image.numpy(), out=sinogram)
    astra.projector.delete(projector)
    return torch.from_numpy(sinogram)


def rebinned(op: FanBeam, y: Tensor, views: int, detectors: int) -> Tensor:
    """Parallel views by cubic splines in the view's angle and along the detector, the mean of both ways of a line."""
    g = op.geometry
    phi = np.arange(2 * views)[:, None] * (np.pi / views)
    s = np.arange(detectors) - (detectors - 1) / 2
    gamma = np.arcsin(np.clip(s / g.source_origin, -1, 1))
    place = np.tan(gamma) * g.source_detector / g.detector_size + (g.detectors - 1) / 2
    view = (phi + gamma) / (2 * np.pi) * g.views
    pad = 16
    around = np.pad(y.numpy(), ((pad, pad), (0, 0)), mode="wrap")
    where = np.broadcast_arrays(view % g.views + pad, place)
    turn = map_coordinates(around, where, order=3, mode="constant")
    return torch.from_numpy((turn[:views] + turn[views:, ::-1]) / 2)


def rebinning(size: int, views: int) -> list[dict[str, Any]]:
    """TV from the same noisy strips in fan beam: by the fan's matrix and by rebinned rays."""
    op, truth = fan(size, views), phantom(size)
    clean = fan_strips(op, truth)
    sigma = NOISE * float(clean.max())
    y = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    detectors, half = math.ceil(size * math.sqrt(2)), views // 2
    parallel = strips(truth, half, detectors)
    off = float((rebinned(op, clean, half, detectors) - parallel).square().mean().sqrt())
    other = recon.operator(
        "ct_parallel", shape=truth.shape, angles=half, detectors=detectors, backend="fourier"
    )
    rows = []
    for name, scanner, data, weight in (
        ("fan, matrix", op, y, 7.5 * sigma),
        ("rebinned, fourier", other, rebinned(op, y, half, detectors), 7.5 * sigma / 2),
    ):
        scanner.gram(truth), scanner.pinv(data)
        row = {"size": size, "views": views, "from": name} | solved(scanner, data, truth, weight)
        row["rebinning error / noise"] = round(off / sigma, 2) if scanner is other else ""
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--views", type=int, nargs="+", default=[180, 720])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {"environment": environment(), "rows": [], "systems": [], "rebinning": []}
    for size in options.sizes:
        for views in options.views:
            first, second = grams(size, views, options.runs)
            result["rows"] += first
            result["systems"] += second
            result["rebinning"] += rebinning(size, views)
            for name in ("rows", "systems", "rebinning"):
                print_table(result[name])
            if options.json:
                options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
