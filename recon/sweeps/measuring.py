"""The measurement that a sweep is about: an image, what is taken of it, and how it is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recon.sweeps.naming import Spec, read_spec

if TYPE_CHECKING:
    from recon.loading import Loaded
    from recon.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """How a problem is made of an image.

    Attributes:
        image: a file that `recon.load` reads, or the name of a sample.
        operator: of the measurement; ``mask`` unless given where there is a mask, else ``identity``.
        noise: its noise, or none.
        window: values (low, high) of the image that become 0 and 1; what lies outside is clipped.
        crop: (top, left, height, width) of the part that is used [pixels].
        reduce: side of the blocks of pixels that are averaged to one, after cropping.
        mask: for inpainting, the share of pixels that are measured, drawn from the seed; or a picture of the size of
            the image, bright where measured.
        threshold: above which a pixel of the mask's picture is measured, relative to its largest value: a picture
            that was stored with losses holds greys.
        seed: of the noise and of the mask.
    """

    image: str
    operator: Spec | None = None
    noise: Spec | None = None
    window: tuple[float, float] | None = None
    crop: tuple[int, int, int, int] | None = None
    reduce: int = 1
    mask: float | str | None = None
    threshold: float = 0.5
    seed: int = 0

    @staticmethod
    def of(table: Mapping[str, Any], folder: Path) -> Measurement:
        """Of the table ``[problem]`` of a file in this folder, to which paths are relative.

        Raises:
            ValueError: a value that does not fit.
        """
        given = dict(table)
        for name in ("operator", "noise"):
            if given.get(name) is not None:
                given[name] = read_spec(given[name])
        for name, count, kind in (("window", 2, (int, float)), ("crop", 4, (int,))):
            if given.get(name) is not None:
                given[name] = _numbers(name, given[name], count, kind)
        for name in ("image", "mask"):
            if isinstance(given.get(name), str) and (folder / given[name]).is_file():
                given[name] = str((folder / given[name]).absolute())
        made = Measurement(**given)
        made._check()
        return made

    def _check(self) -> None:
        if not isinstance(self.image, str):
            raise ValueError(f"problem.image is a file or the name of a sample, got {self.image!r}")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"problem.window is (low, high) with low < high, got {self.window}")
        if not (isinstance(self.reduce, int) and self.reduce >= 1):
            raise ValueError(f"problem.reduce is a number of pixels >= 1, got {self.reduce!r}")
        if not (isinstance(self.threshold, int | float) and 0 < self.threshold < 1):
            raise ValueError(f"problem.threshold is between 0 and 1, got {self.threshold!r}")
        if isinstance(self.mask, int | float) and not 0 < self.mask < 1:
            raise ValueError(f"problem.mask as a share is between 0 and 1, got {self.mask!r}")
        if not (isinstance(self.seed, int) and self.seed >= 0):
            raise ValueError(f"problem.seed is an integer >= 0, got {self.seed!r}")
        if self.mask is not None and self.operator is not None and self.operator[0] != "mask":
            raise ValueError(
                f"problem.mask is for the operator mask, not for {self.operator[0]}: leave one of them out"
            )

    @property
    def operator_spec(self) -> Spec:
        """The operator, without its mask."""
        return self.operator or ("identity" if self.mask is None else "mask", {})

    def problem(self) -> Problem:
        """The problem, its reference the image that was measured.

        Raises:
            OSError, ValueError, LookupError: no such image, or one that does not fit.
        """
        from recon.commands.images import load_file
        from recon.commands.simulate import simulated

        loaded = self._taken(load_file(self.image, None))
        name, arguments = self.operator_spec
        if self.mask is not None:
            arguments = {**arguments, "mask": self._mask(loaded.data)}
        problem = simulated(loaded, (name, arguments), noise=self.noise, seed=self.seed)
        if self.window is not None:
            problem.image_range = (0.0, 1.0)
        problem.notes["source"] = Path(self.image).name
        return problem

    def _taken(self, loaded: Loaded) -> Loaded:
        """The part of the image, in its window, its pixels averaged; padding becomes air, or what is darkest."""
        from recon.commands.images import AIR

        data, unit, size = loaded.data, loaded.unit, loaded.pixel_size
        if loaded.valid is not None:
            data = data.where(loaded.valid, AIR if unit == "HU" else float(data[loaded.valid].min()))
        if data.ndim == 3 and len(data) == 3:  # colours
            data = data.mean(0)
        if data.ndim != 2:
            raise ValueError(
                f"a sweep takes one image (rows, columns), {self.image} has the shape {tuple(data.shape)}"
            )
        data = self._cropped(data)
        if self.window is not None:
            low, high = self.window
            data, unit = ((data - low) / (high - low)).clamp(0, 1), ""
        if self.reduce > 1:
            if any(side % self.reduce for side in data.shape):
                raise ValueError(
                    f"problem.reduce={self.reduce} does not divide {data.shape[0]} x {data.shape[1]} pixels: crop "
                    "the image to a multiple"
                )
            data = torch.nn.functional.avg_pool2d(data[None], self.reduce)[0]
            size = None if size is None else tuple(self.reduce * side for side in size)
        return dataclasses.replace(
            loaded,
            data=data.contiguous(),
            unit=unit,
            pixel_size=size,
            valid=None,
            affine=None,
            geometry={},
        )

    def _cropped(self, data: Tensor) -> Tensor:
        if self.crop is None:
            return data
        top, left, height, width = self.crop
        inside = min(top, left) >= 0 and top + height <= data.shape[0] and left + width <= data.shape[1]
        if not inside or min(height, width) < 1:
            raise ValueError(
                f"problem.crop {list(self.crop)} (top, left, height, width) leaves the image of "
                f"{data.shape[0]} x {data.shape[1]} pixels"
            )
        return data[top : top + height, left : left + width]

    def _mask(self, image: Tensor) -> Tensor:
        """1 where a pixel is measured."""
        if isinstance(self.mask, str):
            from recon.commands.images import load_file

            picture = load_file(self.mask, None).data
            picture = picture.mean(0) if picture.ndim == 3 else picture
            if picture.shape != image.shape:
                raise ValueError(
                    f"the mask {self.mask} has {picture.shape[0]} x {picture.shape[1]} pixels, the image "
                    f"{image.shape[0]} x {image.shape[1]}"
                )
            return (picture > self.threshold * picture.max()).float()
        chance = torch.rand(image.shape, generator=torch.Generator().manual_seed(self.seed))
        return (chance < float(self.mask or 0)).float()


def _numbers(name: str, values: Any, count: int, kind: tuple[type, ...]) -> tuple[Any, ...]:
    fine = isinstance(values, list | tuple) and len(values) == count
    if not fine or not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        what = "integers" if kind == (int,) else "numbers"
        raise ValueError(f"problem.{name} is a list of {count} {what}, got {values!r}")
    return tuple(values)
