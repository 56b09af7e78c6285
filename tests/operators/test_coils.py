"""Noise covariance, prewhitening and coil compression against their closed forms."""

import pytest
import torch
from recon_operators.coils import compress_coils, noise_covariance, prewhiten, principal_coils


def complex_noise(*shape, seed=0):
    """Standard deviation 1 in the real and in the imaginary part."""
    return 2**0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def correlated(coils, seed=1):
    mixing = complex_noise(coils, coils, seed=seed) + 2 * torch.eye(coils)
    return mixing, mixing @ mixing.mH


def test_the_covariance_is_that_of_the_real_and_of_the_imaginary_part():
    mixing, covariance = correlated(3)
    samples = mixing @ complex_noise(3, 40_000)
    measured = noise_covariance(samples.reshape(3, 200, 200))
    assert float((measured - covariance).norm() / covariance.norm()) < 0.02  # 3 / sqrt(40 000)
    assert float(samples[0].real.var()) == pytest.approx(float(measured[0, 0].real), rel=0.02)


def test_whitened_noise_has_the_identity_as_its_covariance():
    mixing, covariance = correlated(4)
    samples = torch.einsum("vc,bchw->bvhw", mixing, complex_noise(2, 4, 30, 20))
    whitened = prewhiten(samples, noise_covariance(samples.movedim(1, 0)))
    found = noise_covariance(whitened.movedim(1, 0))
    assert torch.allclose(found, torch.eye(4, dtype=torch.complex128), atol=1e-12)
    known = prewhiten(samples, covariance)
    factor = torch.linalg.cholesky(covariance)
    assert torch.allclose(torch.einsum("vc,bchw->bvhw", factor, known), samples, atol=1e-12)


def test_whitening_keeps_precision_and_what_was_not_measured():
    kspace = complex_noise(3, 8, 6).to(torch.complex64)
    kspace[:, :, 2] = 0
    whitened = prewhiten(kspace, correlated(3)[1])
    assert whitened.dtype == torch.complex64
    assert not bool(whitened[:, :, 2].any())


def test_compression_keeps_the_largest_singular_values():
    mixing, _ = correlated(6)
    kspace = torch.einsum("vc,bchw->bvhw", mixing, complex_noise(2, 6, 12, 10))
    values = torch.linalg.svdvals(kspace.flatten(2))
    for kept in (1, 4, 6):
        compressed = compress_coils(kspace, kept)
        assert compressed.shape == (2, kept, 12, 10)
        assert torch.allclose(torch.linalg.svdvals(compressed.flatten(2)), values[:, :kept], rtol=1e-10)
    assert torch.allclose(compress_coils(kspace[0], 3), compress_coils(kspace, 3)[0], atol=1e-10)


def test_coils_that_repeat_each_other_are_compressed_without_loss():
    two = complex_noise(2, 16, 16)
    kspace = torch.einsum("vc,chw->vhw", complex_noise(5, 2, seed=3), two)
    back = torch.einsum("cv,vhw->chw", principal_coils(kspace)[:, :2], compress_coils(kspace, 2))
    assert torch.allclose(back, kspace, atol=1e-10)


def test_white_noise_stays_white():
    kspace = complex_noise(5, 64, 64)
    kspace[:, 30:34, 30:34] *= 100
    unitary = principal_coils(kspace)
    assert torch.allclose(unitary.mH @ unitary, torch.eye(5, dtype=torch.complex128), atol=1e-12)


KSPACE = torch.ones(2, 4, 4, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: noise_covariance(torch.ones(4, 3, dtype=torch.complex64)),
            r"more samples than coils.*\(4, 3\)",
        ),
        (lambda: noise_covariance(KSPACE * torch.nan), "NaN"),
        (lambda: prewhiten(KSPACE, torch.eye(3)), r"must be \(2, 2\), got \(3, 3\)"),
        (lambda: prewhiten(KSPACE, torch.ones(2, 2)), "not positive definite"),
        (lambda: prewhiten(KSPACE, torch.tensor([[1.0, 1], [0, 1]])), "not Hermitian"),
        (lambda: prewhiten(KSPACE[0], torch.eye(2)), r"must be \(\*batch, coils, H, W\), got \(4, 4\)"),
        (lambda: compress_coils(KSPACE, 3), "between 1 and the 2 coils there are, got 3"),
        (lambda: compress_coils(KSPACE, 0), "got 0"),
        (lambda: compress_coils(KSPACE * torch.inf, 1), "NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_real_data_are_refused():
    for call in (noise_covariance, lambda x: prewhiten(x, torch.eye(2)), lambda x: compress_coils(x, 1)):
        with pytest.raises(TypeError, match="complex"):
            call(torch.ones(2, 4, 4))
