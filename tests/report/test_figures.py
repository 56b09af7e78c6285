"""Pictures show the values they say they show."""

import io
import sys
from subprocess import run

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from recon.report.figures import (
    LINES,
    curves_png,
    difference_limit,
    difference_png,
    display_window,
    grey_png,
    plane,
    save_png,
)


def pixels(png: bytes) -> np.ndarray:
    picture = Pillow.open(io.BytesIO(png))
    return np.asarray(
        picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        if picture.mode == "P"
        else picture
    )


def ramp(height: int = 6, width: int = 9) -> torch.Tensor:
    return torch.linspace(-1.0, 3.0, height * width).reshape(height, width)


# Grey pictures


def test_the_window_maps_linearly_to_black_and_white():
    image = torch.tensor([[-5.0, 0.0, 1.0], [2.0, 4.0, 9.0]])
    grey = pixels(grey_png(image, (0.0, 4.0)))
    assert grey.dtype == np.uint8
    np.testing.assert_array_equal(grey, [[0, 0, 64], [128, 255, 255]])


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    dtype=st.sampled_from(
        [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.int16]
    ),
)
def test_a_picture_has_one_pixel_per_pixel_whatever_the_dtype(shape, dtype):
    image = (10 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert pixels(grey_png(image)).shape == shape


def test_a_complex_image_is_shown_by_magnitude():
    image = torch.polar(ramp().abs(), torch.linspace(0, 3, 54).reshape(6, 9))
    assert plane(image).note == "magnitude"
    np.testing.assert_allclose(plane(image.conj()).values, ramp().abs().numpy(), rtol=1e-6)  # float32
    assert grey_png(image, (0.0, 3.0)) == grey_png(ramp().abs(), (0.0, 3.0))


def test_a_volume_is_shown_by_its_middle_slice():
    volume = torch.stack([ramp() + k for k in range(5)])
    assert plane(volume).note == "slice 3 of 5"
    np.testing.assert_array_equal(plane(volume).values, (ramp() + 2).double().numpy())
    assert plane(ramp()[None]).note == ""


def test_arrays_are_taken_as_well_as_tensors():
    assert grey_png(ramp().numpy(), (-1, 3)) == grey_png(ramp(), (-1, 3))


def test_the_default_window_ignores_a_few_outliers():
    image = torch.rand(100, 100, generator=torch.Generator().manual_seed(0))
    image[0, 0] = 1e6
    low, high = display_window(image)
    assert 0.0 <= low < 0.02
    assert 0.98 < high <= 1.0


@pytest.mark.parametrize("value", [0.0, 1.0, -3e9, 1e-12])
def test_a_constant_image_has_a_window_too(value):
    low, high = display_window(torch.full((4, 4), value))
    assert low < value < high
    assert len(np.unique(pixels(grey_png(torch.full((4, 4), value))))) == 1


def test_a_nearly_empty_image_shows_what_is_there():
    image = torch.zeros(100, 100)
    image[3, 4] = 2.0
    assert display_window(image) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(5), r"got shape \(5,\)"),
        (torch.zeros(2, 2, 2, 2), "height, width"),
        (torch.zeros(0, 5), "no pixel"),
        (torch.tensor([[1.0, torch.nan]]), "1 of the image's 2 pixels are NaN or infinite"),
    ],
)
def test_what_cannot_be_shown_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        grey_png(image)


@pytest.mark.parametrize("window", [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan"))])
def test_a_window_needs_black_below_white(window):
    with pytest.raises(ValueError, match="black < white"):
        grey_png(ramp(), window)


# Files


def test_save_png_writes_the_picture(tmp_path):
    path = save_png(tmp_path / "new" / "image.png", ramp(), (-1, 3))
    assert path.read_bytes() == grey_png(ramp(), (-1, 3))


def test_a_batch_becomes_a_contact_sheet(tmp_path):
    batch = torch.stack([torch.full((5, 6), k / 10) for k in range(10)]).reshape(2, 5, 5, 6)
    sheet = pixels(save_png(tmp_path / "batch.png", batch, (0.0, 1.0)).read_bytes())
    assert sheet.shape == (2 * 5 + 2, 4 * 6 + 3 * 2)
    for index in range(8):
        top, left = index // 4 * 7, index % 4 * 8
        tile = sheet[top : top + 5, left : left + 6].astype(float)
        np.testing.assert_allclose(tile, 255 * index / 10, atol=0.51)  # rounded to a grey level
    volumes = save_png(tmp_path / "volumes.png", batch, (0.0, 1.0), item_ndim=3)
    assert pixels(volumes.read_bytes()).shape == (5, 2 * 6 + 2)
    with pytest.raises(ValueError, match="no image to show"):
        save_png(tmp_path / "none.png", torch.zeros(0, 5, 6))


def test_save_png_leaves_nothing_behind_when_the_image_is_bad(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        save_png(tmp_path / "new" / "image.png", torch.full((3, 3), torch.nan))
    assert not (tmp_path / "new").exists()


def test_save_png_refuses_another_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"image\.jpg does not end in \.png"):
        save_png(tmp_path / "image.jpg", ramp())


# Differences


def test_colours_are_symmetric_about_zero():
    reference = torch.zeros(1, 5)
    image = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0]])
    colours = pixels(difference_png(image, reference, 2.0)).astype(int)[0]
    assert colours[2].min() > 240  # zero is white
    assert colours[0][2] > colours[0][0]  # below zero is blue
    assert colours[4][0] > colours[4][2]  # above zero is red
    np.testing.assert_array_equal(pixels(difference_png(image, reference, 1.0))[0][[0, 4]], colours[[0, 4]])


def test_equal_images_differ_nowhere():
    assert difference_limit(ramp(), ramp()) == 1.0
    assert len(np.unique(pixels(difference_png(ramp(), ramp())).reshape(-1, 3), axis=0)) == 1


def test_complex_images_differ_by_magnitude():
    phase = torch.polar(torch.ones(6, 9), torch.full((6, 9), 1.0))
    assert difference_limit(ramp().abs() * phase, ramp().abs()) < 1e-6  # float32
    assert difference_limit(ramp().abs() * phase, ramp()) < 1e-6


def test_a_lone_error_is_visible():
    image = torch.zeros(100, 100)
    image[5, 5] = 3.0
    assert difference_limit(image, torch.zeros(100, 100)) == 3.0


def test_differences_need_equal_shapes_and_a_positive_limit():
    with pytest.raises(ValueError, match=r"\(6, 9\) cannot be compared with a reference \(9, 6\)"):
        difference_png(ramp(), ramp().T)
    with pytest.raises(ValueError, match="positive number"):
        difference_png(ramp(), ramp(), 0.0)


# Plots


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_curves_are_drawn_on_a_transparent_ground(theme):
    plot = pixels(
        curves_png({"a": ([0, 1, 2], [3.0, 2.0, 1.0]), "b": ([0, 2], [1e-3, float("nan")])}, theme=theme)
    )
    assert plot.shape[2] == 4
    assert plot[0, 0, 3] == 0
    assert plot[..., 3].max() == 255


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [0.0, -1.0, 2.0], [float("nan")] * 3, [1e-9, 1.0, 1e9]])
def test_any_curve_can_be_drawn(values):
    assert pixels(curves_png({"curve": ([1, 2, 3], values)})).ndim == 3


def test_a_curve_has_the_colour_of_its_number():
    """So that a method has one colour in every plot, whichever others are in it."""

    def distance(*numbers: int) -> float:
        """Of the colour nearest to the second one, in levels of 255."""
        curves = {str(number): ([0, 1], [1.0, 1.0 + number]) for number in numbers}
        plot = pixels(curves_png(curves, colours=numbers)).reshape(-1, 4)
        solid = plot[plot[:, 3] > 250, :3].astype(int)
        second = [int(LINES["light"][1][place : place + 2], 16) for place in (1, 3, 5)]
        return float(np.abs(solid - second).max(1).min())

    assert distance(1) < 8  # 128 colours for a plot
    assert distance(0, 1) < 8
    assert distance(0, 2) > 60


def test_curves_need_a_value_for_each_step():
    with pytest.raises(ValueError, match="'a' has 2 values for 3 steps"):
        curves_png({"a": ([0, 1, 2], [1.0, 2.0])})
    with pytest.raises(ValueError, match="no curve"):
        curves_png({})


def test_pictures_do_not_touch_pyplot():
    code = (
        "import sys, torch; from recon.report.figures import *;"
        "x = torch.rand(8, 8); curves_png({'a': ([0, 1], [1, 2])});"
        "difference_png(x, x); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0
