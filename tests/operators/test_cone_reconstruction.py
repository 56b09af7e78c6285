"""What solvers and users ask of cone-beam CT: direct reconstruction, norm, preconditioner, total variation."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from recon_operators import ConeBeam, ConeBeamVectors, FanBeam, Gradient, helical_geometry
from recon_operators.cone_scans import circular_vectors
from recon_operators.feldkamp import ViewAddition
from torch import Tensor

import recon
from recon.linear import LinearOperator
from recon.testing.dense import conjugate_gradient_iterations

DEGREE = math.pi / 180
NEAR = {"source_origin": 120.0, "origin_detector": 60.0}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def ball_projections(
    op: ConeBeam | ConeBeamVectors, radius: float, centre: tuple[float, float, float]
) -> Tensor:
    """Line integrals of a ball of value 1: 2 sqrt(r^2 - d^2)."""
    vectors = torch.tensor(op.geometry.vectors, dtype=torch.float64)
    source, middle, across, down = (vectors[None, :, None, 3 * part : 3 * part + 3] for part in range(4))
    rows, columns = op.geometry.detectors
    row = (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2)[:, None, None, None]
    column = (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2)[None, None, :, None]
    direction = torch.nn.functional.normalize(middle + row * down + column * across - source, dim=3)
    distance = torch.linalg.cross(torch.tensor(centre) - source, direction, dim=3).norm(dim=3)
    return 2 * (radius**2 - distance**2).clamp_min(0).sqrt()


def distance_from(op: ConeBeam, centre: tuple[float, float, float]) -> Tensor:
    depth, height, width = op.domain_shape
    size = op.geometry.pixel_size
    x = (torch.arange(width) - (width - 1) / 2) * size - centre[0]
    y = ((height - 1) / 2 - torch.arange(height)) * size - centre[1]
    z = (torch.arange(depth) - (depth - 1) / 2) * size - centre[2]
    return (x.square() + y[:, None].square() + z[:, None, None].square()).sqrt()


COMPLETE = {
    "full": {"angles": 180},
    "elements of other sizes": {"angles": 180, "detector_size": (1.9, 1.2)},
    "short": {"angles": (np.arange(120) * 2 + 40) * DEGREE},
    "shifted": {"angles": 180, "detector_offset": (3.0, 12.0), "detectors": (90, 76)},
}


@pytest.mark.parametrize("scan", COMPLETE.values(), ids=COMPLETE)
def test_a_unit_ball_comes_back_at_one(scan: dict) -> None:
    op = ConeBeam((45, 64, 64), **scan, **NEAR)  # a warning would be an error: these scans measure every line
    centre, radius = (4.0, -7.0, 0.0), 17.0
    volume, distance = op.pinv(ball_projections(op, radius, centre)), distance_from(op, centre)
    middle, inside = volume[22], distance[22]
    assert (
        middle[inside < 0.8 * radius] - 1
    ).abs().max() < 0.01  # in the plane of the circle, but for the rim
    assert middle[inside < 0.8 * radius].mean() == pytest.approx(1, abs=5e-4)
    # off the plane the circle measures less: half a per cent at cone angles of 6 degrees
    assert volume[distance < 0.7 * radius].mean() == pytest.approx(1, abs=0.01)
    assert volume[(distance > 1.2 * radius) & (distance < 1.5 * radius)].mean().abs() < 0.01


def test_feldkamp_in_the_plane_of_the_circle_is_fan_beam() -> None:
    scan = {"angles": np.arange(115) * 2 * DEGREE, "detector_size": 1.1, **NEAR}
    fan = FanBeam((24, 31), detectors=60, detector_offset=2.0, **scan)
    cone = ConeBeam((5, 24, 31), detectors=(11, 60), detector_offset=(0.0, 2.0), **scan)
    data = torch.randn(11, *fan.range_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for options in ({}, {"filter": "hann", "cutoff": 0.7}):
        volume = cone.pinv(data, **options)
        torch.testing.assert_close(volume[2], fan.pinv(data[5], **options), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:the detector's 60 rows"
)  # of the tall object, whose ends no ray used here meets
def test_an_object_that_does_not_change_along_z_comes_back_alike_in_every_slice() -> None:
    op = ConeBeam((16, 40, 40), angles=120, detectors=(60, 100), **NEAR)
    distance = distance_from(op, (5.0, 2.0, 0.0))[8]
    data = ConeBeam((80, 40, 40), angles=120, detectors=(60, 100), **NEAR)(
        (distance < 11).float().expand(80, 40, 40)
    )
    volume = op.pinv(data)
    inside = distance < 9
    # exact for such objects (Feldkamp 1984), but for sampling
    assert (volume[:, inside].mean(1) - volume[8, inside].mean()).abs().max() < 2e-3


def test_short_scans_and_options_of_filters() -> None:
    op = ConeBeam((6, 24, 24), angles=60, **NEAR)
    noise = torch.randn(1, *op.range_shape, generator=torch.Generator().manual_seed(0))
    spread = [float(op.pinv(noise, filter=name).std()) for name in ("ram-lak", "shepp-logan", "hann")]
    assert spread == sorted(spread, reverse=True)
    with pytest.raises(ValueError, match="filter must be one of ram-lak"):
        op.pinv(noise, filter="ram")
    with pytest.raises(TypeError, match="window"):
        op.pinv(noise, window="hann")


def test_other_paths_have_the_scaled_adjoint_and_say_so() -> None:
    helix = ConeBeamVectors.of(helical_geometry((20, 12, 12), pitch=8.0, turns=4.0, views_per_turn=8, **NEAR))
    circle = ConeBeam((20, 12, 12), angles=8, **NEAR)
    assert (helix.direct_reconstruction, circle.direct_reconstruction) == ("scaled adjoint", "fdk")
    assert "pinv: scaled adjoint" in repr(helix)
    data = helix(torch.rand(20, 12, 12))
    image, adjoint = helix.pinv(data), helix.adjoint(data)
    factor = image.norm() / adjoint.norm()
    torch.testing.assert_close(image, factor * adjoint)
    best = (helix(adjoint) * data).sum() / helix(adjoint).square().sum()
    assert factor == pytest.approx(float(best), rel=1e-4)
    with pytest.raises(ValueError, match=r"pinv takes no filter here: .* recon.solve\(op, 'tv', y\)"):
        helix.pinv(data, filter="hann")


@pytest.mark.parametrize(
    "scan", [{"angles": 7}, {"angles": 5, "detectors": (4, 6), "detector_offset": (1.0, -2.0)}]
)
@pytest.mark.filterwarnings("ignore:.*measured from neither side|the detector")
def test_torch_and_the_compiled_loops_add_up_views_alike(scan: dict) -> None:
    geometry = ConeBeam((7, 6, 8), 2.0, **scan, **NEAR).geometry
    addition = ViewAddition(geometry, geometry.orbit)
    views = torch.randn(
        2, *addition.domain_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    torch.testing.assert_close(addition.by_torch(views), addition(views), atol=1e-12, rtol=1e-9)


def test_voxels_behind_a_source_get_nothing_from_its_view() -> None:
    theta = np.array([0.0, math.pi / 4])  # beside a long bar, the ends of which lie behind the second source
    vectors = circular_vectors(theta, (10.0, 5.0), (1.0, 1.0))
    op = ConeBeamVectors((2, 2, 60), vectors, (9, 120))
    assert op.direct_reconstruction == "fdk"
    geometry = op.geometry
    addition = ViewAddition(geometry, geometry.orbit)
    views = torch.zeros(addition.domain_shape, dtype=torch.float64)
    views[:, 1] = 1
    for volume in (addition(views), addition.by_torch(views[None])[0]):
        assert (volume[:, :, 50:] == 0).all()
        assert volume[:, :, 25:35].min() > 0


def test_gradients_flow_through_pinv() -> None:
    op = ConeBeam((2, 4, 3), angles=5, detector_size=(3.0, 2.5), **NEAR)
    data = torch.rand(2, *op.range_shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(op.pinv, (data,))


def test_the_norm_is_a_tight_upper_bound() -> None:
    op = ConeBeam((5, 8, 9), 0.7, 9, **NEAR)
    true = float(torch.linalg.matrix_norm(op.to_dense(torch.float64), 2))
    assert true <= op.norm() <= 1.002 * true


@pytest.mark.parametrize(("rho", "most"), [(1e-1, 1.0), (1e-3, 0.7)])
def test_the_preconditioner_saves_conjugate_gradient_steps(rho: float, most: float) -> None:
    op = ConeBeam((6, 14, 14), angles=30, **NEAR)
    gradient: LinearOperator = Gradient((6, 14, 14))
    matrix, term = op.to_dense(torch.float64), gradient.to_dense(torch.float64)
    step = rho * op.norm() ** 2 / gradient.norm() ** 2
    apply = op.preconditioner([step], [gradient])
    assert apply is not None
    size = math.prod(op.domain_shape)
    steering = apply(torch.eye(size, dtype=torch.float64).reshape(size, 6, 14, 14)).reshape(size, size)
    normal = matrix.T @ matrix + step * term.T @ term
    plain, steered = (conjugate_gradient_iterations(normal, with_it, 1e-5) for with_it in (None, steering))
    assert steered < most * plain


def test_the_symbol_has_the_scale_of_the_normal_operator() -> None:
    op = ConeBeam((24, 48, 48), 0.8, 120, detector_size=(1.0, 0.8), **NEAR)
    assert op.approximate_symbol().shape == op.domain_shape
    x, y, z = (
        (torch.arange(count, dtype=torch.float64) - (count - 1) / 2).reshape(shape)
        for count, shape in ((48, (1, 1, -1)), (48, (1, -1, 1)), (24, (-1, 1, 1)))
    )
    envelope = torch.exp(-(x**2 + y**2) / (2 * 7**2) - z**2 / (2 * 5**2))
    wave = envelope * torch.cos(2 * math.pi * 6 * x / 48)
    measured = float(op(wave).square().sum() / wave.square().sum())
    # interpolation's loss at 8 pixels a wave, sinc^4(1/8) = 0.90, and in z a little
    assert measured == pytest.approx(float(op.approximate_symbol()[0, 0, 6]), rel=0.2)
    assert (
        ConeBeamVectors.of(helical_geometry((20, 9, 9), pitch=8, turns=4, **NEAR)).approximate_symbol()
        is None
    )


def test_the_noise_level_is_found() -> None:
    op = ConeBeam((8, 32, 32), angles=24, **NEAR)
    noise = torch.randn(2, *op.range_shape, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0.1, 0.5])
    data = op(torch.ones(8, 32, 32)) * 0.01 + levels[:, None, None, None] * noise
    torch.testing.assert_close(op.noise_level(data), levels, rtol=0.05, atol=0)


def two_balls() -> Tensor:
    op = ConeBeam((16, 24, 24), angles=1, detectors=(2, 40), **NEAR)
    return (
        0.02 * (distance_from(op, (1.0, -1.0, 0.0)) < 8.5) + 0.02 * (distance_from(op, (3.0, 2.0, 1.0)) < 3)
    ).float()


@pytest.mark.filterwarnings("ignore:the detector's 2 rows")
def test_total_variation_improves_on_feldkamp() -> None:
    truth = two_balls()
    op = ConeBeam(truth.shape, angles=20, **NEAR)
    data = op.measure(truth, noise="poisson:photons=2e4", seed=0)
    direct = recon.solve(op, None, data).image
    given = recon.solve(op, "tv:weight=0.01", data, stop=recon.MaxIterations(30)).image
    chosen = recon.solve(op, "tv", data, stop=recon.MaxIterations(30)).image
    errors = [float((image - truth).norm() / truth.norm()) for image in (direct, given, chosen)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.85 * errors[0]  # the weight from the noise level, which so few columns overestimate


@pytest.mark.filterwarnings("ignore:the detector's 2 rows")
def test_a_helix_is_solved() -> None:
    truth = two_balls()
    op = ConeBeamVectors.of(helical_geometry(truth.shape, pitch=8.0, turns=3.0, views_per_turn=16, **NEAR))
    solution = recon.solve(op, "tv:weight=0.01", op(truth), stop=recon.MaxIterations(30))
    assert (solution.image - truth).norm() < 0.2 * truth.norm()


def test_problems_are_saved_and_pickled(tmp_path) -> None:
    helix = ConeBeamVectors.of(helical_geometry((6, 4, 4), pitch=3.0, turns=4.0, views_per_turn=4, **NEAR))
    circle = ConeBeam((6, 4, 4), angles=5, detector_size=(1.4, 1.6), **NEAR)
    volume = torch.rand(6, 4, 4)
    for op in (helix, circle):
        expected = op(volume)
        for again in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
            assert not again._projectors
            assert again.geometry == op.geometry
            assert torch.equal(again(volume), expected)
        path = recon.Problem(op, expected).save(tmp_path / "scan.h5")
        loaded = recon.Problem.load(path)
        assert loaded.operator.geometry == op.geometry


def test_the_cpu_has_no_astra_for_cones() -> None:
    pytest.importorskip("astra", reason="ASTRA is an optional extra")
    op = ConeBeam((4, 4, 4), angles=3, backend="astra", **NEAR)
    with pytest.raises(RuntimeError, match=r"cannot project cone beams on cpu: .* use backend='joseph'"):
        op(torch.ones(4, 4, 4))


@pytest.mark.gpu
@needs_cuda
def test_astra_on_a_gpu_is_joseph_on_the_cpu() -> None:
    angles = [0.37 * k for k in range(17)]  # an order that ASTRA's projector sorts
    for make in (
        lambda: ConeBeam((24, 32, 30), 0.7, angles, detector_offset=(2.0, 3.0), **NEAR),
        lambda: ConeBeamVectors.of(
            helical_geometry((24, 32, 30), pitch=9.0, turns=4.0, views_per_turn=20, **NEAR)
        ),
    ):
        cpu, gpu = make(), make().to("cuda")
        volume = two_balls().new_zeros(2, 24, 32, 30)
        volume[:, 4:20, 5:25, 6:26] = torch.nn.functional.avg_pool3d(torch.rand(2, 1, 16, 20, 20), 3, 1, 1)[
            :, 0
        ]
        ours, theirs = cpu(volume), gpu(volume.cuda()).cpu()
        assert (ours - theirs).norm() < 5e-3 * ours.norm()  # texture interpolation with 8-bit fractions
        smooth = cpu(cpu.adjoint(cpu(volume)))
        back, exact = gpu.adjoint(smooth.cuda()).cpu(), cpu.adjoint(smooth)
        assert (back - exact).norm() < 0.05 * exact.norm()
        assert (cpu.adjoint_kind, gpu.adjoint_kind) == ("exact", "approximate")


@pytest.mark.gpu
@needs_cuda
def test_feldkamp_on_a_gpu_is_that_of_the_cpu() -> None:
    op = ConeBeam((16, 24, 24), angles=40, **NEAR)
    data = op(two_balls())
    torch.testing.assert_close(
        op.to("cuda").pinv(data.cuda()).cpu(),
        ConeBeam((16, 24, 24), angles=40, **NEAR).pinv(data),
        atol=1e-5,
        rtol=1e-3,
    )
