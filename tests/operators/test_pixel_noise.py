"""The noise level of images with and without holes."""

import pytest
import torch
from recon_operators.pixel_noise import noise_of_image


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_white_noise_on_a_smooth_image_is_measured():
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    smooth = torch.exp(-3 * (rows**2 + columns**2)).double()
    levels = torch.tensor([0.001, 0.01, 0.1])
    measured = noise_of_image(smooth + levels.reshape(3, 1, 1) * noise(3, 128, 128))
    # median of 16 000 dependent samples: 2 % statistical error
    assert (measured / levels).tolist() == pytest.approx([1, 1, 1], rel=0.05)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_holes_do_not_bias_the_measurement(share, photograph):
    measured = torch.rand(128, 128, generator=torch.Generator().manual_seed(1)) < share
    level = 0.2  # the differences of sparse pixels still hold much of the photograph
    noisy = (photograph + level * noise(128, 128)) * measured
    assert float(noise_of_image(noisy.unsqueeze(0), measured)) == pytest.approx(level, rel=0.15)


def test_complex_noise_is_that_of_each_part():
    x = torch.complex(noise(2, 64, 64, seed=1), noise(2, 64, 64, seed=2)) * 0.3
    assert noise_of_image(x).tolist() == pytest.approx([0.3, 0.3], rel=0.05)


def test_lines_and_stacks_of_images_have_a_noise_level():
    assert float(noise_of_image(noise(1, 4000))) == pytest.approx(1, rel=0.08)
    assert float(noise_of_image(noise(1, 3, 64, 64))) == pytest.approx(1, rel=0.05)
    assert float(noise_of_image(noise(1, 500, 2))) == pytest.approx(1, rel=0.15)


def test_pixels_without_neighbours_do_not_tell():
    checkerboard = torch.arange(8).unsqueeze(1) + torch.arange(8)
    with pytest.raises(ValueError, match="only 32 of 64 pixels are measured, too few of them side by side"):
        noise_of_image(noise(1, 8, 8), checkerboard % 2)
