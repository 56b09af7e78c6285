"""A pool of images made before, from which a discriminator is shown a part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Until it is full, images pass and are kept; then each passes, or changes places with a kept one, evenly.

    Shrivastava et al. 2017 (CVPR), with CycleGAN's size of 50 and its odds.

    Args:
        size: images that it keeps; with 0 all images pass.
    """

    def __init__(self, size: int = 50) -> None:
        if size < 0:
            raise ValueError(f"an image pool keeps 0 images or more, got size={size}")
        self.size = size
        self.kept: list[Tensor] = []

    def exchange(self, images: Tensor, generators: list[torch.Generator]) -> Tensor:
        """What the discriminator sees for new images ``(B, ...)``, one generator of random numbers each."""
        if self.size == 0:
            return images
        shown = []
        for image, generator in zip(images.detach(), generators, strict=True):
            if len(self.kept) < self.size:
                self.kept.append(image.clone())
                shown.append(image)
            elif float(torch.rand((), generator=generator)) < 0.5:
                place = int(torch.randint(self.size, (), generator=generator))
                shown.append(self.kept[place].to(image))
                self.kept[place] = image.clone()
            else:
                shown.append(image)
        return torch.stack(shown)

    def state_dict(self) -> dict[str, Any]:
        """The kept images, ``(n, ...)``, or nothing."""
        return {"kept": torch.stack(self.kept)} if self.kept else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep the images of `state_dict`.

        Raises:
            ValueError: more images than the pool is large.
        """
        kept = list(state["kept"].unbind()) if "kept" in state else []
        if len(kept) > self.size:
            raise ValueError(
                f"the state holds {len(kept)} images, this pool keeps {self.size}: make it as large"
            )
        self.kept = kept
