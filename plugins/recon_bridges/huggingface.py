"""Image-to-image networks of the `transformers` library as plug-and-play priors."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torch import Tensor, nn

from recon_bridges.libraries import library
from recon_bridges.modules import Channels, ComplexAs, ModuleDenoiser, denoiser


class ImageToImage(nn.Module):
    """A model of `transformers` as a map of tensors: its ``reconstruction``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Clean images ``(N, channels, height, width)``."""
        clean: Tensor = self.model(pixel_values=x).reconstruction
        return clean


def from_huggingface(
    model: str | PathLike[str] | nn.Module,
    value_range: tuple[float, float] | None = (0.0, 1.0),
    *,
    channels: Channels | None = None,
    complex_as: ComplexAs | None = None,
    download: bool = False,
) -> ModuleDenoiser:
    """An image-to-image model of `transformers` (Swin2SR with ``upscale=1``) as a plug-and-play prior.

    It takes no noise level: a remover of artefacts. Sides are padded to the windows of its attention.

    Args:
        model: folder with ``config.json`` and ``model.safetensors``, as `save_pretrained` writes it; a loaded
            model; or, with ``download=True``, a name on the Hugging Face hub.
        value_range: the image values it was made for; the library's image processors give [0, 1].
        channels: as in `denoiser`; None: ``"add"`` for a model of one channel, ``"first"`` for colours.
        complex_as: as in `denoiser`.
        download: fetch the model by its name; nothing is fetched otherwise.

    Raises:
        FileNotFoundError: no such folder, and no download asked for.
        TypeError: a model that does not give a ``reconstruction``.
        ValueError: a model that changes the size of images.
    """
    loaded = model if isinstance(model, nn.Module) else _loaded(model, download)
    config = getattr(loaded, "config", None)
    if config is None or "pixel_values" not in _arguments(loaded):
        raise TypeError(
            f"{type(loaded).__name__} is no image-to-image model of transformers: use recon_bridges.denoiser"
        )
    upscale = getattr(config, "upscale", 1)
    if upscale != 1:
        raise ValueError(
            f"the model enlarges images {upscale} times: a prior keeps their size, take one with upscale=1"
        )
    if channels is None:
        channels = "add" if getattr(config, "num_channels", 3) == 1 else "first"
    return denoiser(
        ImageToImage(loaded),
        value_range,
        sigma="none",
        channels=channels,
        complex_as=complex_as,
        multiple_of=getattr(config, "window_size", 1),
    )


def _loaded(source: str | PathLike[str], download: bool) -> nn.Module:
    if not download and not Path(source).is_dir():
        raise FileNotFoundError(
            f"no folder {str(source)!r}; to fetch a model of that name from the Hugging Face hub pass "
            "download=True"
        )
    loaded: nn.Module = library("transformers").AutoModelForImageToImage.from_pretrained(
        str(source), local_files_only=not download, use_safetensors=True
    )
    return loaded


def _arguments(module: nn.Module) -> list[str]:
    import inspect

    return list(inspect.signature(module.forward).parameters)
