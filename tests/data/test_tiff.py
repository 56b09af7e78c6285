"""TIFF stacks: as tifffile and Pillow wrote them, with the size of a pixel; never scaled."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from recon.loading import LoadError, load

STACK = np.arange(4 * 3 * 5).reshape(4, 3, 5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "uint32"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}])
def test_a_stack_comes_back_as_stored(tmp_path, dtype, options):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK.astype(dtype), photometric="minisblack", **options)
    loaded = load(path, reader="tiff")
    np.testing.assert_array_equal(loaded.data.numpy(), STACK)
    assert loaded.attributes["stored"] == dtype
    assert loaded.pixel_size is None


def test_one_page_is_an_image_and_counts_are_not_scaled(tmp_path):
    Image.fromarray((STACK[0] * 1000).astype(np.uint16)).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(load(tmp_path / "x.tif", reader="tiff").data.numpy(), STACK[0] * 1000)
    assert load(tmp_path / "x.tif").data.max() < 1  # a picture


def test_the_picture_reader_points_to_the_stack(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", STACK.astype(np.uint8), photometric="minisblack")
    with pytest.raises(LoadError, match="holds 4 pictures; .*reader='tiff' reads all as a stack"):
        load(tmp_path / "x.tif")


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("cm", 10)])
def test_imagej_says_how_large_a_voxel_is(tmp_path, unit, factor):
    path = tmp_path / "x.tif"
    about = {"spacing": 2.5, "unit": unit, "axes": "ZYX"}
    tifffile.imwrite(path, STACK.astype(np.float32), imagej=True, resolution=(4, 2), metadata=about)
    assert load(path, reader="tiff").pixel_size == pytest.approx((2.5 * factor, 0.5 * factor, 0.25 * factor))


def test_a_resolution_per_centimetre_counts_and_one_per_inch_is_for_printers(tmp_path):
    for unit, expected in (("CENTIMETER", (0.5, 0.5)), ("INCH", None)):
        tifffile.imwrite(
            tmp_path / "x.tif", STACK[0].astype(np.float32), resolution=(20, 20), resolutionunit=unit
        )
        assert load(tmp_path / "x.tif", reader="tiff").pixel_size == expected


def test_a_folder_is_in_the_order_of_its_numbers(tmp_path):
    for place in (2, 10, 1):
        tifffile.imwrite(tmp_path / f"view_{place}.tif", STACK[place % 4].astype(np.uint16))
    (tmp_path / "log.txt").write_text("hello")
    np.testing.assert_array_equal(load(tmp_path).data.numpy(), STACK[[1, 2, 2]])


def test_files_that_do_not_belong_together_are_named(tmp_path):
    tifffile.imwrite(tmp_path / "1.tif", STACK[0].astype(np.uint16))
    tifffile.imwrite(tmp_path / "2.tif", STACK[0, :2].astype(np.uint16))
    with pytest.raises(
        LoadError, match=r"2\.tif: holds uint16 of shape \(2, 5\), the files before it .* \(3, 5\)"
    ):
        load(tmp_path)


def test_colours_and_pages_of_several_kinds_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((6, 7, 3), np.uint8), photometric="rgb")
    with pytest.raises(LoadError, match="holds colours or channels"):
        load(tmp_path / "c.tif", reader="tiff")
    with tifffile.TiffWriter(tmp_path / "m.tif") as file:
        file.write(STACK[0].astype(np.uint8))
        file.write(STACK[0, :2].astype(np.uint8))
    with pytest.raises(LoadError, match=r"its pages are of 2 kinds \(\(3, 5\), \(2, 5\)\)"):
        load(tmp_path / "m.tif", reader="tiff")


def test_a_huge_declared_size_takes_no_memory_and_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, STACK.astype(np.uint16), photometric="minisblack", metadata=None)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        width = file.pages[0].tags["ImageWidth"]
        at = width.valueoffset
    forged = bytearray(whole)
    forged[at : at + 4] = (2**30).to_bytes(4, "little")
    path.write_bytes(forged)
    with pytest.raises(LoadError, match="x.tif"):
        load(path, reader="tiff")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match="x.tif"):
        load(path, reader="tiff")
