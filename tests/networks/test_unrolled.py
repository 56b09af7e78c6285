"""Unrolled networks: their layers against closed forms, and the published ADMM-Net against its published figures."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.fft
import scipy.io
import torch
from recon_networks.admm_net import ADMMNet, PiecewiseLinear, cosine_filters, load_published_admm_net
from recon_networks.learned_gradient import LearnedGradient
from recon_networks.learned_primal_dual import LearnedPrimalDual
from recon_networks.modl import DataConsistency, MoDL
from recon_operators import Blur, CartesianMRI, Mask, ParallelBeam

from recon import LinearOperator
from recon.linear import Identity

PUBLISHED = Path(__file__).parents[3] / "shared/data/admm_net"
SIZE = (12, 10)


class Dense(LinearOperator):
    """A random matrix: no closed form, no Fourier symbol."""

    def __init__(
        self, rows: int = 16, shape: tuple[int, ...] = (3, 4), dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__(domain_shape=shape, range_shape=(rows,))
        generator = torch.Generator().manual_seed(0)
        columns = int(np.prod(shape))
        self.register_buffer("matrix", torch.randn(rows, columns, generator=generator, dtype=dtype))

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(-len(self.domain_shape)) @ self.matrix.to(x.dtype).T


def mri(coils: int = 0) -> CartesianMRI:
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(SIZE, generator=generator) < 0.5).float()
    mask[0, 0] = 1
    if not coils:
        return CartesianMRI(mask)
    return CartesianMRI(mask, torch.randn(coils, *SIZE, dtype=torch.complex64, generator=generator))


def ct() -> ParallelBeam:
    return ParallelBeam(shape=SIZE, pixel_size=1.0, angles=7)


OPERATORS = {
    "ct": (ct, False),
    "mri": (mri, True),
    "coils": (lambda: mri(3), True),
    "mask": (lambda: Mask(torch.ones(SIZE)), False),
}
NETWORKS = {
    "lpd": lambda c, **more: LearnedPrimalDual(2, 3, 2, features=4, layers=2, complex_images=c, **more),
    "gradient": lambda c, **more: LearnedGradient(2, 2, features=4, layers=2, complex_images=c, **more),
    "modl": lambda c, **more: MoDL(2, features=4, layers=2, complex_images=c, **more),
}


def data_of(op: LinearOperator, is_complex: bool, items: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    dtype = torch.complex64 if is_complex else torch.float32
    return op(torch.randn(items, *op.domain_shape, dtype=dtype, generator=generator))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_parameter_is_trained_on_every_operator(network: str, operator: str) -> None:
    make, is_complex = OPERATORS[operator]
    op = make()
    torch.manual_seed(0)
    net = NETWORKS[network](is_complex)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # PReLU slopes start at 0, where a unit may be dead
    y = data_of(op, is_complex)
    x = net(op, y)
    assert x.shape == (2, *op.domain_shape) and x.is_complex() == is_complex
    x.abs().square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.ne(0).any()), name


@pytest.mark.parametrize("network", NETWORKS)
def test_an_item_does_not_depend_on_its_mates(network: str) -> None:
    op = ct()
    torch.manual_seed(0)
    net = NETWORKS[network](False).double()
    y = data_of(op, False, items=3).double()
    assert torch.allclose(net(op, y)[1:2], net(op, y[1:2]), atol=1e-10, rtol=0)  # rounding of float64


@pytest.mark.parametrize("network", NETWORKS)
def test_checkpointing_gives_the_same_image_and_gradient(network: str) -> None:
    op, gradients, images = ct(), [], []
    y = data_of(op, False)
    for checkpointed in (False, True):
        torch.manual_seed(0)
        net = NETWORKS[network](False, checkpointed=checkpointed)
        x = net(op, y)
        x.square().sum().backward()
        images.append(x.detach())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))
    assert torch.equal(*images)
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-6 * float(gradients[0].abs().max()))


def test_volumes() -> None:
    op = Identity((4, 5, 6))
    y = torch.randn(1, 4, 5, 6)
    for network in NETWORKS.values():
        assert network(False, axes=3)(op, y).shape == (1, 4, 5, 6)


@pytest.mark.parametrize("network", NETWORKS)
def test_what_does_not_fit_is_named(network: str) -> None:
    with pytest.raises(ValueError, match="complex_images=True"):
        NETWORKS[network](False)(mri(), data_of(mri(), True))
    with pytest.raises(ValueError, match="axes=3"):
        NETWORKS[network](False)(Identity((4, 5, 6)), torch.zeros(1, 4, 5, 6))


def test_an_unscaled_operator_gives_the_same_image_of_the_primal_dual_network() -> None:
    torch.manual_seed(0)
    net, op = NETWORKS["lpd"](False).double(), Dense()
    y = torch.randn(1, 16, dtype=torch.float64)
    net = LearnedPrimalDual(2, 3, 2, features=4, layers=2, data_axes=1).double()
    assert torch.allclose(net(op, y), net(1000 * op, 1000 * y), rtol=1e-3, atol=1e-6)  # norms within 0.1 %


@pytest.mark.parametrize("op", [Dense(), Blur((3, 4), ("gaussian", 0.5))], ids=["cg", "closed form"])
def test_the_data_consistency_step_and_its_gradient_are_those_of_the_exact_solution(
    op: LinearOperator,
) -> None:
    matrix = op.to_dense(torch.float64).reshape(-1, 12)
    weight = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    inverse = torch.linalg.inv(matrix.T @ matrix + 3 * torch.eye(12, dtype=torch.float64))
    solved = DataConsistency.apply(b, weight, op, 30)
    assert torch.allclose(solved.flatten(1), b.flatten(1) @ inverse, rtol=1e-8, atol=1e-10)
    assert torch.autograd.gradcheck(lambda b, w: DataConsistency.apply(b, w, op, 30), (b, weight))


def test_the_gradients_of_a_data_consistency_step_of_several_coils_are_those_of_autograd() -> None:
    """Of a dense solution, in complex128: real and imaginary part of the image, and the weight."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4, 3, generator=generator, dtype=torch.complex128)
    op = CartesianMRI(torch.ones(4, 3).tril(), maps).double()
    matrix = op.to_dense(torch.complex128)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 4, 3, generator=generator, dtype=torch.complex128, requires_grad=True)
    pull = torch.randn(2, 4, 3, generator=generator, dtype=torch.complex128)

    def gradients(solved: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((solved * pull).real.square().sum(), (b, weight))

    normal = matrix.mH @ matrix + weight * torch.eye(12, dtype=torch.complex128)
    dense = torch.linalg.solve(normal, b.flatten(1).T).T.reshape(b.shape)
    step = DataConsistency.apply(b, weight, op, 40)
    torch.testing.assert_close(step, dense, rtol=1e-9, atol=1e-9)
    for found, wanted in zip(gradients(step), gradients(dense), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)  # forty steps for twelve unknowns


def test_published_primal_dual_size() -> None:
    """10 iterations of 3 convolutions with 5 images and 5 data: the quarter million parameters of the publication."""
    net = LearnedPrimalDual()
    convolutions = 10 * (
        (7 * 32 + 32 * 32 + 32 * 5) * 9 + 32 + 32 + 5 + (6 * 32 + 32 * 32 + 32 * 5) * 9 + 32 + 32 + 5
    )
    assert sum(p.numel() for p in net.parameters()) == convolutions + 10 * 2 * 2 * 32


def test_cosine_filters_are_those_of_the_transform() -> None:
    for place, kernel in enumerate(cosine_filters(3).numpy()):
        spectrum = np.zeros((3, 3))
        spectrum[place % 3, place // 3] = 1
        assert np.allclose(kernel, scipy.fft.idctn(spectrum, norm="ortho"))


def test_piecewise_linear_shrinkage() -> None:
    shrink = PiecewiseLinear(2, knots=21, threshold=0.1).double()
    x = torch.linspace(-2, 2, 401, dtype=torch.float64).expand(1, 2, -1).clone().requires_grad_()
    soft = x.sign() * (x.abs() - 0.1).clamp_min(0)  # its kinks lie on knots
    assert torch.allclose(shrink(x), soft, atol=1e-7)  # the knots are those of float32
    slopes = torch.autograd.grad(shrink(x + 1e-3).sum(), x)[0]
    assert torch.allclose(slopes, ((x + 1e-3).abs() > 0.1).double(), atol=1e-6)


@pytest.mark.parametrize("make", [lambda: mri(), lambda: mri(3), ct, lambda: Blur(SIZE, ("gaussian", 1.0))])
def test_the_first_reconstruction_layer_solves_its_equations(make) -> None:  # type: ignore[no-untyped-def]
    """x = argmin 1/2 |A x - y|^2 + sum_l rho_l/2 |H_l x|^2 over real x, against a dense solve."""
    op = make()
    is_complex = op.domain == "complex"
    net = ADMMNet(1, iterations=200).double()
    net.stages = net.stages[1:]  # the last stage alone
    y = data_of(op, is_complex, items=1).to(torch.complex128 if is_complex else torch.float64)
    count, norm = SIZE[0] * SIZE[1], op.norm()
    eye = torch.eye(count, dtype=y.dtype).reshape(count, *SIZE)
    gram = op.gram(eye).reshape(count, count).T
    kernels = cosine_filters(3)[1:]
    spectrum = sum(torch.fft.fft2(kernel, s=SIZE).abs().square() for kernel in kernels)
    priors = 0.2 * torch.fft.ifft2(torch.fft.fft2(eye) * spectrum).real.reshape(count, count)
    right = op.adjoint(y).reshape(-1) / norm**2
    if op.fourier_symbol() is not None:  # the published layer keeps the real part of the complex solution
        expected = torch.linalg.solve(gram / norm**2 + priors, right).real
    else:
        expected = torch.linalg.solve(gram.real / norm**2 + priors, right.real)
    assert torch.allclose(net(op, y).real.reshape(-1), expected, rtol=1e-6, atol=1e-8)


def test_admm_net_trains_from_its_start() -> None:
    op, net = ct(), ADMMNet(2, 4)
    net(op, data_of(op, False)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.ne(0).any()), name


def test_admm_net_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        ADMMNet(1)(Identity((4, 5, 6)), torch.zeros(1, 4, 5, 6))
    with pytest.raises(ValueError, match="odd, got 4"):
        ADMMNet(size=4)
    with pytest.raises(ValueError, match="at most size"):
        ADMMNet(filters=9)


def test_a_file_that_is_no_published_network_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["image"] = np.zeros(3)
    with pytest.raises(ValueError, match="no variable net.layers, but image"):
        load_published_admm_net(tmp_path / "other.mat")
    (tmp_path / "text.mat").write_text("no")
    with pytest.raises(ValueError, match="no MATLAB 7.3 file"):
        load_published_admm_net(tmp_path / "text.mat")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs the published network in ../shared/data/admm_net")
def test_the_published_network_reproduces_its_published_figures() -> None:
    """Brain1 at 20 %: 35.60 dB, NMSE 0.0578; zero-filled 28.11 dB, 0.1407 (the authors' page, seven stages)."""
    image = torch.from_numpy(_variable("Brain_data1.mat", "im_ori"))
    op = CartesianMRI(torch.from_numpy(_variable("mask_20.mat", "mask")))
    y = op(image.to(torch.complex128)).unsqueeze(0)
    net = load_published_admm_net(PUBLISHED / "net-stage7.mat")
    with torch.no_grad():
        scores = [_scores(x[0], image) for x in (op.pinv(y), net(op, y))]
    assert scores == [("28.11", "0.1407"), ("35.60", "0.0578")]


def _variable(name: str, variable: str) -> np.ndarray:
    if h5py.is_hdf5(PUBLISHED / name):
        with h5py.File(PUBLISHED / name) as file:
            return file[variable][()].T.astype(float).copy()
    return scipy.io.loadmat(PUBLISHED / name)[variable].astype(float)


def _scores(x: torch.Tensor, image: torch.Tensor) -> tuple[str, str]:
    """PSNR of the magnitude at peak 1, and the norm of the error over that of the image."""
    psnr = -10 * torch.log10((x.abs() - image).square().mean())
    return f"{float(psnr):.2f}", f"{float((x - image).norm() / image.norm()):.4f}"
