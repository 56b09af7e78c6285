"""ODL geometries as our operators, against ODL's projector and against the geometry's own definition."""

import numpy as np
import pytest
import torch
from our_operators import relative
from recon_bridges import from_odl, odl_geometry
from recon_operators import FanBeam, ParallelBeam

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:odl", "ignore::DeprecationWarning:astra")

SPACE = {"min_pt": [-4, -6], "max_pt": [4, 6], "shape": (8, 12)}


def parallel(odl, tomo, first=0.1, last=2.9, low=-10.0, high=10.0, elements=25, **options):
    angles, detector = odl.uniform_partition(first, last, 9), odl.uniform_partition(low, high, elements)
    return tomo.Parallel2dGeometry(angles, detector, **options)


@pytest.mark.parametrize(
    ("space", "scan"),
    [
        ({}, {}),
        ({"shape": (16, 24)}, {"elements": 30}),
        ({"min_pt": [-3, -3], "max_pt": [3, 3], "shape": (9, 9)}, {"first": -1.0, "last": 6.0}),
        ({}, {"det_pos_init": (0, -1), "det_axis_init": (1, 0)}),
    ],
    ids=["rectangle", "half pixels", "full turn", "source behind"],
)
def test_a_parallel_geometry_is_our_parallel_beam_and_equals_their_projector(odl, tomo, space, scan):
    space = odl.uniform_discr(**(SPACE | space), dtype="float32")
    geometry = parallel(odl, tomo, **scan)
    ours = odl_geometry(geometry, space)
    assert isinstance(ours, ParallelBeam)
    theirs = from_odl(tomo.RayTransform(space, geometry, impl="astra_cpu"))
    x, y = torch.randn(2, *ours.domain_shape), torch.randn(2, *ours.range_shape)
    assert relative(ours(x), theirs(x)) < 1e-4  # single precision, rays that graze pixels
    assert relative(ours.adjoint(y), theirs.adjoint(y)) < 1e-4
    assert isinstance(odl_geometry(tomo.RayTransform(space, geometry, impl="astra_cpu")), ParallelBeam)


@pytest.mark.parametrize(
    ("space", "scan"),
    [
        ({}, {"low": -9.0, "high": 11.0}),
        ({}, {"det_pos_init": (1, 2)}),
        ({}, {"det_axis_init": (-1, 0), "low": -9.0, "high": 11.0}),
        ({}, {"det_pos_init": (0.5, 1), "det_axis_init": (1, 0.2)}),
        ({"min_pt": [-3, -5], "max_pt": [5, 7]}, {"translation": (1, 1)}),
        ({}, {"first": -1.0, "last": 6.0, "low": -12.0, "high": 9.0}),
    ],
    ids=["offset", "turned", "mirrored", "tilted", "both shifted", "full turn"],
)
def test_a_parallel_geometry_projects_points_where_odl_defines_them(odl, tomo, space, scan):
    """The middle of a pixel's shadow is where the geometry's own vectors put it."""
    space = odl.uniform_discr(**(SPACE | space), dtype="float64")
    geometry = parallel(odl, tomo, elements=200, **scan)
    ours = odl_geometry(geometry, space)
    assert isinstance(ours, ParallelBeam)
    points = space.points().reshape(*space.shape, 2)
    for pixel in ((2, 3), (5, 9)):
        image = torch.zeros(space.shape, dtype=torch.float64)
        image[pixel] = 1
        shadow = ours(image)
        found = (shadow * torch.as_tensor(geometry.det_grid.coord_vectors[0])).sum(1) / shadow.sum(1)
        vectors = points[pixel] - geometry.det_refpoint(geometry.angles)
        truth = (geometry.det_axis(geometry.angles) * vectors).sum(1)
        assert np.abs(found.numpy() - truth).max() < 0.01  # a tenth of an element


def fan(odl, tomo, first=0.0, last=2 * np.pi, low=-12.0, high=12.0, elements=40, **options):
    angles, detector = odl.uniform_partition(first, last, 16), odl.uniform_partition(low, high, elements)
    return tomo.FanBeamGeometry(angles, detector, **({"src_radius": 30.0, "det_radius": 20.0} | options))


FANS = {
    "full turn": ({}, {}),
    "offset": ({}, {"low": -9.0, "high": 15.0}),
    "short scan from behind": ({}, {"first": -2.0, "last": 2.1, "src_to_det_init": (0, -1)}),
    "from the side": ({}, {"src_to_det_init": (1, 2), "low": -15.0, "high": 11.0}),
    "detector on the axis": ({}, {"det_radius": 0.0, "low": -8.0, "high": 8.0}),
    "both shifted": ({"min_pt": [-3, -5], "max_pt": [5, 7]}, {"translation": (1, 1)}),
    "detector shifted along itself": ({}, {"det_shift_func": lambda angle: np.array([[0.0, 1.5]])}),
}


@pytest.mark.filterwarnings("ignore:.*of the lines through the circle:UserWarning")
@pytest.mark.parametrize(("space", "scan"), FANS.values(), ids=FANS)
def test_a_fan_is_our_fan_beam_on_the_rays_of_the_geometry(odl, tomo, space, scan):
    """Its rays are the geometry's own vectors; its projections those of ASTRA's line kernel to 1 %."""
    space = odl.uniform_discr(**(SPACE | {"shape": (64, 96)} | space), dtype="float32")
    geometry = fan(odl, tomo, **scan)
    ours = odl_geometry(geometry, space)
    assert isinstance(ours, FanBeam) and ours.domain_shape == (64, 96)
    phi, distance = ours.geometry.rays  # X cos(phi) + Y sin(phi) = distance, with X = y and Y = -x
    middle = (space.min_pt + space.max_pt) / 2
    for view, angle in enumerate(geometry.angles):
        source = geometry.src_position(angle) - middle
        for element, u in enumerate(geometry.det_grid.coord_vectors[0]):
            end = geometry.det_point_position(angle, u) - middle
            for x, y in (source, end):
                across = y * np.cos(phi[view, element]) - x * np.sin(phi[view, element])
                assert across == pytest.approx(distance[view, element], abs=1e-9)
    x, y = np.mgrid[-4:4:64j, -6:6:96j]
    image = torch.tensor(np.exp(-((x - 1) ** 2) - (y + 2) ** 2 / 3), dtype=torch.float32)
    transform = tomo.RayTransform(space, geometry, impl="astra_cpu")
    # on a smooth image Joseph's interpolation and the length inside pixels differ by the squared pixel size
    assert relative(ours(image), from_odl(transform)(image)) < 0.01
    assert isinstance(odl_geometry(transform), FanBeam)


@pytest.mark.parametrize(
    "scan",
    [
        {"det_axis_init": (-1, 0)},
        {"det_axis_init": (1, 0.2)},
        {"translation": (1, 0)},
        {"src_shift_func": lambda angle: np.array([[0.0, 0.5]])},
        {"src_radius": 5.0},
    ],
    ids=["mirrored", "tilted", "axis off the middle", "shifted source", "source in the image"],
)
def test_other_fans_are_projected_by_odl(odl, tomo, scan):
    space = odl.uniform_discr(**SPACE, dtype="float64")  # ASTRA takes single precision: converted
    geometry = fan(odl, tomo, **scan)
    op = odl_geometry(geometry, space)
    assert not isinstance(op, FanBeam)
    single = tomo.RayTransform(space.astype("float32"), geometry, impl="astra_cpu")
    x = torch.randn(8, 12)
    assert relative(op(x), from_odl(single)(x)) < 1e-6
    assert op.adjoint_kind == "exact"


def test_an_axis_off_the_middle_is_projected_by_odl_if_it_can(odl, tomo):
    space = odl.uniform_discr([-3, -6], [5, 6], (8, 12), dtype="float32")
    op = odl_geometry(parallel(odl, tomo), space)
    assert not isinstance(op, ParallelBeam)
    image = torch.zeros(8, 12)
    image[2, 3] = 1
    shadow = op(image)
    geometry = parallel(odl, tomo)
    found = (shadow * torch.as_tensor(geometry.det_grid.coord_vectors[0])).sum(1) / shadow.sum(1)
    point = space.points().reshape(8, 12, 2)[2, 3]
    truth = geometry.det_axis(geometry.angles) @ point
    assert np.abs(found.numpy() - truth).max() < 0.2  # a quarter of an element of 0.8
    with pytest.raises(ValueError, match="ignores the detector's position"):
        odl_geometry(parallel(odl, tomo, low=-9.0, high=11.0), space)


def test_wrong_input_says_what_and_what_to_do(odl, tomo):
    space = odl.uniform_discr(**SPACE, dtype="float32")
    geometry = parallel(odl, tomo)
    with pytest.raises(TypeError, match="takes an ODL geometry or RayTransform, got int"):
        odl_geometry(3, space)
    with pytest.raises(TypeError, match="needs the image space, odl.uniform_discr"):
        odl_geometry(geometry)
    with pytest.raises(TypeError, match="leave space out"):
        odl_geometry(tomo.RayTransform(space, geometry, impl="astra_cpu"), space)
    with pytest.raises(ValueError, match="curved detector"):
        odl_geometry(fan(odl, tomo, det_curvature_radius=50.0, low=-0.3, high=0.3), space)
    volume = odl.uniform_discr([-4] * 3, [4] * 3, (4, 4, 4), dtype="float32")
    cone = tomo.cone_beam_geometry(volume, 20, 20, num_angles=3)
    if not tomo.ASTRA_CUDA_AVAILABLE:
        with pytest.raises(ImportError, match="on a GPU only"):
            odl_geometry(cone, volume)
