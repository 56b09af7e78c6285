"""Pictures against Pillow's own reading and the values written."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from recon_data.samples import sample

from recon.loading import LoadError, load

GREY = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


@given(
    values=st.one_of(
        arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)),
        arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)),
        arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))),
    ),
    suffix=st.sampled_from([".png", ".tif", ".tiff"]),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_8_and_16_bits_come_back_as_zero_to_one(tmp_path, values, suffix):
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(values).save(path)
    loaded = load(path)
    white = np.iinfo(values.dtype).max
    expected = values.astype(np.float32) / np.float32(white)
    assert loaded.data.dtype == torch.float32
    np.testing.assert_array_equal(
        loaded.data.numpy(), np.moveaxis(expected, -1, 0) if values.ndim == 3 else expected
    )
    np.testing.assert_array_equal(
        np.rint(loaded.data.numpy().astype(float) * white),
        np.moveaxis(values, -1, 0) if values.ndim == 3 else values,
    )


@pytest.mark.parametrize("name", ["camera", "chelsea"])
def test_photographs_equal_pillows_reading(name):
    loaded = load(sample(name))
    with Image.open(sample(name)) as picture:
        expected = np.asarray(picture, dtype=np.float32) / 255
    np.testing.assert_array_equal(
        loaded.data.numpy(), np.moveaxis(expected, -1, 0) if name == "chelsea" else expected
    )
    assert 0 <= loaded.data.min() < loaded.data.max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
def test_jpeg_is_what_pillow_decodes(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    with Image.open(sample("chelsea")) as picture:
        picture.save(path, format="JPEG")
    with Image.open(path) as picture:
        expected = np.moveaxis(np.asarray(picture, dtype=np.float32) / 255, -1, 0)
    np.testing.assert_array_equal(load(path).data.numpy(), expected)


def test_grey_is_the_luma_of_colour(tmp_path):
    colour, grey = load(sample("chelsea")).data, load(sample("chelsea"), grey=True).data
    red, green, blue = colour.double()
    torch.testing.assert_close(grey.double(), 0.299 * red + 0.587 * green + 0.114 * blue, rtol=0, atol=1e-7)
    with Image.open(sample("chelsea")) as picture:  # Pillow's integer arithmetic, within its rounding
        np.testing.assert_allclose(grey.numpy() * 255, np.asarray(picture.convert("L"), float), atol=1)
    assert torch.equal(load(sample("camera"), grey=True).data, load(sample("camera")).data)
    white = tmp_path / "white.png"
    Image.new("RGB", (2, 2), "white").save(white)
    assert load(white, grey=True).data.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    # The eight ways a camera can be held: what the file stores, for an upright picture GREY.
    stored = {
        1: GREY,
        2: GREY[:, ::-1],
        3: GREY[::-1, ::-1],
        4: GREY[::-1],
        5: GREY.T,
        6: np.rot90(GREY),
        7: GREY[::-1, ::-1].T,
        8: np.rot90(GREY, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "held.png", exif=exif)
    np.testing.assert_array_equal(load(tmp_path / "held.png").data.numpy(), GREY / np.float32(255))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("1", [0, 1]), ("P", [[1, 0], [0, 0], [0, 1]]), ("F", [-2.5, 7]), ("I", [-70000, 70000])],
)
def test_other_modes(tmp_path, mode, expected):
    path = tmp_path / "picture.tif"
    if mode == "P":
        picture = Image.new("P", (2, 1))
        picture.putpalette([255, 0, 0, 0, 0, 255])
        picture.putdata([0, 1])
    else:
        dtype = {"1": bool, "F": np.float32, "I": np.int32}[mode]
        picture = Image.fromarray(np.array([expected], dtype))
    picture.save(path)
    assert load(path).data.squeeze(-2).tolist() == expected


def test_transparency_is_refused_unless_nothing_shows_through(tmp_path):
    path = tmp_path / "layer.png"
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    picture.save(path)
    assert load(path).data.tolist() == [[[1, 1]], [[0, 0]], [[0, 0]]]
    picture.putpixel((0, 0), (255, 0, 0, 254))
    picture.save(path)
    with pytest.raises(LoadError, match="has transparent pixels; flatten it"):
        load(path)
    grey = Image.new("L", (2, 1), 7)
    grey.save(path, transparency=7)
    with pytest.raises(LoadError, match="has transparent pixels"):
        load(path)
    grey.save(path, transparency=8)
    assert load(path).data.shape == (1, 2)


def test_16_bit_colour_is_refused_instead_of_halved(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(2 * 6) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(LoadError, match="16-bit colour, half of whose bits would be lost"):
        load(path)


def test_a_file_of_several_pictures_needs_a_number(tmp_path):
    path = tmp_path / "stack.tif"
    pictures = [Image.fromarray(GREY + step) for step in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    with pytest.raises(LoadError, match="holds 3 pictures; choose one with frame=0 to frame=2"):
        load(path)
    np.testing.assert_array_equal(load(path, frame=2).data.numpy(), (GREY + 2) / np.float32(255))
    with pytest.raises(LoadError, match="holds 3 pictures, so there is no frame=3"):
        load(path, frame=3)
    with pytest.raises(ValueError, match="frame=-1 must be >= 0"):
        load(path, frame=-1)


def test_a_cameras_jpeg_with_a_preview_is_the_picture(tmp_path):
    path = tmp_path / "camera.jpg"
    content = io.BytesIO()
    picture = Image.fromarray(GREY)
    picture.save(content, format="MPO", save_all=True, append_images=[picture.resize((2, 2))])
    path.write_bytes(content.getvalue())
    assert load(path).data.shape == (3, 4)


def test_content_of_another_kind_is_named(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(GREY).save(path, format="JPEG")
    with pytest.raises(LoadError, match=r"picture\.png: expected a PNG picture, found a JPEG picture"):
        load(path)


def test_a_picture_larger_than_pillow_allows_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    Image.fromarray(GREY).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert load(path).data.shape == (3, 4)  # above the limit Pillow only warns ...
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(LoadError, match="exceeds limit"):  # ... and above twice the limit it refuses
        load(path)
