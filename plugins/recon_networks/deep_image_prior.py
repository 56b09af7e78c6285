"""The deep image prior by name: a generator that is made when it meets the images of a problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from recon import registry
from recon.linear import real_dtype
from recon.parameters import Param, read_parameters
from recon.priors import Generator
from recon_networks.dip_presets import PRESETS, Input, Preset, automatic, fitting

COLOURS = 4
"""The most colour channels: of three axes, a first one that short holds colours, a longer one is depth."""

SMALLEST = 3
"""Pixels along an axis below which convolutions with a reflected border have nothing to reflect."""

PresetName = Literal[
    "auto", "denoise", "jpeg", "inpaint_region", "inpaint_text", "inpaint_library", "inpaint_library_unet",
    "inpaint_library_resnet", "restore_half", "restore_few", "super_resolution_x4", "super_resolution_x8", "flash",
    "ct_ellipses", "ct_lodopab", "deep_decoder", "conv_decoder", "small_128", "small_256",
    "small_ct", "small_mri",
]  # fmt: skip


class DeepImagePrior(Generator):
    """Images x = G(theta; z) of an untrained network with a fixed random input z (Ulyanov et al. 2018).

    It is made for the shape of a problem's images when a solver asks for it, with weights and input drawn from the
    solve's seed. An image of two axes is grey; of three axes, a first one of up to 4 holds colours, a longer one is
    depth, and the network is three-dimensional. A complex image has two channels, real and imaginary part (of each
    colour).

    Presets are the published settings of network, input, learning rate, input noise and iterations. "auto" is that
    of denoising on a GPU, and on a CPU a network of a tenth of its size, with which a pass takes a tenth of a
    second: `small_128` for images of up to 128 pixels, else `small_256`. A network with more scales than the image
    can be halved (4 pixels remain) loses the coarsest.

    Args:
        preset: the settings to begin with.
        network: another registered network, ``"name"`` or ``"name:argument=value"``.
        scales: number of scales of a `skip` network; the filters of the last are repeated, or left out.
        filters: filters of a `skip` network's encoder and decoder: a number for every scale, or one each.
        skip: filters of its skip connections: a number, or one a scale.
        upsample: its interpolation, ``"bilinear"`` or ``"nearest"``.
        downsample: how it halves the size.
        input: ``"uniform"`` or ``"normal"`` noise, or ``"meshgrid"``, the coordinates from 0 to 1.
        depth: channels of noise.
        scale: what the noise is multiplied by.
        learn_input: whether the input is fitted too, beginning with the fixed one.
        output: ``"sigmoid"``: values within the image's range (see the solver `dip`); ``"linear"``: any.
        axes: 2 or 3 axes of space; "auto": by the shape.
        shape: of one image, to have the generator at once; None: that of the problem.
        seed: of weights and input, with a shape; else that of the solve.
    """

    def __init__(
        self,
        preset: Annotated[PresetName, Param("published settings; auto: by device and size")] = "auto",
        network: Annotated[str | None, Param("another registered network; none: the preset's")] = None,
        scales: Annotated[int | None, Param("scales of a skip network", ge=1)] = None,
        filters: Annotated[
            int | tuple[int, ...] | None, Param("filters of a skip network, one number or one a scale", ge=1)
        ] = None,
        skip: Annotated[int | tuple[int, ...] | None, Param("filters of its skip connections", ge=0)] = None,
        upsample: Annotated[
            Literal["bilinear", "nearest"] | None, Param("interpolation of a skip network")
        ] = None,
        downsample: Annotated[
            Literal["stride", "avg", "max", "lanczos2", "lanczos3"] | None,
            Param("how a skip network halves the size"),
        ] = None,
        input: Annotated[Input | None, Param("the fixed input: noise, or coordinates")] = None,  # noqa: A002
        depth: Annotated[int | None, Param("channels of noise", ge=1)] = None,
        scale: Annotated[float | None, Param("what the noise is multiplied by", gt=0)] = None,
        learn_input: Annotated[bool, Param("the input is fitted too")] = False,
        output: Annotated[
            Literal["sigmoid", "linear"], Param("values within the image's range, or any")
        ] = "sigmoid",
        axes: Annotated[Literal["auto", 2, 3], Param("axes of space; auto: by the shape")] = "auto",
        shape: Annotated[tuple[int, ...] | None, Param("of one image; none: the problem's", ge=1)] = None,
        seed: Annotated[int, Param("of weights and input, with a shape", ge=0)] = 0,
    ) -> None:
        if preset != "auto" and preset not in PRESETS:
            raise ValueError(f"preset must be 'auto' or one of {', '.join(PRESETS)}, got {preset!r}")
        super().__init__(nn.Identity(), torch.zeros(0))
        self.preset, self.named, self.output, self.axes = preset, network, output, axes
        changed = {
            "scales": scales,
            "filters": filters,
            "skip": skip,
            "upsample": upsample,
            "downsample": downsample,
        }
        self.changes: dict[str, Any] = {name: value for name, value in changed.items() if value is not None}
        self.input, self.depth, self.scale, self.learn_input = input, depth, scale, learn_input
        self.shape = None if shape is None else tuple(shape)
        if output not in ("sigmoid", "linear"):
            raise ValueError(f"output must be 'sigmoid' or 'linear', got {output!r}")
        if preset != "auto":
            self.advice = _advice(PRESETS[preset])
        if self.shape is not None:
            self._make(self.shape, False, seed, torch.zeros(0))

    def forward(self) -> Tensor:
        """The image that the present weights generate.

        Raises:
            ValueError: no shape was given, and no problem has asked for images yet.
        """
        if self.shape is None:
            raise ValueError(
                "the deep image prior has no images yet: give it shape=(height, width), or solve with it"
            )
        return super().forward()

    def for_images(
        self, shape: Sequence[int], *, is_complex: bool, seed: int, like: Tensor
    ) -> DeepImagePrior:
        """A generator of such images with weights and input of this seed."""
        if self.shape is not None and self.shape != tuple(shape):
            raise ValueError(
                f"the deep image prior was made with shape={self.shape}, but the problem has images {tuple(shape)}: "
                "leave shape out, and it is made for the images that it meets"
            )
        made = type(self)(
            self.preset, self.named, input=self.input, depth=self.depth, scale=self.scale,
            learn_input=self.learn_input, output=self.output, axes=self.axes, **self.changes,
        )  # fmt: skip
        made._make(tuple(shape), is_complex, seed, like)
        return made

    def _make(self, shape: tuple[int, ...], is_complex: bool, seed: int, like: Tensor) -> None:
        space = self._space(shape)
        if min(space) < SMALLEST:
            raise ValueError(
                f"the deep image prior needs images of at least {SMALLEST} pixels along each axis of space, got the "
                f"shape {shape}: a network that halves the image has nothing to halve"
            )
        on_gpu = like.device.type == "cuda"
        self.resolved = automatic(space, on_gpu) if self.preset == "auto" else self.preset
        preset = PRESETS[self.resolved]
        self.advice = _advice(preset)
        kind = self.input or preset.input
        depth = len(space) if kind == "meshgrid" else self.depth or preset.depth
        channels = math.prod(shape) // math.prod(space) * (2 if is_complex else 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self._network(preset, depth, channels, space)
            coarse: Callable[[Sequence[int]], tuple[int, ...]] | None = getattr(network, "input_shape", None)
            size = space if coarse is None else coarse(space)
            fixed = _fixed_input(kind, depth, size, self.scale or preset.scale)
        self.value_range = getattr(network, "value_range", None)
        if self.learn_input:
            network, fixed = _WithInput(network, fixed), torch.zeros_like(fixed)
        self.network = network.to(like.device, real_dtype(like.dtype))
        self.fixed_input = fixed.to(like.device, real_dtype(like.dtype))
        self.shape = shape

    def _space(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of space; those before them hold colours."""
        guess = 2 if len(shape) == 3 and shape[0] <= COLOURS else len(shape)
        axes = guess if self.axes == "auto" else int(self.axes)
        if not 1 <= axes <= min(len(shape), 3):
            raise ValueError(
                f"the deep image prior makes images of 1 to 3 axes, after colours: got the shape {shape}"
                + (f" and axes={axes}" if self.axes != "auto" else ": say axes=2 or axes=3")
            )
        return shape[len(shape) - axes :]

    def _network(self, preset: Preset, depth: int, channels: int, space: tuple[int, ...]) -> nn.Module:
        name, settings = preset.network, dict(preset.settings)
        if self.named is not None and self.named != name:
            name, settings = self.named, {}
        if self.changes:
            if name != "skip":
                raise ValueError(
                    f"{', '.join(self.changes)} {'are' if len(self.changes) > 1 else 'is'} for the network 'skip', not "
                    f"for {name!r}: write network='{name}:argument=value'"
                )
            settings |= _changed(settings or PRESETS["denoise"].settings, self.changes)
        if name == "skip":
            settings = fitting(settings or PRESETS["denoise"].settings, space)
        factory = registry.find("network", name.partition(":")[0]).load()
        accepted = {parameter.name for parameter in read_parameters(factory)}
        entrance = "in_channels" if "in_channels" in accepted else "channels"
        missing = {entrance, "out_channels"} - accepted
        if missing or getattr(factory, "needs_operator", False) or getattr(factory, "conditioned", False):
            lack = (
                f"{name!r} has no {' and '.join(sorted(missing))}"
                if missing
                else f"{name!r} needs more than that"
            )
            raise ValueError(
                f"the deep image prior takes a network of `{entrance}` of noise to `out_channels` of the image, but "
                f"{lack}: take one of skip, dip_unet, dip_resnet, deep_decoder or conv_decoder, or "
                "recon.Generator(network, fixed_input) with a network of yours"
            )
        given = {
            entrance: depth, "out_channels": channels, "axes": len(space), "output": self.output, "shape": space
        }  # fmt: skip
        given = {key: value for key, value in given.items() if key in accepted}
        made: nn.Module = registry.make("network", name, **settings, **given)
        return made

    def extra_repr(self) -> str:
        """What was asked for."""
        asked = {"preset": self.preset, "network": self.named, **self.changes, "input": self.input}
        asked |= {"depth": self.depth, "scale": self.scale}
        asked |= {"learn_input": self.learn_input or None, "output": self.output, "axes": self.axes}
        return ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)


class _WithInput(nn.Module):
    """A network whose input is a weight: what comes in, the noise of an iteration, is added to it."""

    def __init__(self, network: nn.Module, first: Tensor) -> None:
        super().__init__()
        self.network, self.input = network, nn.Parameter(first)
        self.channels_last = bool(getattr(network, "channels_last", False))

    def forward(self, noise: Tensor) -> Tensor:
        made: Tensor = self.network(self.input + noise)
        return made


def _advice(preset: Preset) -> dict[str, float]:
    return {"lr": preset.lr, "reg_noise": preset.reg_noise, "iterations": preset.iterations}


def _changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A `skip` network's filters with another number of scales or other widths."""
    down = settings["down"]
    filters = changes.get("filters", down)
    scales = changes.get("scales", len(down) if isinstance(filters, int) else len(filters))
    if isinstance(filters, int):
        filters = (filters,) * scales
    elif "filters" in changes and len(filters) != scales:
        raise ValueError(f"filters must be one number, or one for each of {scales} scales, got {filters}")
    made = {"down": _lengthened(filters, scales)}
    for name in ("skip", "upsample", "downsample"):
        value = changes.get(name, settings.get(name))
        if isinstance(value, tuple) and name not in changes:
            value = _lengthened(value, scales)
        if value is not None:
            made[name] = value
    return made


def _lengthened(values: tuple[Any, ...], scales: int) -> tuple[Any, ...]:
    return (values + values[-1:] * scales)[:scales]


def _fixed_input(kind: Input, depth: int, size: Sequence[int], scale: float) -> Tensor:
    """``(1, depth, *size)``."""
    if kind == "meshgrid":
        lines = [torch.linspace(0, 1, side) for side in size]
        return torch.stack(torch.meshgrid(*lines, indexing="ij"))[None].flip(1)
    if kind not in ("uniform", "normal"):
        raise ValueError(f"input must be 'uniform', 'normal' or 'meshgrid', got {kind!r}")
    draw = torch.rand if kind == "uniform" else torch.randn
    return draw(1, depth, *size) * scale
