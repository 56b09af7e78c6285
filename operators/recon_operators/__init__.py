"""The built-in forward operators; this module only registers them and imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import Example, OperatorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    from recon.linear import Identity as Identity
    from recon_operators.astra_geometry import from_astra as from_astra
    from recon_operators.blur import Blur as Blur
    from recon_operators.cone_geometry import ConeGeometry as ConeGeometry
    from recon_operators.cone_scans import helical_geometry as helical_geometry
    from recon_operators.ct import ParallelBeam as ParallelBeam
    from recon_operators.ct_cone import ConeBeam as ConeBeam
    from recon_operators.ct_cone import ConeBeamVectors as ConeBeamVectors
    from recon_operators.ct_fan import FanBeam as FanBeam
    from recon_operators.gradient import Gradient as Gradient
    from recon_operators.mask import Mask as Mask
    from recon_operators.matrix import Matrix as Matrix
    from recon_operators.mri import CartesianMRI as CartesianMRI
    from recon_operators.mri_nonuniform import NonCartesianMRI as NonCartesianMRI
    from recon_operators.mri_nonuniform import RadialMRI as RadialMRI
    from recon_operators.phase import KnownPhase as KnownPhase
    from recon_operators.resample import Downsample as Downsample
    from recon_operators.wavelet import Wavelet as Wavelet

_MODULES = {
    "Blur": "recon_operators.blur",
    "CartesianMRI": "recon_operators.mri",
    "ConeBeam": "recon_operators.ct_cone",
    "ConeBeamVectors": "recon_operators.ct_cone",
    "ConeGeometry": "recon_operators.cone_geometry",
    "Downsample": "recon_operators.resample",
    "FanBeam": "recon_operators.ct_fan",
    "Gradient": "recon_operators.gradient",
    "Identity": "recon.linear",
    "KnownPhase": "recon_operators.phase",
    "Mask": "recon_operators.mask",
    "Matrix": "recon_operators.matrix",
    "NonCartesianMRI": "recon_operators.mri_nonuniform",
    "ParallelBeam": "recon_operators.ct",
    "RadialMRI": "recon_operators.mri_nonuniform",
    "Wavelet": "recon_operators.wavelet",
    "from_astra": "recon_operators.astra_geometry",
    "helical_geometry": "recon_operators.cone_scans",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'recon_operators' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


@hookimpl
def recon_operators() -> list[OperatorEntry]:
    """The operators of this package."""
    return [
        OperatorEntry(
            name="ct_parallel",
            factory="recon_operators.ct:ParallelBeam",
            summary="computed tomography, 2-D parallel beam: line integrals of an attenuation map",
            domain="real",
            tags=("ct",),
            examples=(
                Example({"shape": (6, 7), "angles": 5}),
                Example(
                    {
                        "shape": (7, 5),
                        "pixel_size": 0.5,
                        "angles": (0.1, 0.6, 1.3, 1.7, 2.2, 2.9),
                        "detectors": 14,
                        "detector_size": 0.4,
                        "detector_offset": 0.3,
                    }
                ),
                Example({"shape": (6, 5), "angles": 5, "backend": "fourier"}),
                Example({"shape": (5, 6), "angles": 4, "detector_size": 1.3, "backend": "strip"}),
            ),
        ),
        OperatorEntry(
            name="ct_fan",
            factory="recon_operators.ct_fan:FanBeam",
            summary="computed tomography, 2-D fan beam with a flat detector: line integrals of an attenuation map",
            domain="real",
            nonnegative=True,
            tags=("ct",),
            examples=(
                Example({"shape": (6, 6), "angles": 8, "source_origin": 12.0, "origin_detector": 6.0}),
                Example(
                    {
                        "shape": (7, 5),
                        "pixel_size": 0.5,
                        "angles": (0.1, 0.6, 1.1, 1.5, 2.0, 2.5, 3.0, 3.6, 4.1),
                        "source_origin": 6.0,
                        "origin_detector": 4.0,
                        "detectors": 16,
                        "detector_size": 0.6,
                        "detector_offset": 0.3,
                    }
                ),
                Example({"shape": (4, 7), "angles": 9, "source_origin": 50.0, "origin_detector": 0.0}),
            ),
        ),
        OperatorEntry(
            name="ct_cone",
            factory="recon_operators.ct_cone:ConeBeam",
            summary="computed tomography, 3-D cone beam on a circle, flat detector: line integrals of a volume",
            domain="real",
            nonnegative=True,
            tags=("ct",),
            examples=(
                Example({"shape": (3, 4, 4), "angles": 8, "source_origin": 9.0, "origin_detector": 5.0}),
                Example(
                    {
                        "shape": (4, 3, 5),
                        "pixel_size": 0.5,
                        "angles": (0.1, 0.6, 1.1, 1.5, 2.0, 2.5, 3.0, 3.6, 4.1),
                        "source_origin": 6.0,
                        "origin_detector": 4.0,
                        "detectors": (6, 8),
                        "detector_size": (0.8, 0.7),
                        "detector_offset": (0.2, 0.3),
                    }
                ),
            ),
        ),
        OperatorEntry(
            name="ct_cone_vectors",
            factory="recon_operators.ct_cone:ConeBeamVectors",
            summary="computed tomography, 3-D cone beam along any path (helix, calibrated views), flat detector",
            domain="real",
            nonnegative=True,
            tags=("ct",),
            examples=(
                Example(
                    {
                        "shape": (4, 4, 3),
                        "vectors": (
                            (0, -9, -1, 0, 5, -1, 1.6, 0, 0, 0, 0, 1.6),
                            (9, 0, -0.4, -5, 0, -0.4, 0, 1.6, 0, 0, 0, 1.6),
                            (0, 9, 0.2, 0, -5, 0.2, -1.6, 0, 0.1, 0, 0.1, 1.6),
                            (-9, 0, 0.8, 5, 0, 0.8, 0, -1.6, 0, 0, 0, 1.6),
                            (1, 2, 9, 0, 0, -5, 1.6, 0, 0, 0.2, 1.6, 0),
                        ),
                        "detectors": (5, 6),
                    }
                ),
            ),
        ),
        OperatorEntry(
            name="mri_cartesian",
            factory="recon_operators.mri:CartesianMRI",
            summary="Cartesian MRI: undersampled centred Fourier transform, one coil or several",
            domain="complex",
            tags=("mri",),
            examples=(
                Example({"mask": [[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 0, 1]]}),
                Example({"mask": [1, 0, 1, 1, 0, 1], "shape": (4, 6)}),
                Example({"mask": "radial:acceleration=2", "shape": (6, 5)}),
                Example(
                    {
                        "mask": [1, 1, 0, 1],
                        "coil_maps": [
                            [[1.0, 0.8, 0.4, 0.2], [1.0, 0.9, 0.5, 0.1], [0.7, 0.6, 0.3, 0.2]],
                            [[0.1j, 0.3, 0.7j, 1.0], [0.2, 0.4j, 0.8, 0.9j], [0.1, 0.5, 0.6, 0.8]],
                        ],
                    }
                ),
                Example({"mask": [[[1], [0], [1]], [[1], [1], [0]]], "shape": (2, 3, 4)}),
                Example(
                    {
                        "mask": "partial_fourier:fraction=0.7",
                        "coil_maps": [
                            [[[1.0, 0.4], [0.8, 0.5j], [0.3, 0.1]], [[0.9, 0.3], [0.7, 0.4], [0.2j, 0.1]]],
                            [[[0.2, 0.7j], [0.3, 0.8], [0.6, 1.0]], [[0.1, 0.6], [0.5j, 0.7], [0.6, 0.9]]],
                        ],
                    }
                ),
            ),
        ),
        OperatorEntry(
            name="mri_nonuniform",
            factory="recon_operators.mri_nonuniform:NonCartesianMRI",
            summary="non-Cartesian MRI: samples anywhere in k-space, one coil or several, 2-D or 3-D",
            domain="complex",
            tags=("mri",),
            examples=(
                Example(
                    {
                        "shape": (4, 3),
                        "trajectory": [
                            [[-2.0, -1.5], [-0.7, -0.5], [0.0, 0.0], [0.9, 0.4], [1.8, 1.2]],
                            [[1.5, -1.5], [0.8, -0.6], [0.1, 0.0], [-0.8, 0.7], [-1.9, 1.4]],
                            [[0.0, -1.3], [1.1, 0.3], [-1.2, 0.1], [0.3, 1.4], [-0.6, -1.1]],
                        ],
                    }
                ),
            ),
        ),
        OperatorEntry(
            name="mri_radial",
            factory="recon_operators.mri_nonuniform:RadialMRI",
            summary="radial MRI: spokes through the centre of k-space, one coil or several",
            domain="complex",
            tags=("mri",),
            examples=(
                Example({"shape": (6, 5), "spokes": 7, "samples": 9}),
                Example(
                    {
                        "shape": (3, 4),
                        "spokes": 4,
                        "samples": 7,
                        "order": "uniform",
                        "coil_maps": [
                            [[1.0, 0.8, 0.4, 0.2], [1.0, 0.9, 0.5, 0.1], [0.7, 0.6, 0.3, 0.2]],
                            [[0.1j, 0.3, 0.7j, 1.0], [0.2, 0.4j, 0.8, 0.9j], [0.1, 0.5, 0.6, 0.8]],
                        ],
                    }
                ),
            ),
        ),
        OperatorEntry(
            name="known_phase",
            factory="recon_operators.phase:KnownPhase",
            summary="real images with a known phase, as complex images: the right factor of an MRI operator",
            domain="real",
            tags=("mri",),
            examples=(
                Example({"phase": [[0.1, -0.4, 3.0, 0.0], [1.2, 0.7, -2.5, 0.3], [0.2, 0.0, 0.9, 5.0]]}),
            ),
        ),
        OperatorEntry(
            name="mask",
            factory="recon_operators.mask:Mask",
            summary="inpainting: only some pixels are measured",
            nonnegative=True,
            tags=("image restoration",),
            examples=(Example({"mask": [[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]]}),),
        ),
        OperatorEntry(
            name="downsample",
            factory="recon_operators.resample:Downsample",
            summary="antialiased downsampling by a whole factor (super-resolution)",
            tags=("image restoration",),
            examples=(
                Example({"shape": (12, 8), "factor": 2}),
                Example({"shape": (9, 12), "factor": 3, "kernel": "lanczos2", "boundary": "periodic"}),
                Example({"shape": (8, 12), "factor": 4, "kernel": "box"}),
                Example({"shape": (4, 6, 2), "factor": 2, "boundary": "periodic", "axes": 3}),
            ),
        ),
        OperatorEntry(
            name="blur",
            factory="recon_operators.blur:Blur",
            summary="circular convolution with a known kernel",
            tags=("image restoration",),
            examples=(
                Example({"shape": (6, 7), "kernel": [[0.1, 0.2, 0.1], [0.0, 0.5, 0.1]]}),
                Example({"shape": (8, 6), "kernel": ("gaussian", 0.8)}),
            ),
        ),
        OperatorEntry(
            name="identity",
            factory="recon.linear:Identity",
            summary="the image itself (denoising)",
            tags=("image restoration",),
            examples=(Example({"shape": (5, 6)}),),
        ),
        OperatorEntry(
            name="gradient",
            factory="recon_operators.gradient:Gradient",
            summary="finite differences along every axis",
            tags=("part of priors",),
            examples=(
                Example({"shape": (5, 6)}),
                Example({"shape": (4, 3, 5), "boundary": "periodic", "spacing": (0.5, 1.0, 2.0)}),
            ),
        ),
        OperatorEntry(
            name="wavelet",
            factory="recon_operators.wavelet:Wavelet",
            summary="wavelet transform: undecimated tight frame, or orthogonal",
            tags=("part of priors",),
            examples=(
                Example({"shape": (5, 6), "levels": 2}),
                Example({"shape": (8, 4), "wavelet": "haar", "levels": 2, "decimated": True}),
                Example({"shape": (2, 3, 4), "wavelet": "sym4", "levels": 1}),
            ),
        ),
        OperatorEntry(
            name="matrix",
            factory="recon_operators.matrix:Matrix",
            summary="any linear model given as a matrix, dense or sparse",
            tags=("generic",),
            examples=(
                Example({"matrix": [[1.0, 0.5, 0.0, -2.0], [0.0, 1.0, 3.0, 0.0], [0.2, 0.0, 0.0, 1.0]]}),
                Example(
                    {
                        "matrix": [[1.0, 0.5, 0.0, 2.0], [0.0, 1.0, 3.0, 0.0]],
                        "shape": (2, 2),
                        "data_shape": (1, 2),
                    }
                ),
            ),
        ),
    ]
