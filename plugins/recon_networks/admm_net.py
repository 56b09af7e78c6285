"""ADMM-Net: a fixed number of ADMM iterations whose filters, shrinkage, penalties and steps are learned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from recon.linear import LinearOperator, complex_dtype, real_dtype
from recon.parameters import Param
from recon.solvers.normal_equations import conjugate_gradients


class PiecewiseLinear(nn.Module):
    """A learned function per channel, linear between knots at equal distances on [-1, 1], of slope 1 outside.

    Args:
        channels: how many functions.
        knots: points of each.
        threshold: they start as soft thresholding by this much.
    """

    def __init__(self, channels: int, knots: int = 101, threshold: float = 0.05) -> None:
        super().__init__()
        at = torch.linspace(-1, 1, knots)
        soft = at.sign() * (at.abs() - threshold).clamp_min(0)
        self.values = nn.Parameter(soft.repeat(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Each channel of ``(B, channels, *shape)`` through its own function."""
        channels, knots = self.values.shape
        inside = x.clamp(-1, 1)
        place = (inside + 1) * ((knots - 1) / 2)
        left = place.detach().floor().clamp(0, knots - 2)
        first = torch.arange(channels, device=x.device).reshape(-1, *(1,) * (x.ndim - 2)) * knots
        index = left.long() + first
        flat, fraction = self.values.reshape(-1), place - left
        return torch.lerp(flat[index], flat[index + 1], fraction) + (x - inside)


class ADMMStage(nn.Module):
    """One iteration: reconstruction X, convolution C, shrinkage Z and multiplier M, each with its own parameters.

        x    = argmin_x 1/2 |A x - y|^2 + sum_l rho_l/2 |H_l x - z_l + beta_l|^2
        c_l  = D_l x
        z_l  = S_l(c_l + beta_l)
        beta = beta + eta (c - z)

    H_l and D_l are combinations of the cosine filters without the constant one. The last stage is X alone.
    """

    def __init__(self, filters: int, atoms: int, knots: int, last: bool = False) -> None:
        super().__init__()
        self.last = last
        self.reconstruction = nn.Parameter(torch.eye(filters, atoms))
        self.rho = nn.Parameter(torch.full((filters,), 0.2))
        if not last:
            self.convolution = nn.Parameter(torch.eye(filters, atoms))
            self.shrinkage = PiecewiseLinear(filters, knots)
            self.eta = nn.Parameter(torch.full((filters,), 1.6))


class ADMMNet(nn.Module):
    """ADMM with learned parameters in every iteration (Yang, Sun, Li and Xu 2016), for any linear operator.

    Made for real images in about [0, 1]: data are divided by the norm of the operator. The x-step is exact
    where the FFT diagonalises the operator (Cartesian MRI with one coil, deblurring), and then the real part
    is kept, as in the publication; elsewhere it is a fixed number of conjugate gradient steps. Convolutions
    are periodic. It starts as ADMM on the cosine filters with soft thresholding, before any training.

    Args:
        stages: iterations before the last reconstruction layer.
        filters: filters of each, at most size^2 - 1.
        size: side of the filters [px], odd.
        knots: points of the piecewise linear shrinkage.
        iterations: conjugate gradient steps in an x-step without a closed form.
    """

    needs_operator = True
    ends_consistent = True

    def __init__(
        self,
        stages: Annotated[int, Param("iterations before the last reconstruction layer", ge=1)] = 9,
        filters: Annotated[int, Param("filters of each, at most size^2 - 1", ge=1)] = 8,
        size: Annotated[int, Param("side of the filters, odd", unit="px", ge=3)] = 3,
        knots: Annotated[int, Param("points of the piecewise linear shrinkage", ge=3)] = 101,
        iterations: Annotated[int, Param("CG steps in an x-step without a closed form", ge=1)] = 8,
    ) -> None:
        super().__init__()
        if size % 2 == 0:
            raise ValueError(f"size must be odd, got {size}")
        if filters > size**2 - 1:
            raise ValueError(f"filters must be at most size^2 - 1 = {size**2 - 1}, got {filters}")
        self.size, self.iterations = size, iterations
        self.stages = nn.ModuleList(
            ADMMStage(filters, size**2 - 1, knots, last=place == stages) for place in range(stages + 1)
        )

    def forward(self, op: LinearOperator, y: Tensor) -> Tensor:
        """Reconstruct ``(B, H, W)`` from data ``(B, *range_shape)``.

        Raises:
            ValueError: the operator's images are not of two dimensions, or smaller than the filters.
        """
        self._check(op)
        norm = op.norm()
        back = op.adjoint(y) / norm**2
        if not len(back):
            return back
        steps = _ReconstructionLayer(op, norm, back, self.iterations)
        split: Tensor | None = None
        multiplier: Tensor | None = None
        for stage in self.layers():
            kernels = self._kernels(stage.reconstruction)
            pulled = None if split is None or multiplier is None else split - multiplier
            x = steps(kernels, stage.rho, pulled)
            if stage.last:
                break
            mapped = _convolve(x, self._kernels(stage.convolution))
            multiplier = torch.zeros_like(mapped) if multiplier is None else multiplier
            split = stage.shrinkage(mapped + multiplier)
            multiplier = multiplier + stage.eta.reshape(-1, 1, 1) * (mapped - split)
        return x.to(complex_dtype(x.dtype)) if back.is_complex() else x

    def layers(self) -> list[ADMMStage]:
        """The stages in turn; the last is a reconstruction layer alone."""
        return list(self.stages)  # type: ignore[arg-type]

    def _kernels(self, coefficients: Tensor) -> Tensor:
        return torch.einsum("lm,mij->lij", coefficients, cosine_filters(self.size)[1:].to(coefficients))

    def _check(self, op: LinearOperator) -> None:
        if len(op.domain_shape) != 2 or min(op.domain_shape) < self.size:
            raise ValueError(
                f"ADMMNet reconstructs images of two dimensions, at least {self.size} x {self.size}, "
                f"but {type(op).__name__} has the image shape {op.domain_shape}"
            )


class _ReconstructionLayer:
    """The x-step for one operator and its data, of any stage."""

    def __init__(self, op: LinearOperator, norm: float, back: Tensor, iterations: int) -> None:
        self.op, self.norm, self.back, self.iterations = op, norm, back, iterations
        symbol = op.fourier_symbol()
        self.symbol = None if symbol is None else symbol.to(back.device, real_dtype(back.dtype)) / norm**2
        self.x: Tensor = torch.zeros_like(back.real)

    def __call__(self, kernels: Tensor, rho: Tensor, pulled: Tensor | None) -> Tensor:
        """argmin_x of a stage; ``pulled`` is z - beta, (B, filters, H, W), none in the first."""
        weighted = kernels * rho.reshape(-1, 1, 1)
        right = self.back if pulled is None else self.back + _correlate(pulled, weighted)
        energy = _energy(kernels, rho, self.back.shape[-2:])
        self.x = self._by_fft(right, energy) if self.symbol is not None else self._by_cg(right.real, energy)
        return self.x

    def _by_fft(self, right: Tensor, energy: Tensor) -> Tensor:
        assert self.symbol is not None
        total = self.symbol + energy
        inverse = torch.where(total > 1e-6, 1 / total.clamp_min(1e-6), 0)  # what neither sees stays zero
        return torch.fft.ifft2(torch.fft.fft2(right) * inverse).real

    def _by_cg(self, right: Tensor, energy: Tensor) -> Tensor:
        """Conjugate gradients from the last image; every step is differentiable."""

        def normal(x: Tensor) -> Tensor:
            # the operator may take complex images only; of its gram, the real part acts on real images
            seen: Tensor = self.op.gram(x.to(self.back.dtype)).real / self.norm**2
            return seen

        def terms(x: Tensor) -> Tensor:
            return torch.fft.ifft2(torch.fft.fft2(x) * energy).real

        return conjugate_gradients(normal, terms, right, self.x, normal(self.x), self.iterations)[0]


def cosine_filters(size: int) -> Tensor:
    """The filters of the two-dimensional discrete cosine transform, ``(size^2, size, size)`` float64, constant first.

    The frequency along the rows runs fastest, that along the columns slowest.
    """
    place = torch.arange(size, dtype=torch.float64)
    basis = math.sqrt(2 / size) * torch.cos(math.pi * (2 * place + 1) * place[:, None] / (2 * size))
    basis[0] = math.sqrt(1 / size)
    pairs = torch.einsum("ac,br->abrc", basis, basis)
    return pairs.reshape(size**2, size, size)


def load_published_admm_net(path: str | Path) -> ADMMNet:
    """Read a network trained by the authors' MATLAB code, https://github.com/yangyan92/Deep-ADMM-Net.

    Args:
        path: a file such as ``net-stage7.mat`` (MATLAB 7.3), whose variable ``net`` has a cell array ``layers``.

    Raises:
        ValueError: the file is not of that form; the message says what is missing.
    """
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(
            f"{path} is no MATLAB 7.3 file: expected a network of Deep-ADMM-Net such as net-stage7.mat"
        )
    with h5py.File(path, "r") as file:
        if "net/layers" not in file:
            raise ValueError(f"{path} has no variable net.layers, but {', '.join(file) or 'nothing'}")
        cells = [file[reference] for reference in file["net/layers"][:, 0]]
        kinds = ["".join(chr(letter) for letter in cell["type"][()].ravel()) for cell in cells]
        weights = [
            [torch.from_numpy(file[reference][()]) for reference in cell["weights"][()].ravel()]
            for cell in cells
            if "weights" in cell
        ]
    kinds = [kind for kind in kinds if kind != "loss"]
    stages = len(kinds) // 4
    if len(kinds) != 4 * stages + 1 or not all(kind.startswith("X_") for kind in kinds[::4]):
        raise ValueError(
            f"{path} has the layers {', '.join(kinds)}: expected X, C, Z and M in turn and X at the end"
        )
    filters, atoms = weights[0][0].shape
    knots = weights[2][0].shape[1]
    network = ADMMNet(stages, filters, math.isqrt(atoms + 1), knots).to(weights[0][0].dtype)
    with torch.no_grad():
        for place, stage in enumerate(network.layers()):
            mine = weights[4 * place : 4 * place + 4]
            stage.reconstruction.copy_(mine[0][0])
            stage.rho.copy_(mine[0][1].reshape(-1))
            if place < stages:
                stage.convolution.copy_(mine[1][0])
                stage.shrinkage.values.copy_(mine[2][0])
                stage.eta.copy_(mine[3][0].reshape(-1))
    return network


def _convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Periodic convolution of (B, H, W) with every kernel: (B, filters, H, W)."""
    return nn.functional.conv2d(_wrapped(x.unsqueeze(1), kernels), kernels.flip(-1, -2).unsqueeze(1))


def _correlate(maps: Tensor, kernels: Tensor) -> Tensor:
    """The adjoint of `_convolve`: (B, filters, H, W) to (B, H, W)."""
    return nn.functional.conv2d(_wrapped(maps, kernels), kernels.unsqueeze(0)).squeeze(1)


def _wrapped(x: Tensor, kernels: Tensor) -> Tensor:
    return nn.functional.pad(x, (kernels.shape[-1] // 2,) * 4, mode="circular")


def _energy(kernels: Tensor, rho: Tensor, shape: torch.Size) -> Tensor:
    """sum_l rho_l |H_l|^2 on the FFT grid."""
    return (rho.reshape(-1, 1, 1) * torch.fft.fft2(kernels, s=shape).abs().square()).sum(0)
