"""The backends of parallel-beam CT on CPU and GPU, and the cache of its matrices."""

import copy
import math
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from recon_operators import astra_projector, sparse_projector
from recon_operators.ct import ParallelBeam
from recon_operators.ct_fan import FanBeam
from torch import Tensor

needs_astra = pytest.mark.skipif(not astra_projector.is_installed(), reason="ASTRA is an optional extra")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zero-mean noise, which shows an adjoint's errors where positive numbers hide them."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@needs_astra
def test_the_backends_agree() -> None:
    scan = {"shape": (40, 30), "pixel_size": 0.7, "angles": 25, "detector_size": 0.9, "detector_offset": 2.0}
    matrix, astra = (ParallelBeam(**scan, backend=name) for name in ("matrix", "astra"))
    images, data = random(3, 40, 30), random(3, *matrix.range_shape)
    for ours, theirs in ((matrix(images), astra(images)), (matrix.adjoint(data), astra.adjoint(data))):
        assert (ours - theirs).norm() < 2e-5 * ours.norm()  # ASTRA steps along the ray in float32
    assert (matrix.backend, astra.backend) == ("matrix", "astra")
    assert astra.adjoint_kind == matrix.adjoint_kind == "exact"
    assert astra.norm() == pytest.approx(matrix.norm(), rel=1e-3)


def test_over_the_memory_limit_no_matrix_is_built() -> None:
    op = ParallelBeam((12, 12), angles=5, memory_limit=1000)
    assert op.backend == "strip"
    assert op(torch.ones(12, 12)).shape == (5, 17)
    enough = sparse_projector.estimated_bytes(op.geometry)
    assert ParallelBeam((12, 12), angles=5, memory_limit=enough).backend == "matrix"


def test_astra_is_refused_with_a_remedy_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "astra", None)  # what an import finds where ASTRA is not installed
    with pytest.raises(ImportError, match=r"pip install 'recon\[astra\]', or use backend='matrix'"):
        ParallelBeam((12, 12), angles=5, backend="astra")
    assert ParallelBeam((12, 12), angles=5)(torch.ones(12, 12)).shape == (5, 17)


def test_memory_is_estimated_before_building() -> None:
    op = ParallelBeam((40, 40), angles=30)
    built = sparse_projector.sparse_projector(op.geometry)
    assert built.bytes == pytest.approx(sparse_projector.estimated_bytes(op.geometry), rel=0.01)


def test_equal_scans_share_one_matrix_and_construction_builds_none() -> None:
    sparse_projector.clear_cache()
    one, other = (ParallelBeam((21, 22), angles=5) for _ in range(2))
    different = ParallelBeam((21, 22), angles=6)
    assert not one._projectors
    image = torch.ones(21, 22)
    for op in (one, other, different):
        op(image)
    (first,), (second,), (third,) = (list(op._projectors.values()) for op in (one, other, different))
    assert first is second
    assert first is not third


def test_constructing_a_huge_operator_costs_nothing() -> None:
    op = ParallelBeam((4096, 4096), angles=3000, backend="matrix")
    with pytest.raises(ValueError, match="more than int32 indices can count"):
        op(torch.zeros(4096, 4096))


def test_a_matrix_dropped_from_the_cache_lives_on_in_its_operator() -> None:
    op = ParallelBeam((13, 11), angles=5)
    before = op(torch.ones(13, 11))
    sparse_projector.clear_cache()
    (held,) = op._projectors.values()
    assert sparse_projector.sparse_projector(op.geometry) is held
    assert torch.equal(op(torch.ones(13, 11)), before)


def test_the_cache_keeps_the_latest_up_to_its_bytes() -> None:
    scans = [ParallelBeam((16, 16), angles=views).geometry for views in (3, 4, 5)]
    size = sparse_projector.estimated_bytes(scans[-1])
    cache = sparse_projector.MatrixCache(most_bytes=int(1.5 * size))
    device = torch.device("cpu")
    kept = [id(cache.get(scan, torch.float32, device)) for scan in scans]
    assert len(cache) == 1
    assert id(cache.get(scans[-1], torch.float32, device)) == kept[-1]
    cache.clear()
    assert len(cache) == 0


def test_threads_that_ask_together_get_one_matrix() -> None:
    sparse_projector.clear_cache()
    geometry = ParallelBeam((64, 64), angles=31).geometry
    found: list[sparse_projector.SparseProjector] = []
    threads = [
        threading.Thread(target=lambda: found.append(sparse_projector.sparse_projector(geometry)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({id(projector) for projector in found}) == 1


def test_copies_and_files_carry_the_geometry_and_not_the_matrix() -> None:
    op = ParallelBeam((50, 60), pixel_size=0.5, angles=40)
    image = random(50, 60)
    expected = op(image)
    stored = pickle.dumps(op)
    assert len(stored) < 5000
    assert op.state_dict() == {}
    for again in (pickle.loads(stored), copy.deepcopy(op)):
        assert not again._projectors
        assert torch.equal(again(image), expected)


def test_changing_the_precision_of_the_module_keeps_the_geometry() -> None:
    op = ParallelBeam((6, 6), angles=[0.1, 0.2])
    image = random(6, 6, dtype=torch.float64)
    before = op(image)
    assert torch.equal(op.half().double()(image), before)


def test_importing_the_operator_imports_neither_astra_nor_numba() -> None:
    program = "import sys, recon_operators.ct\nassert not {'numba', 'astra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def gpu_scans() -> list[dict]:
    return [
        {"shape": (96, 128), "angles": 60, "pixel_size": 0.7, "detector_size": 0.9, "detector_offset": 3.0},
        {"shape": (64, 64), "angles": 1},
        {"shape": (64, 64), "angles": (np.arange(100) * np.pi * (math.sqrt(5) - 1) / 2 % np.pi).tolist()},
    ]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("scan", gpu_scans())
@pytest.mark.parametrize("batch", [1, 3, 9])
def test_the_matrix_on_the_gpu_is_the_matrix(scan: dict, batch: int) -> None:
    host, device = ParallelBeam(**scan, backend="matrix"), ParallelBeam(**scan, backend="matrix").to("cuda")
    images, data = random(batch, *host.domain_shape), random(batch, *host.range_shape)
    torch.testing.assert_close(device(images.cuda()).cpu(), host(images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(device.adjoint(data.cuda()).cpu(), host.adjoint(data), atol=1e-4, rtol=1e-4)
    assert device.adjoint_kind == "exact"
    assert device.norm() == pytest.approx(host.norm(), rel=1e-3)


needs_astra_cuda = pytest.mark.skipif(
    not (torch.cuda.is_available() and astra_projector.has_cuda()), reason="no CUDA device that ASTRA can use"
)


@pytest.mark.gpu
@needs_astra_cuda
@pytest.mark.parametrize("scan", gpu_scans())
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_astra_on_the_gpu_projects_as_the_matrix_does(scan: dict, batch: int) -> None:
    exact, op = ParallelBeam(**scan, backend="matrix"), ParallelBeam(**scan).to("cuda")
    assert (op.backend, op.adjoint_kind) == ("astra", "approximate")
    images = random(batch, *op.domain_shape)
    expected = exact(images)
    # textures interpolate with 8-bit fractions: 1e-4 of the norm on noise
    assert (op(images.cuda()).cpu() - expected).norm() < 1e-3 * expected.norm()
    loop = torch.stack([op(image.cuda()) for image in images]).cpu()
    torch.testing.assert_close(op(images.cuda()).cpu(), loop, atol=1e-3, rtol=1e-3)
    data = random(batch, *op.range_shape)
    error = (op.adjoint(data.cuda()).cpu() - exact.adjoint(data)).norm() / exact.adjoint(data).norm()
    assert error < op.adjoint_tolerance
    smooth = exact(torch.nn.functional.avg_pool2d(images, 9, 1, 4))
    error = (op.adjoint(smooth.cuda()).cpu() - exact.adjoint(smooth)).norm() / exact.adjoint(smooth).norm()
    assert error < 0.05


@pytest.mark.gpu
@needs_astra_cuda
def test_astra_on_the_gpu_copies_nothing_to_the_host() -> None:
    op = ParallelBeam((256, 256), angles=90).to("cuda")
    images = torch.rand(8, 256, 256, device="cuda")
    op.adjoint(op(images))
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    ) as profile:
        op.adjoint(op(images))
        torch.cuda.synchronize()
    copies = [event for event in profile.events() if "Memcpy" in event.name and ("DtoH" in event.name)]
    # the check that something was written reads one number back from each call
    assert len(copies) <= 2


@pytest.mark.gpu
@needs_astra_cuda
def test_astra_waits_for_work_on_a_side_stream() -> None:
    op = ParallelBeam((256, 256), angles=90).to("cuda")
    image = torch.rand(1, 256, 256, device="cuda")
    expected = op(2 * image)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        busy = torch.rand(4096, 4096, device="cuda")
        for _ in range(20):
            busy = busy @ busy / 4096
        doubled = image * (2 + 0 * busy[0, 0].nan_to_num())
        result = op(doubled)
    torch.cuda.synchronize()
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
@needs_astra_cuda
def test_threads_with_different_scans_on_one_gpu_do_not_mix() -> None:
    operators = [ParallelBeam((64, 64), angles=views).to("cuda") for views in (30, 45, 60, 90)]
    image = torch.rand(1, 64, 64, device="cuda")
    expected = [op(image) for op in operators]
    wrong: list[int] = []

    def repeat(index: int) -> None:
        for _ in range(20):
            if not torch.allclose(operators[index](image), expected[index], rtol=1e-3, atol=1e-3):
                wrong.append(index)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.gpu
@needs_astra_cuda
def test_rays_that_miss_the_image_are_zeros_and_no_failure() -> None:
    op = ParallelBeam((32, 32), angles=[0.0]).to("cuda")
    data = torch.zeros(1, *op.range_shape, device="cuda")
    data[..., 0] = 1.0
    assert float(op.adjoint(data).abs().max()) == 0.0
    assert float(op(torch.zeros(1, 32, 32, device="cuda")).abs().max()) == 0.0


@pytest.mark.gpu
@needs_cuda
def test_pinv_and_noise_level_work_on_the_gpu() -> None:
    host, device = ParallelBeam((64, 64), angles=60), ParallelBeam((64, 64), angles=60).to("cuda")
    data = host(torch.rand(2, 64, 64))
    torch.testing.assert_close(device.pinv(data.cuda()).cpu(), host.pinv(data), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        device.noise_level(data.cuda()).cpu(), host.noise_level(data), rtol=1e-3, atol=0
    )


def fan_scans() -> list[dict]:
    distances = {"source_origin": 150.0, "origin_detector": 90.0}
    golden = (np.arange(200) * np.pi * (math.sqrt(5) - 1) % (2 * np.pi)).tolist()
    return [
        {"shape": (64, 96), "angles": 60, "pixel_size": 0.7, "detector_offset": 3.0, **distances},
        {"shape": (64, 64), "angles": golden, **distances},
    ]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("scan", fan_scans())
def test_the_matrix_of_a_fan_on_the_gpu_is_the_matrix(scan: dict) -> None:
    host, device = FanBeam(**scan), FanBeam(**scan).to("cuda")
    assert (device.backend, device.adjoint_kind) == ("matrix", "exact")
    images, data = random(3, *host.domain_shape), random(3, *host.range_shape)
    torch.testing.assert_close(device(images.cuda()).cpu(), host(images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(device.adjoint(data.cuda()).cpu(), host.adjoint(data), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(device.pinv(data.cuda()).cpu(), host.pinv(data), atol=1e-4, rtol=1e-3)


@pytest.mark.gpu
@needs_astra_cuda
@pytest.mark.parametrize("scan", fan_scans())
@pytest.mark.parametrize("batch", [1, 3])
def test_astra_on_the_gpu_projects_fans_as_the_matrix_does(scan: dict, batch: int) -> None:
    exact, op = FanBeam(**scan), FanBeam(**scan, backend="astra").to("cuda")
    assert (op.backend, op.adjoint_kind) == ("astra", "approximate")
    images = random(batch, *op.domain_shape)
    expected = exact(images)
    # textures interpolate with 8-bit fractions: 1e-4 of the norm on noise
    assert (op(images.cuda()).cpu() - expected).norm() < 1e-3 * expected.norm()
    smooth = exact(torch.nn.functional.avg_pool2d(images, 9, 1, 4))
    error = (op.adjoint(smooth.cuda()).cpu() - exact.adjoint(smooth)).norm() / exact.adjoint(smooth).norm()
    assert error < 0.05
