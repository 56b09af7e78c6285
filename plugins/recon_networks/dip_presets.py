"""Published settings of the deep image prior by name, and small ones for a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Input = Literal["uniform", "normal", "meshgrid"]


@dataclass(frozen=True)
class Preset:
    """A network with its input and what the solver should do.

    Attributes:
        network: registered name.
        settings: arguments of the network, but for channels and axes.
        input: kind of the fixed input.
        depth: its channels; of a mesh grid, one an axis.
        scale: what the noise is multiplied by.
        lr, reg_noise, iterations: advice to the solver.
    """

    network: str
    settings: dict[str, Any]
    lr: float
    reg_noise: float
    iterations: int
    input: Input = "uniform"
    depth: int = 32
    scale: float = 0.1
    source: str = field(default="", compare=False)


FIVE = (128,) * 5
_NOTEBOOKS = "notebooks of Deep Image Prior (Ulyanov et al. 2018)"
_CT = "Baguer, Leuschner and Schmidt 2020"
_LIBRARY = (16, 32, 64, 128, 128, 128)


def _skip(down: Sequence[int], skip: int | tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {"down": tuple(down), "skip": skip, **more}


PRESETS: dict[str, Preset] = {
    "denoise": Preset("skip", _skip(FIVE, 4), 0.01, 1 / 30, 3000, source=_NOTEBOOKS),
    "jpeg": Preset(
        "skip", _skip((8, 16, 32, 64, 128), (0, 0, 0, 4, 4)), 0.01, 1 / 30, 2400, depth=3, source=_NOTEBOOKS
    ),
    "inpaint_region": Preset(
        "skip", _skip(FIVE, 0, upsample="nearest"), 0.01, 0.03, 5001, "meshgrid", 2, source=_NOTEBOOKS
    ),
    "inpaint_text": Preset(
        "skip", _skip(FIVE, 128, upsample="nearest"), 0.01, 0.03, 6001, source=_NOTEBOOKS
    ),
    "inpaint_library": Preset(
        "skip",
        _skip(_LIBRARY, 0, kernel_down=5, mixing=False, upsample="nearest"),
        0.01,
        0.0,
        3001,
        depth=1,
        source=_NOTEBOOKS,
    ),
    "inpaint_library_unet": Preset(
        "dip_unet", {"feature_scale": 8, "more_layers": 1, "norm": "instance"}, 0.001, 0.0, 3001, depth=1,
        source=_NOTEBOOKS,
    ),
    "inpaint_library_resnet": Preset(
        "dip_resnet", {"blocks": 8, "filters": 32}, 0.001, 0.0, 3001, depth=1, source=_NOTEBOOKS
    ),
    "restore_half": Preset("skip", _skip(FIVE, 4), 0.001, 0.03, 11000, source=_NOTEBOOKS),
    "restore_few": Preset(
        "skip", _skip((16, 32, 64, 128, 128), 0, downsample="avg"), 0.01, 0.0, 1000, source=_NOTEBOOKS
    ),
    "super_resolution_x4": Preset("skip", _skip(FIVE, 4), 0.01, 0.03, 2000, source=_NOTEBOOKS),
    "super_resolution_x8": Preset("skip", _skip(FIVE, 4), 0.01, 0.05, 4000, source=_NOTEBOOKS),
    "flash": Preset(
        "skip",
        _skip(FIVE, 4, upsample=("nearest", "nearest", "bilinear", "bilinear", "bilinear")),
        0.1,
        0.0,
        601,
        depth=3,
        source=_NOTEBOOKS,
    ),
    "ct_ellipses": Preset("skip", _skip(FIVE, 0), 0.001, 0.0, 5000, "normal", 1, source=_CT),
    "ct_lodopab": Preset(
        "skip", _skip((128,) * 6, (0, 0, 0, 0, 4, 4)), 0.0005, 0.0, 15000, "normal", 1, source=_CT
    ),
    "deep_decoder": Preset(
        "deep_decoder", {"filters": 128, "scales": 5}, 0.01, 0.0, 1900, depth=128,
        source="Heckel and Hand 2019",
    ),
    "conv_decoder": Preset(
        "conv_decoder", {"filters": 160, "layers": 8}, 0.008, 0.0, 20000, "normal", 160, 1.0,
        source="Darestani and Heckel 2021",
    ),
    "small_128": Preset("skip", _skip((16, 32, 64, 64), 0), 0.003, 1 / 30, 1500, depth=16),
    "small_256": Preset("skip", _skip((16, 32, 64, 64, 64), 0), 0.003, 1 / 30, 2000, depth=16),
    "small_mri": Preset("skip", _skip((16, 32, 64, 64), 0), 0.01, 1 / 30, 2000, depth=16),
    "small_ct": Preset("skip", _skip((16, 32, 64, 64), 0), 0.01, 0.0, 3000, "normal", 16),
}  # fmt: skip


def automatic(shape: Sequence[int], on_gpu: bool) -> str:
    """The preset for images of this shape where the user names none: the published one on a GPU, else a small one."""
    if on_gpu:
        return "denoise"
    return "small_128" if min(shape) <= 128 else "small_256"


def fitting(settings: dict[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """A `skip` network's settings with no more scales than the image can be halved: to 4 pixels at the coarsest."""
    scales = len(settings["down"])
    most = max(1, math.floor(math.log2(max(min(shape), 1))) - 2)
    if scales <= most:
        return settings
    cut = {
        name: value[:most]
        for name, value in settings.items()
        if isinstance(value, tuple) and len(value) == scales
    }
    return settings | cut
