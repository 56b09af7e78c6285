"""The built-in classical priors; this module only registers them and imports nothing heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.entries import Example, PriorEntry
from recon.hookspecs import hookimpl

if TYPE_CHECKING:
    from recon_priors.bm3d import BM3D as BM3D
    from recon_priors.box import Box as Box
    from recon_priors.box import NonNegative as NonNegative
    from recon_priors.huber_tv import HuberTV as HuberTV
    from recon_priors.l1 import L1 as L1
    from recon_priors.nlm import NonLocalMeans as NonLocalMeans
    from recon_priors.tgv import TGV as TGV
    from recon_priors.tgv import TotalGeneralizedVariation as TotalGeneralizedVariation
    from recon_priors.tikhonov import Tikhonov as Tikhonov
    from recon_priors.tv import TV as TV
    from recon_priors.tv import TotalVariation as TotalVariation
    from recon_priors.vectorial_tv import VectorialTV as VectorialTV
    from recon_priors.wavelet import WaveletSparsity as WaveletSparsity
    from recon_priors.wavelet_denoiser import WaveletDenoiser as WaveletDenoiser

_CLASSES = {
    "BM3D": "bm3d",
    "Box": "box",
    "HuberTV": "huber_tv",
    "L1": "l1",
    "NonLocalMeans": "nlm",
    "NonNegative": "box",
    "TGV": "tgv",
    "TV": "tv",
    "Tikhonov": "tikhonov",
    "TotalGeneralizedVariation": "tgv",
    "TotalVariation": "tv",
    "VectorialTV": "vectorial_tv",
    "WaveletDenoiser": "wavelet_denoiser",
    "WaveletSparsity": "wavelet",
}
__all__ = sorted(_CLASSES)


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module 'recon_priors' has no attribute {name!r}")
    return getattr(import_module(f"recon_priors.{_CLASSES[name]}"), name)


@hookimpl
def recon_priors() -> list[PriorEntry]:
    """The priors of this package."""
    return [
        PriorEntry(
            name="tv",
            factory="recon_priors.tv:TotalVariation",
            summary="total variation: isotropic or anisotropic, joint over a complex modulus",
            convex=True,
            examples=(Example({"weight": 0.1}), Example({"weight": 0.1, "isotropic": False})),
        ),
        PriorEntry(
            name="tgv",
            factory="recon_priors.tgv:TotalGeneralizedVariation",
            summary="total generalised variation of second order: edges and slopes without a staircase",
            convex=True,
            examples=(Example({"weight": 0.1}), Example({"weight": 0.1, "boundary": "periodic"})),
        ),
        PriorEntry(
            name="huber_tv",
            factory="recon_priors.huber_tv:HuberTV",
            summary="Huber total variation: quadratic for small differences, so that slopes stay smooth",
            convex=True,
            examples=(Example({"width": 0.3, "weight": 0.1}), Example({"width": 0.3, "isotropic": False})),
        ),
        PriorEntry(
            name="vectorial_tv",
            factory="recon_priors.vectorial_tv:VectorialTV",
            summary="total variation of colours, contrasts or energies that share their edges: nuclear or joint norm",
            convex=True,
            tags=("channels", "colour", "nuclear"),
            examples=(
                Example({"weight": 0.1}),
                Example({"weight": 0.1, "coupling": "joint", "axis": -1}),
                Example({"weight": 0.1, "coupling": "separate"}),
            ),
        ),
        PriorEntry(
            name="wavelet",
            factory="recon_priors.wavelet:WaveletSparsity",
            summary="sparse wavelet coefficients, in a tight frame or an orthogonal basis",
            convex=True,
            examples=(
                Example({"weight": 0.1, "levels": 2}),
                Example({"weight": 0.1, "wavelet": "haar", "levels": 1, "decimated": True}),
            ),
        ),
        PriorEntry(
            name="l1",
            factory="recon_priors.l1:L1",
            summary="sum of magnitudes: sparse images",
            convex=True,
            examples=(Example({"weight": 0.1}),),
        ),
        PriorEntry(
            name="tikhonov",
            factory="recon_priors.tikhonov:Tikhonov",
            summary="half the squared norm of the image, or of its gradient",
            convex=True,
            examples=(Example({"weight": 0.1}), Example({"weight": 0.1, "of": "gradient"})),
        ),
        PriorEntry(
            name="nonnegative",
            factory="recon_priors.box:NonNegative",
            summary="no value below zero",
            convex=True,
            domain="real",
        ),
        PriorEntry(
            name="box",
            factory="recon_priors.box:Box",
            summary="values between two bounds",
            convex=True,
            domain="real",
            examples=(Example({"low": 0.0, "high": 1.0}),),
        ),
        PriorEntry(
            name="wavelet_denoiser",
            factory="recon_priors.wavelet_denoiser:WaveletDenoiser",
            summary="plug-and-play: empirical Wiener filter of wavelet coefficients; milliseconds, nothing to train",
            tags=("denoiser", "plug-and-play"),
        ),
        PriorEntry(
            name="nlm",
            factory="recon_priors.nlm:NonLocalMeans",
            summary="plug-and-play: non-local means of scikit-image, images and volumes",
            requires=("skimage",),
            extra="nlm",
            tags=("denoiser", "plug-and-play"),
        ),
        PriorEntry(
            name="bm3d",
            factory="recon_priors.bm3d:BM3D",
            summary="plug-and-play: BM3D, the strongest without training; its library is for non-commercial use only",
            requires=("bm3d",),
            extra="bm3d",
            tags=("denoiser", "plug-and-play", "non-commercial"),
            examples=(Example({"stages": "first"}),),
        ),
    ]
