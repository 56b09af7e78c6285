"""Coil maps from data: known maps are found again; SigPy's ESPIRiT as an independent oracle."""

import math

import numpy as np
import pytest
import torch
from recon_data import samples
from recon_operators import CartesianMRI
from recon_operators.coil_maps import calibration_images, espirit, espirit_eigen, walsh
from recon_operators.coils import principal_coils
from recon_operators.sampling import poisson_disc


def birdcage(coils, height, width):
    """A birdcage of `coils` loops at 1.5 half sides: maps exp(i angle) / distance, of energy 1; complex128."""
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=torch.float64),
        torch.linspace(-1, 1, width, dtype=torch.float64),
        indexing="ij",
    )
    maps = []
    for turn in torch.arange(coils, dtype=torch.float64) * (2 * math.pi / coils):
        down, across = rows - 1.5 * turn.sin(), columns - 1.5 * turn.cos()
        maps.append(torch.polar(1 / torch.hypot(down, across), torch.atan2(across, -down) + turn))
    stacked = torch.stack(maps)
    return stacked / stacked.abs().square().sum(0).sqrt()


def scanned(photograph, coils, height, width):
    """A photograph in a disc with a smooth phase, seen by a birdcage: k-space, maps, support."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    support = rows**2 + columns**2 < 0.7
    image = (photograph[:height, :width] + 0.2) * support * torch.exp(1j * (rows + 2 * columns))
    maps = birdcage(coils, height, width)
    return CartesianMRI(torch.ones(height, width), maps)(image), maps, support


def angle_between(maps, others):
    """Sine of the angle between two maps at every pixel: what is left of one beside the other."""
    parallel = (maps.conj() * others).sum(-3, keepdim=True)
    return (others - maps * parallel).abs().square().sum(-3).sqrt() / others.abs().square().sum(-3).sqrt()


@pytest.mark.parametrize(("height", "width", "coils"), [(96, 96, 8), (81, 64, 6), (64, 95, 4)])
def test_known_maps_are_found_up_to_a_phase_a_pixel(photograph, height, width, coils):
    kspace, maps, support = scanned(photograph, coils, height, width)
    for found in (espirit(kspace, crop=0), walsh(kspace_to_images(kspace), window=3)):
        error = angle_between(found, maps)[support]
        assert float(error.median()) < 0.01
        assert float(error.quantile(0.95)) < 0.05  # the sharp edge of the disc is beyond a 6 x 6 kernel
    energy = espirit(kspace).abs().square().sum(0)
    assert bool((energy[support] > 0.999).float().mean() > 0.99)
    assert float(energy.max()) < 1 + 1e-9


def kspace_to_images(kspace):
    return CartesianMRI(torch.ones(kspace.shape[-2:])).pinv(kspace)


def test_undersampling_outside_the_calibration_region_changes_nothing(photograph):
    kspace, _, _ = scanned(photograph, 6, 96, 96)
    mask = poisson_disc((96, 96), 3, 0.25)
    for maps in (espirit, lambda data: walsh(calibration_images(data))):
        assert torch.equal(maps(kspace * mask), maps(kspace))


def test_the_coil_images_have_no_part_outside_the_maps(photograph):
    """The null space: what ESPIRiT's maps cannot explain of data that obey the model is nothing."""
    kspace, _, _ = scanned(photograph, 8, 96, 96)
    images = kspace_to_images(kspace)
    values, vectors = espirit_eigen(kspace)
    outside = images - vectors * (vectors.conj() * images).sum(0)
    assert float(outside.norm() / images.norm()) < 0.02
    assert float(values.max()) <= 1 + 1e-12  # a mean of projections
    assert float(values.min()) >= 0


def test_coils_that_see_everything_equally_are_found_exactly():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(40, 33, generator=generator, dtype=torch.complex128)
    factors = torch.tensor([2.0, 1j, -0.5 + 0.5j], dtype=torch.complex128)
    kspace = CartesianMRI(torch.ones(40, 33), factors.reshape(3, 1, 1).expand(3, 40, 33))(image)
    expected = (factors / factors.norm()).reshape(3, 1, 1).expand(3, 40, 33)
    # the virtual coil is the map itself, turned to make its largest entry, the first, real and positive
    values, maps = espirit_eigen(kspace, calibration=20, kernel=4)
    assert torch.allclose(maps, expected, atol=1e-9)
    assert torch.allclose(values, torch.ones_like(values), atol=1e-9)
    assert torch.allclose(walsh(kspace_to_images(kspace)), expected, atol=1e-9)


def test_one_coil_has_the_map_one():
    kspace = torch.randn(1, 24, 24, dtype=torch.complex128)
    assert torch.allclose(espirit(kspace, calibration=12, kernel=2), torch.ones_like(kspace), atol=1e-9)


def test_a_window_of_one_pixel_gives_the_coil_images_themselves():
    images = torch.randn(3, 4, 9, 7, dtype=torch.complex128)
    maps = walsh(images, window=1)
    assert torch.allclose(
        maps.abs(), images.abs() / images.abs().square().sum(1, keepdim=True).sqrt(), atol=1e-9
    )
    assert float(angle_between(maps, images).max()) < 1e-6


def test_windows_end_at_the_border():
    images = torch.randn(2, 5, 6, dtype=torch.complex128)
    maps = walsh(images, window=3)
    corner = images[:, :2, :2].flatten(1)
    leading = torch.linalg.eigh(corner @ corner.mH).eigenvectors[:, -1]
    assert float((leading.conj() @ maps[:, 0, 0]).abs()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("method", [lambda k: espirit(k, 16, 4, crop=0), walsh])
def test_the_maps_follow_a_change_of_coils(method, photograph):
    kspace, _, _ = scanned(photograph, 4, 64, 64)
    unitary = torch.linalg.qr(torch.randn(4, 4, dtype=torch.complex128))[0]
    expected = torch.einsum("vc,chw->vhw", unitary, method(kspace))
    factor = (expected.conj() * method(torch.einsum("vc,chw->vhw", unitary, kspace))).sum(0)
    assert float((factor / factor[32, 32] - 1).abs().max()) < 1e-6  # one phase for the whole image
    assert float(factor.abs().min()) > 1 - 1e-9


def test_large_images_are_worked_on_in_pieces_with_the_same_result(photograph, monkeypatch):
    kspace, _, _ = scanned(photograph, 4, 64, 48)
    whole = espirit_eigen(kspace), walsh(kspace, window=5)
    monkeypatch.setattr("recon_operators.coil_maps._MATRICES_AT_ONCE", 3 * 16 * 48)  # three rows
    (values, maps), combined = espirit_eigen(kspace), walsh(kspace, window=5)
    assert torch.allclose(values, whole[0][0], atol=1e-12)
    assert torch.allclose(maps, whole[0][1], atol=1e-9)
    assert torch.allclose(combined, whole[1], atol=1e-9)


def test_the_phase_makes_the_first_virtual_coil_real_and_positive(photograph):
    kspace, _, _ = scanned(photograph, 4, 64, 64)
    for maps, data in ((espirit(kspace, 16), kspace[:, 24:40, 24:40]), (walsh(kspace), kspace)):
        virtual = torch.einsum("c,chw->hw", principal_coils(data)[:, 0].conj(), maps)
        assert float(virtual.imag.abs().max()) < 1e-12
        assert float(virtual.real.min()) >= 0


def test_a_batch_is_its_items_and_single_precision_is_kept(photograph):
    kspace = torch.stack([scanned(photograph.roll(shift, 0), 4, 64, 48)[0] for shift in (0, 9, 30)])
    batch = kspace.reshape(3, 1, 4, 64, 48).to(torch.complex64)
    for method in (espirit, lambda data: walsh(calibration_images(data))):
        maps = method(batch)
        assert maps.dtype == torch.complex64
        assert maps.shape == batch.shape
        for item, found in zip(batch, maps, strict=True):
            assert torch.allclose(method(item[0]), found[0], atol=1e-3)


@pytest.mark.filterwarnings("ignore")  # of the peer's own imports
def test_measured_maps_agree_with_sigpy():
    reason = "SigPy is not installed: pip install --no-deps sigpy==0.1.27 tqdm PyWavelets"
    app = pytest.importorskip("sigpy.mri.app", reason=reason)
    kspace = samples.kspace_brain_8_coils().data
    theirs = app.EspiritCalib(
        kspace.numpy(), calib_width=24, kernel_width=6, thresh=0.02, crop=0.9, show_pbar=False
    ).run()
    ours, theirs = espirit(kspace, 24, 6, 0.02, 0.9), torch.from_numpy(np.asarray(theirs))
    seen, theirs_seen = ours.abs().sum(0) > 0, theirs.abs().sum(0) > 0
    assert float((seen == theirs_seen).float().mean()) > 0.999
    both = seen & theirs_seen
    correlation = (ours.conj() * theirs).sum(0).abs()[both]
    assert float(correlation.quantile(0.001)) > 0.999  # theirs stops a power iteration after 100 steps
    assert float(correlation.min()) > 0.99


KSPACE = torch.ones(2, 20, 20, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: espirit(KSPACE), "shorter side of k-space, 20; got 24"),
        (
            lambda: espirit(KSPACE * (torch.arange(3, 23) % 5 > 0), 12),
            "largest square that is has a side of 4",
        ),
        (lambda: espirit(KSPACE, 4), "kernel must lie between 1 and calibration=4, got 6"),
        (lambda: espirit(KSPACE, 12, threshold=1.5), "between 0 and 1; got 1.5"),
        (lambda: espirit(KSPACE, 12, crop=1), "crop must lie between 0 and 1, got 1"),
        (lambda: espirit(KSPACE * torch.nan, 12), "kspace holds NaN"),
        (lambda: espirit(KSPACE[0], 12), r"kspace must be \(\*batch, coils, H, W\), got \(20, 20\)"),
        (lambda: walsh(KSPACE, window=4), "odd number of pixels, got 4"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_real_data_are_refused():
    for method in (espirit, walsh, calibration_images):
        with pytest.raises(TypeError, match="must be complex, got torch.float32"):
            method(torch.ones(2, 30, 30))
        with pytest.raises(TypeError, match=r"must be a torch tensor, got ndarray: use torch\.as_tensor"):
            method(np.ones((2, 30, 30), dtype=np.complex64))


def test_sizes_are_whole_numbers():
    with pytest.raises(TypeError, match="calibration must be a whole number, got 12.5"):
        espirit(KSPACE, 12.5)
    with pytest.raises(TypeError, match="window must be a whole number, got 3.0"):
        walsh(KSPACE, 3.0)
