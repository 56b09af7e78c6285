"""Small operators of ours that every bridge is tried with: real, complex, and with another range shape."""

import torch
from recon_operators import Blur, CartesianMRI, Gradient, ParallelBeam

from recon.testing import check_operator

MAPS = torch.randn(3, 5, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(30).reshape(5, 6) % 3 != 1).float()

OURS = {
    "blur": lambda: Blur(shape=(6, 7), kernel=("gaussian", 0.8)),
    "ct": lambda: ParallelBeam((6, 7), angles=5),
    "gradient": lambda: Gradient((4, 5)),
    "mri": lambda: CartesianMRI(MASK, MAPS),
}

SINGLE = {"double_precision": "the library computes in single precision"}


def relative(a, b) -> float:
    """|a - b| / |b|."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def ridge(op, y, weight: float):
    """argmin |A x - y|^2 + weight |x|^2 by the dense normal equations, in the precision of ``y``; flat."""
    matrix = op.to_dense(y.dtype)
    normal = matrix.mH @ matrix + weight * torch.eye(matrix.shape[1], dtype=y.dtype)
    return torch.linalg.solve(normal, matrix.mH @ y.flatten())


def is_complex(name: str) -> bool:
    return name == "mri"


def check_host_operator(op, **expected_failures: str) -> None:
    """Every check of the kit, for an operator of a library that computes in one place."""
    place = {"device": "the library's arrays lie in main memory: tensors elsewhere are refused"}
    check_operator(op, expected_failures=place | expected_failures)
