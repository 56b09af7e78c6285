"""Operators from ASTRA's geometries: the same arrays, the same numbers; what cannot be represented is refused."""

import math

import numpy as np
import pytest
import torch
from recon_operators import ConeBeam, ConeBeamVectors, FanBeam, ParallelBeam, from_astra, helical_geometry
from torch import Tensor

astra = pytest.importorskip("astra", reason="ASTRA is an optional extra")

ANGLES = np.linspace(0, 2 * np.pi, 9, endpoint=False)
NEAR = {"source_origin": 60.0, "origin_detector": 30.0}


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:the detector")
@pytest.mark.parametrize(("kind", "kernel"), [("parallel", "linear"), ("fanflat", "strip_fanflat")])
def test_two_dimensions_are_astras_own_projections(kind: str, kernel: str) -> None:
    volume = astra.create_vol_geom(30, 24, -8.4, 8.4, -10.5, 10.5)
    distances = (60.0, 30.0) if kind == "fanflat" else ()
    scan = astra.create_proj_geom(kind, 0.9, 44, ANGLES, *distances)
    op = from_astra(scan, volume)
    assert isinstance(op, FanBeam if distances else ParallelBeam)
    assert op.geometry.pixel_size == pytest.approx(0.7)
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(24.0), indexing="ij")
    image = torch.exp(-((x - 15) ** 2 + (y - 9) ** 2) / 18)
    projector = astra.create_projector(kernel, scan, volume)
    theirs = torch.from_numpy(
        astra.projector.direct_FP(projector, image.numpy(), out=np.zeros(op.range_shape, np.float32))
    )
    astra.projector.delete(projector)
    # strips in place of lines: 2 % of the largest on a blob of 3 pixels
    assert (op(image) - theirs).abs().max() < 0.02 * theirs.max()


def test_cone_is_its_vectors() -> None:
    volume = astra.create_vol_geom(12, 10, 8)
    scan = astra.create_proj_geom("cone", 1.3, 1.7, 16, 18, ANGLES, 60.0, 30.0)
    op = from_astra(scan, volume)
    assert isinstance(op, ConeBeamVectors)
    assert op.range_shape == (16, 9, 18)
    vectors = from_astra(astra.geom_2vec(scan), volume)
    assert vectors.geometry == op.geometry
    # in ASTRA the rows of a slice run along y, here against it
    ours = ConeBeam((8, 12, 10), 1.0, ANGLES, detectors=(16, 18), detector_size=(1.7, 1.3), **NEAR)
    array = random(8, 12, 10)
    torch.testing.assert_close(op(array), ours(array.flip(1)))
    # filtered back-projection knows the mirrored circle
    data = ours(array)
    torch.testing.assert_close(op.pinv(data), ours.pinv(data).flip(1))


def test_the_middle_row_of_astras_cone_is_its_fan() -> None:
    volume = astra.create_vol_geom(12, 10, 7)
    cone = from_astra(astra.create_proj_geom("cone", 1.3, 1.7, 15, 18, ANGLES, 60.0, 30.0), volume)
    fan = from_astra(
        astra.create_proj_geom("fanflat", 1.3, 18, ANGLES, 60.0, 30.0), astra.create_vol_geom(12, 10)
    )
    image = random(12, 10)
    torch.testing.assert_close(cone(image.flip(0).expand(7, 12, 10))[7], fan(image), atol=1e-5, rtol=0)


def test_parallel3d_is_a_stack_of_slices() -> None:
    scan = astra.create_proj_geom("parallel3d", 0.8, 1.0, 5, 20, ANGLES)
    op = from_astra(scan, astra.create_vol_geom(10, 12, 5))
    assert isinstance(op, ParallelBeam)
    stack = random(5, 10, 12)
    flat = ParallelBeam((10, 12), angles=ANGLES, detectors=20, detector_size=0.8)
    torch.testing.assert_close(op(stack), flat(stack.flip(1)), atol=1e-5, rtol=0)
    # a source far away sees the same
    far = from_astra(
        astra.create_proj_geom("cone", 0.8, 1.0, 5, 20, ANGLES, 1e8, 1.0), astra.create_vol_geom(10, 12, 5)
    )
    torch.testing.assert_close(far(stack), op(stack), atol=1e-4, rtol=0)


def test_a_window_beside_the_axis_is_part_of_a_wide_one() -> None:
    scan = astra.create_proj_geom("cone", 0.7, 0.7, 30, 40, ANGLES, 60.0, 30.0)
    whole = from_astra(scan, astra.create_vol_geom(20, 20, 20, -5, 5, -5, 5, -5, 5))
    part = from_astra(scan, astra.create_vol_geom(6, 8, 4, 1, 5, -4, -1, 0, 2))
    inside = random(4, 6, 8)
    volume = torch.zeros(20, 20, 20, dtype=torch.float64)
    volume[10:14, 2:8, 12:20] = inside
    torch.testing.assert_close(part(inside), whole(volume))
    torch.testing.assert_close(part.pinv(part(inside)), whole.pinv(whole(volume))[10:14, 2:8, 12:20])


def test_a_helix_goes_to_astra_and_back() -> None:
    scan = helical_geometry((20, 12, 12), pitch=8.0, turns=4.0, views_per_turn=6, **NEAR)
    frames = scan.frames * np.array([1.0, -1.0, 1.0])
    theirs = astra.create_proj_geom("cone_vec", *scan.detectors, frames.reshape(-1, 12))
    assert from_astra(theirs, astra.create_vol_geom(12, 12, 20)).geometry == scan


def test_what_astra_is_given_on_a_gpu_is_the_scan_in_voxels() -> None:
    from recon_operators.astra_projector import AstraCudaProjector

    op = ConeBeam((8, 12, 10), 0.5, [*ANGLES, *ANGLES[::-1]], detector_offset=(1.0, 2.0), **NEAR)
    scan, volume = AstraCudaProjector(op.geometry, torch.device("cuda")).cone_geometries()
    assert (scan["DetectorRowCount"], scan["DetectorColCount"]) == op.geometry.detectors
    back = from_astra(scan, volume)
    np.testing.assert_allclose(back.geometry.frames * 0.5, op.geometry.frames, atol=1e-12)
    assert volume["GridSliceCount"] == 8


CUBE = astra.create_vol_geom(6, 6, 6)


@pytest.mark.parametrize(
    ("scan", "volume", "message"),
    [
        (
            ("parallel_vec", 9, np.ones((2, 6))),
            astra.create_vol_geom(6, 6),
            "takes the geometries parallel, .*'parallel_vec'",
        ),
        (
            ("parallel", 1.0, 9, [0.0]),
            CUBE,
            r"parallel needs a volume geometry of 2 axes, got shape \(6, 6, 6\)",
        ),
        (
            ("cone", 1, 1, 9, 9, [0.0], 50, 20),
            astra.create_vol_geom(6, 6),
            "cone needs a volume geometry of 3 axes",
        ),
        (
            ("parallel", 1.0, 9, [0.0]),
            astra.create_vol_geom(6, 6, 0, 6, -3, 3),
            r"middle on the rotation axis.*\[3.0, 0.0\]",
        ),
        (
            ("cone", 1, 1, 9, 9, [0.0], 50, 20),
            astra.create_vol_geom(6, 6, 6, -3, 3, -3, 3, -6, 6),
            "must be cubes",
        ),
        (
            ("parallel3d", 1.0, 1.0, 7, 9, [0.0]),
            CUBE,
            "one detector row for each slice, got 7 rows 1 apart for 6",
        ),
        (("parallel3d", 1.0, 2.0, 6, 9, [0.0]), CUBE, "one detector row for each slice, got 6 rows 2 apart"),
    ],
)
def test_what_cannot_be_represented_is_refused(scan: tuple, volume: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_astra(astra.create_proj_geom(*scan), volume)


def test_angles_beyond_a_turn_are_fine() -> None:
    scan = astra.create_proj_geom("fanflat", 1.0, 30, ANGLES + 4 * math.pi, 60.0, 30.0)
    op = from_astra(scan, astra.create_vol_geom(12, 12))
    image = random(12, 12)
    plain = FanBeam((12, 12), angles=ANGLES, detectors=30, detector_size=1.0, **NEAR)
    torch.testing.assert_close(op(image), plain(image), atol=1e-5, rtol=0)
