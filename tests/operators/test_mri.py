"""Cartesian MRI against NumPy's shifted FFT, on simulated and on measured k-space."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import Blur, CartesianMRI, Gradient
from recon_operators.sampling import random_1d, random_2d

import recon
from recon.linear import Identity
from recon.testing.dense import conjugate_gradient_iterations

sides = st.integers(1, 9)
kinds = st.sampled_from(["points", "columns", "rows", "full"])


def centred_fft(x: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, axes), norm="ortho"), axes)


def complex_noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def some_mask(height, width, kind, seed):
    points = np.random.default_rng(seed).integers(0, 2, (height, width)).astype(float)
    points[height // 2, width // 2] = 1
    masks = {"points": points, "columns": points[height // 2], "rows": points[:, width // 2, None]}
    return masks.get(kind, np.ones((height, width)))


def birdcage(coils, height, width):
    """Smooth complex coil maps of uneven energy; complex64."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    maps = []
    for angle in torch.arange(coils) * (2 * math.pi / coils):
        distance = (rows - 1.2 * angle.sin()) ** 2 + (columns - 1.2 * angle.cos()) ** 2
        phase = 2 * (columns * angle.sin() - rows * angle.cos()) + angle
        maps.append(torch.polar(torch.exp(-distance), phase))
    return torch.stack(maps)


@given(sides, sides, kinds, st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_it_is_the_masked_centred_fft_for_odd_and_even_sides(height, width, kind, coils, seed):
    mask = some_mask(height, width, kind, seed)
    maps = complex_noise(coils, height, width, seed=seed).numpy() if coils else None
    op = CartesianMRI(mask, maps) if coils else CartesianMRI(mask, shape=(height, width))
    x = complex_noise(2, height, width, seed=seed + 1)
    reference = mask * centred_fft(x.numpy()[:, None] * maps if coils else x.numpy())
    assert np.allclose(op(x).numpy(), reference, atol=1e-12)
    y = complex_noise(*op(x).shape, seed=seed + 2)
    matrix = op.to_dense(torch.complex128)
    assert torch.allclose(op.adjoint(y).flatten(1), y.flatten(1) @ matrix.conj(), atol=1e-12)
    assert torch.allclose(op.gram(x), op.adjoint(op(x)), atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(64, 48), (45, 63)])
@pytest.mark.parametrize("kind", ["points", "columns", "rows"])
@pytest.mark.parametrize("coils", [0, 3])
def test_the_shortcut_of_the_normal_operator_is_exact_in_single_precision(height, width, kind, coils):
    mask = some_mask(height, width, kind, 0)
    op = CartesianMRI(mask, birdcage(coils, height, width) if coils else None, shape=(height, width))
    x = complex_noise(2, height, width).to(torch.complex64)
    pair = op.adjoint(op(x))
    assert float((op.gram(x) - pair).norm() / pair.norm()) < 1e-6
    assert len(op._transformed_axes) == {"points": 2, "columns": 1, "rows": 1}[kind]


def test_a_mask_of_columns_is_repeated_to_the_size_of_the_image():
    columns = [1, 0, 1, 1, 0]
    full = torch.tensor(columns, dtype=torch.float32).expand(4, 5)
    for mask in (columns, [columns]):
        assert torch.equal(CartesianMRI(mask, shape=(4, 5)).mask, full)
        assert torch.equal(CartesianMRI(mask, birdcage(2, 4, 5)).mask, full)
    rows = torch.tensor([[1.0], [0], [1], [1]])
    assert torch.equal(CartesianMRI(rows, shape=(4, 5)).mask, rows.expand(4, 5))
    assert CartesianMRI([[1, 0, 1]], shape=(1, 3)).domain_shape == (1, 3)


def test_the_norm_is_exact_for_one_coil_and_an_upper_bound_for_several():
    maps = birdcage(4, 16, 15)
    mask = random_1d((16, 15), 2, 0.2)
    assert CartesianMRI(mask).norm() == 1
    for sampled in (mask, torch.ones(16, 15)):
        op = CartesianMRI(sampled, maps)
        truth = float(torch.linalg.matrix_norm(op.to_dense(torch.complex128), 2))
        assert truth <= op.norm() * (1 + 1e-7)
        assert op.norm() <= 1.2 * truth
    assert op.norm() == pytest.approx(truth, rel=1e-6)  # everything sampled


def test_direct_reconstruction_of_full_data_is_the_image():
    x = complex_noise(2, 12, 15)
    maps = birdcage(3, 12, 15).to(torch.complex128)
    maps[:, :2] = 0  # no coil sees the top
    seen = x * (maps.abs().sum(0) > 0)
    full = torch.ones(12, 15)
    assert torch.allclose(CartesianMRI(full).pinv(CartesianMRI(full)(x)), x, atol=1e-12)
    op = CartesianMRI(full, maps)
    assert torch.allclose(op.pinv(op(x)), seen, atol=1e-9)
    single = op.pinv(op(x.to(torch.complex64)))
    assert single.dtype == torch.complex64
    assert float((single - seen).abs().max()) < 1e-3


def test_measured_k_space_becomes_the_image_that_numpy_gives(brain_kspace):
    image = CartesianMRI(torch.ones(256, 256)).pinv(brain_kspace)
    axes = (-2, -1)
    reference = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(brain_kspace.numpy(), axes), norm="ortho"), axes
    )
    assert np.allclose(image.numpy(), reference, atol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(12, 10), (9, 11)])
def test_the_data_step_of_one_coil_is_solved_exactly(height, width):
    op = CartesianMRI(some_mask(height, width, "points", 3))
    gradient, identity = Gradient((height, width), "periodic"), Identity((height, width))
    x = complex_noise(2, height, width)
    for rho, terms in (([0.2], [identity]), ([0.3], [gradient]), ([0.3, 0.1], [gradient, identity])):
        b = op.gram(x) + sum(weight * K.gram(x) for weight, K in zip(rho, terms, strict=True))
        assert torch.allclose(op.solve_gram(b, rho, terms), x, atol=1e-10)
    assert op.solve_gram(x, [0.3], [Gradient((height, width))]) is None
    assert CartesianMRI(op.mask, birdcage(2, height, width)).solve_gram(x, [0.2], [identity]) is None


def test_the_symbol_is_the_mask_with_the_zero_frequency_first():
    mask = torch.zeros(4, 5)
    mask[2, 2] = 1  # the middle of the centred k-space
    symbol = CartesianMRI(mask).fourier_symbol()
    assert symbol[0, 0] == 1
    assert symbol.sum() == 1


def test_the_nearest_circulant_is_the_diagonal_in_the_fourier_domain():
    maps = birdcage(3, 6, 5).to(torch.complex128)
    maps = maps / maps.abs().square().sum(0).sqrt()
    op = CartesianMRI(some_mask(6, 5, "points", 1), maps)
    A = op.to_dense(torch.complex128)
    F = (
        torch.fft.fft2(torch.eye(30, dtype=torch.complex128).reshape(30, 6, 5), norm="ortho")
        .reshape(30, 30)
        .T
    )
    diagonal = torch.diagonal(F @ A.mH @ A @ F.mH).real
    assert torch.allclose(op.approximate_symbol().flatten(), diagonal, atol=1e-12)


@pytest.mark.parametrize("rho", [0.03, 0.3])
@pytest.mark.parametrize("coils", ["one", "four", "four, seeing a disc"])
def test_the_preconditioner_cuts_the_iterations(coils, rho):
    mask = random_1d((20, 20), 2.5, 0.2)
    maps = None if coils == "one" else birdcage(4, 20, 20)
    if coils == "four, seeing a disc":
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, 20), torch.linspace(-1, 1, 20), indexing="ij")
        maps = maps * (rows**2 + columns**2 < 0.8)
    op, K = CartesianMRI(mask, maps), Gradient((20, 20))
    A, D = op.to_dense(torch.complex128), K.to_dense(torch.complex128)
    M = A.mH @ A + rho * op.norm() ** 2 * D.mH @ D
    units = torch.eye(400, dtype=torch.complex128).reshape(400, 20, 20)
    P = op.preconditioner([rho * op.norm() ** 2], [K])(units).reshape(400, 400).T
    plain, steered = conjugate_gradient_iterations(M, None, 1e-3), conjugate_gradient_iterations(M, P, 1e-3)
    assert steered <= 0.9 * plain, (plain, steered)


@pytest.mark.parametrize("coils", [0, 4])
@pytest.mark.parametrize("acceleration", [1, 4])
@pytest.mark.parametrize("level", [0.002, 0.05])
def test_the_noise_level_of_simulated_data_is_found(coils, acceleration, level, photograph):
    mask = random_1d((128, 128), acceleration, 0.08)
    op = CartesianMRI(mask, birdcage(coils, 128, 128) if coils else None)
    image = Blur((128, 128), ("gaussian", 1.5))(
        photograph
    )  # a scanner's images fade towards high frequencies
    noise = level * math.sqrt(2) * complex_noise(4, *op.range_shape)
    measured = op.noise_level(op(image) + noise * mask)
    assert float(measured.mean()) == pytest.approx(level, rel=0.05)
    assert measured.tolist() == pytest.approx(
        [level] * 4, rel=0.15
    )  # 3 deviations of a median of 256 samples


@pytest.mark.parametrize("acceleration", [1, 4])
def test_the_noise_level_of_measured_data_adds_to_the_scanners_own(acceleration, brain_kspace):
    mask = random_1d((256, 256), acceleration, 0.08, density="gaussian")
    op = CartesianMRI(mask)
    air = CartesianMRI(torch.ones(256, 256)).pinv(brain_kspace)[:16, :16]  # the corner without head or ghost
    own = float(torch.view_as_real(air).std())
    added = torch.tensor([0.0, 5.0, 20.0], dtype=torch.float64)
    noise = added.reshape(3, 1, 1) * math.sqrt(2) * complex_noise(3, 256, 256)
    expected = torch.sqrt(own**2 + added**2)
    assert op.noise_level((brain_kspace + noise) * mask).tolist() == pytest.approx(expected.tolist(), rel=0.1)


@pytest.mark.parametrize("coils", [0, 4])
@pytest.mark.parametrize("level", [1e-4, 1e-2])
def test_the_sharp_edges_of_a_phantom_are_not_taken_for_noise(coils, level):
    """Its k-space reaches the corners with 2 % of its maximum; the air beside it has none."""
    op = CartesianMRI(random_1d((128, 128), 3, 0.08), birdcage(coils, 128, 128) if coils else None)
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    ellipse = ((rows - 64) / 50) ** 2 + ((columns - 60) / 40) ** 2 < 1
    image = (ellipse + 0.5 * ((rows - 70).abs() < 12) * ((columns - 50).abs() < 9)).to(torch.complex128)
    noise = level * math.sqrt(2) * complex_noise(4, *op.range_shape)
    measured = op.noise_level(op(image) + noise * op.mask)
    # 43 lines of 8 positions, next to each other in a window: some 150 independent samples a coil, three deviations
    assert measured.tolist() == pytest.approx([level] * 4, rel=0.12)


def test_an_object_that_fills_the_axis_leaves_the_outermost_samples_alone(photograph):
    op = CartesianMRI(random_1d((128, 128), 3, 0.08))
    image = Blur((128, 128), ("gaussian", 1.5))(photograph) + 0.2
    noise = 0.002 * math.sqrt(2) * complex_noise(2, 128, 128)
    assert op.noise_level(op(image) + noise * op.mask).tolist() == pytest.approx([0.002] * 2, rel=0.15)


def test_coil_maps_stay_complex_and_precise_when_the_operator_is_moved():
    maps = complex_noise(2, 6, 5)
    op, x = CartesianMRI(torch.ones(6, 5), maps), complex_noise(6, 5)
    before = op(x)
    assert torch.equal(op.to(torch.float64)(x), before)
    assert torch.equal(op.coil_maps, maps)
    single = op.to(torch.float32)
    assert single.coil_maps.dtype == torch.complex64
    assert torch.allclose(single(x), before, atol=1e-6)


def test_a_changed_buffer_changes_every_result():
    op, x = CartesianMRI(torch.ones(6, 5), birdcage(2, 6, 5)), complex_noise(6, 5)
    op(x), op.gram(x), op.adjoint(op(x)), op.pinv(op(x)), op.norm(), op.approximate_symbol()
    other = CartesianMRI(some_mask(6, 5, "points", 2), 2 * birdcage(2, 6, 5))
    op.load_state_dict(other.state_dict())
    y = other(x)
    assert torch.equal(op(x), y)
    assert torch.equal(op.gram(x), other.gram(x))
    assert torch.equal(op.adjoint(y), other.adjoint(y))
    assert torch.equal(op.pinv(y), other.pinv(y))
    assert torch.equal(op.approximate_symbol(), other.approximate_symbol())
    assert op.norm() == other.norm()


def test_real_coil_maps_and_images_are_promoted():
    op = CartesianMRI([[1, 0], [1, 1]], np.ones((1, 2, 2)))
    assert op.coil_maps.dtype == torch.complex128
    assert op(torch.ones(2, 2)).dtype == torch.complex64


def test_it_says_what_it_is():
    assert repr(CartesianMRI(random_1d((8, 8), 4, 0.2), birdcage(3, 8, 8))) == (
        "CartesianMRI((8, 8) -> (3, 8, 8), coils=3, acceleration=4.00)"
    )


@given(st.lists(st.integers(1, 5), min_size=3, max_size=3), st.integers(0, 2), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_volumes_are_transformed_as_numpy_does(shape, coils, seed):
    generator = np.random.default_rng(seed)
    sides = [side if generator.random() < 0.7 else 1 for side in shape]  # constant along some axes
    mask = generator.integers(0, 2, sides).astype(float)
    mask[tuple(side // 2 for side in sides)] = 1
    maps = complex_noise(coils, *shape, seed=seed).numpy() if coils else None
    op, x = CartesianMRI(mask, maps, tuple(shape)), complex_noise(2, *shape, seed=seed + 1)
    axes = (-3, -2, -1)
    seen = x.numpy()[:, None] * maps if coils else x.numpy()
    reference = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(seen, axes), axes=axes, norm="ortho"), axes)
    assert np.allclose(op(x).numpy(), mask * reference, atol=1e-12)
    matrix, y = op.to_dense(torch.complex128), complex_noise(*op(x).shape, seed=seed + 2)
    assert torch.allclose(op.adjoint(y).flatten(1), y.flatten(1) @ matrix.conj(), atol=1e-12)
    assert torch.allclose(op.gram(x).flatten(1), x.flatten(1) @ (matrix.mH @ matrix).T, atol=1e-12)
    assert float(torch.linalg.matrix_norm(matrix, 2)) <= op.norm() * (1 + 1e-9)


def test_a_volume_of_one_slice_is_that_slice():
    mask, maps, x = random_1d((8, 6), 2, 0.2), birdcage(2, 8, 6), complex_noise(8, 6)
    flat, volume = CartesianMRI(mask, maps), CartesianMRI(mask[None], maps[:, None])
    assert torch.equal(volume(x[None])[:, 0], flat(x))
    y = flat(x)
    assert torch.equal(volume.pinv(y[:, None])[0], flat.pinv(y))
    # one more factor of 1 in the product that makes the symbol
    assert torch.allclose(volume.approximate_symbol()[0], flat.approximate_symbol())
    assert volume.noise_level(y[None, :, None]) == flat.noise_level(y[None])


@pytest.mark.parametrize("coils", [0, 2])
def test_phase_encoding_steps_of_a_volume_cost_transforms_of_two_axes(coils, monkeypatch):
    shape = (6, 8, 10)
    steps = random_2d(shape[:2], 3, 0.2)
    op = CartesianMRI("random_2d:acceleration=3,centre_fraction=0.2", shape=shape) if not coils else None
    op = op or CartesianMRI(steps.unsqueeze(-1), complex_noise(coils, *shape))
    assert torch.equal(op.mask, steps.unsqueeze(-1).expand(shape))
    x = complex_noise(2, *shape)
    expected = op.adjoint(op(x))
    transformed = []
    for name in ("fftn", "ifftn"):
        transform = getattr(torch.fft, name)

        def watched(values, dim, transform=transform):
            transformed.append([values.shape[axis] for axis in dim])
            return transform(values, dim=dim)

        monkeypatch.setattr(torch.fft, name, watched)
    assert torch.allclose(op.gram(x), expected, atol=1e-12)
    assert len(transformed) == 2 * max(coils, 1)
    assert all(sides == [6, 8] for sides in transformed)


def test_the_closed_form_step_and_the_nearest_circulant_hold_for_volumes():
    shape = (4, 3, 5)
    mask = np.random.default_rng(1).integers(0, 2, shape).astype(float)
    mask[2, 1, 2] = 1  # without the zero frequency a gradient alone leaves the step singular
    op, gradient, x = CartesianMRI(mask), Gradient(shape, "periodic"), complex_noise(2, *shape)
    b = op.gram(x) + 0.3 * gradient.gram(x)
    assert torch.allclose(op.solve_gram(b, [0.3], [gradient]), x, atol=1e-10)
    maps = complex_noise(2, *shape)
    maps = maps / maps.abs().square().sum(0).sqrt()
    several = CartesianMRI(mask, maps)
    A = several.to_dense(torch.complex128)
    units = torch.eye(60, dtype=torch.complex128).reshape(60, *shape)
    F = torch.fft.fftn(units, dim=(-3, -2, -1), norm="ortho").reshape(60, 60).T
    diagonal = torch.diagonal(F @ A.mH @ A @ F.mH).real
    assert torch.allclose(several.approximate_symbol().flatten(), diagonal, atol=1e-12)


@pytest.mark.parametrize("coils", [0, 3])
def test_an_undersampled_volume_is_solved_by_total_variation(coils):
    shape = (16, 24, 20)
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in shape], indexing="ij")
    truth = 1.0 * (z**2 + y**2 + x**2 < 0.8) - 0.5 * (z**2 + (y - 0.3) ** 2 + x**2 < 0.1)
    smooth = birdcage(3, *shape[1:]).unsqueeze(1) * torch.exp(-(z[:, :1, :1] ** 2) / 4)
    op = CartesianMRI("poisson_disc:acceleration=3,centre_fraction=0.3", smooth if coils else None, shape)
    data = op.measure(truth.to(torch.complex64), noise="complex_gaussian:std=0.02", seed=0)
    # the level is given: the sharp edges of this phantom would be taken for noise
    solution = recon.solve(op, "tv", data, fidelity=("gaussian", {"noise_level": 0.02}))
    assert float((solution.image - truth).norm()) < 0.4 * float((op.pinv(data) - truth).norm())


MAPS = np.ones((2, 4, 6))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([[0, 0.5], [1, 1]],), r"only 0 .* and 1 .*got 0\.5"),
        ((np.zeros((4, 6)),), r"mask of shape \(4, 6\) has no 1: nothing is measured"),
        (
            (np.ones((4, 5)), MAPS),
            r"mask of shape \(4, 5\) does not fit the coil maps, which say .* = \(4, 6\)",
        ),
        ((np.ones((6, 1)), MAPS), r"does not fit the coil maps.*columns \(6,\) or rows \(4, 1\)"),
        (([1, 0, 1],), r"a mask of shape \(3,\) does not tell the size of the image: give shape=\(H, W\)"),
        (([[1, 0, 1]],), r"a mask of shape \(1, 3\) does not tell the size"),
        ((np.ones((2, 2)), None, (3, 3)), r"mask of shape \(2, 2\) does not fit shape, which say"),
        ((np.ones((4, 6)), MAPS, (4, 5)), r"shape is \(4, 5\), but the coil maps are for images \(4, 6\)"),
        ((np.ones((4, 6)), MAPS[0]), r"coil_maps must be \(coils, H, W\), got \(4, 6\)"),
        ((np.ones((4, 6)), MAPS * np.nan), "coil_maps holds 48 NaN or infinite values"),
        ((np.ones((4, 6)), MAPS * 0), "no coil sees the image"),
        ((np.ones((4, 6)), None, (2, 4, 6)), r"does not fit shape, which say \(D, H, W\) = \(2, 4, 6\)"),
        ((np.ones((4, 6)), np.ones((5, 2, 4, 6))), r"does not fit the coil maps, which say \(D, H, W\)"),
        ((np.ones((4, 6)), None, (4,)), r"shape must be \(H, W\) or \(D, H, W\), got \(4,\)"),
        ((np.array([[1, np.nan]]),), "mask holds 1 NaN or infinite values"),
    ],
)
def test_masks_and_maps_that_do_not_fit_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        CartesianMRI(*arguments)


def test_a_mean_that_neither_data_nor_prior_see_stays_where_it_began():
    """Constant coil maps without the zero frequency, and total variation: the constant is in both null spaces."""
    mask = (torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    mask[16, 16] = 0
    operator = CartesianMRI(mask, torch.ones(2, 32, 32, dtype=torch.complex64))
    truth = torch.zeros(32, 32, dtype=torch.complex64)
    truth[8:20, 8:20] = 1
    solution = recon.solve(operator, "tv:weight=2e-3", operator.measure(truth))
    assert solution.converged
    assert float(solution.image.mean().abs()) < 1e-5  # the zero-filled image has none
