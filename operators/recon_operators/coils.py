"""What is done to multi-coil k-space before its maps are estimated: noise prewhitening, coil compression."""

from __future__ import annotations

import torch
from torch import Tensor


def noise_covariance(samples: Tensor) -> Tensor:
    """The coils' noise covariance (C, C) from samples of noise alone (C, *samples), complex.

    Half of E[n n^H], so that its diagonal is the variance of the real and of the imaginary part each, as
    everywhere in this framework. The samples come from a noise scan, or from measured k-space so far out that
    there is no signal left.

    Raises:
        TypeError: real samples.
        ValueError: fewer samples than coils, which cannot give an invertible covariance; NaN.
    """
    if not samples.is_complex():
        raise TypeError(f"noise samples must be complex, as k-space is; got {samples.dtype}")
    if samples.ndim < 2 or samples[0].numel() < samples.shape[0]:
        raise ValueError(
            f"noise samples must be (coils, samples) with more samples than coils, got {tuple(samples.shape)}"
        )
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("noise samples hold NaN or infinite values")
    flat = samples.flatten(1)
    return flat @ flat.mH / (2 * flat.shape[1])


def prewhiten(kspace: Tensor, covariance: Tensor) -> Tensor:
    """Combine the coils so that their noise is white: covariance the identity (Pruessmann et al. 2001).

    With covariance = L L^H (Cholesky) the result is L^-1 k. Its noise has standard deviation 1 in the real
    and in the imaginary part of every coil: ``fidelity=("gaussian", {"noise_level": 1.0})``.

    Args:
        kspace: (*batch, C, H, W), complex; samples that were not measured stay zero.
        covariance: (C, C), as `noise_covariance` gives it.

    Raises:
        ValueError: a covariance of another size, or one that is not Hermitian positive definite.
    """
    check_coils(kspace, "kspace")
    coils = kspace.shape[-3]
    if tuple(covariance.shape) != (coils, coils):
        raise ValueError(
            f"the covariance of {coils} coils must be ({coils}, {coils}), got {tuple(covariance.shape)}: "
            "noise_covariance makes it from noise samples"
        )
    exact = covariance.to(torch.complex128)
    if not torch.allclose(exact, exact.mH, rtol=1e-4, atol=1e-4 * float(exact.abs().max())):
        raise ValueError("the covariance is not Hermitian")
    factor, failed = torch.linalg.cholesky_ex(exact)
    if int(failed):
        raise ValueError(
            "the covariance is not positive definite: two coils carry the same noise, or a coil carries none; "
            "leave that coil out"
        )
    identity = torch.eye(coils, dtype=exact.dtype, device=exact.device)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False).to(kspace.dtype)
    return torch.einsum("vc,...chw->...vhw", inverse, kspace)


def principal_coils(kspace: Tensor) -> Tensor:
    """Orthonormal combinations of coils, strongest first, as the columns of (*batch, C, C): k = U (U^H k).

    The left singular vectors of k-space as a matrix of coils by samples. Each is turned so that its largest
    entry is real and positive, which makes it unique where the singular values differ.
    """
    check_coils(kspace, "kspace")
    flat = kspace.flatten(-2)
    vectors = torch.linalg.eigh(flat @ flat.mH).eigenvectors.flip(-1)
    largest = vectors.gather(-2, vectors.abs().argmax(-2, keepdim=True))
    return vectors * (largest.abs() / largest)


def compress_coils(kspace: Tensor, virtual_coils: int) -> Tensor:
    """The strongest combinations of coils (*batch, virtual_coils, H, W): coil compression by SVD.

    Buehrer et al., Magn. Reson. Med. 57, 2007: no other choice of that many combinations keeps more of the
    data's energy. They are orthonormal, so white noise stays white: prewhiten first. Each item of a batch has
    its own.

    Args:
        kspace: (*batch, C, H, W), complex.
        virtual_coils: how many to keep, from 1 to C.
    """
    check_coils(kspace, "kspace")
    check_whole(virtual_coils, "virtual_coils")
    if not 1 <= virtual_coils <= kspace.shape[-3]:
        raise ValueError(
            f"virtual_coils must lie between 1 and the {kspace.shape[-3]} coils there are, got {virtual_coils}"
        )
    kept = principal_coils(kspace)[..., :virtual_coils]
    return torch.einsum("...cv,...chw->...vhw", kept.conj(), kspace)


def check_coils(values: Tensor, name: str) -> None:
    """Refuse what is not multi-coil data: complex (*batch, C, H, W), finite."""
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor, got {type(values).__name__}: use torch.as_tensor(...)"
        )
    if not values.is_complex():
        raise TypeError(f"{name} must be complex, got {values.dtype}")
    if values.ndim < 3:
        raise ValueError(f"{name} must be (*batch, coils, H, W), got {tuple(values.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"{name} holds NaN or infinite values: replace them first")


def check_whole(value: int, name: str) -> None:
    """Refuse a number of samples, pixels or coils that is no whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
