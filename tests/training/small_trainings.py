"""Tiny networks and images to train with."""

from __future__ import annotations

import torch
from torch import nn


class SmallNet(nn.Module):
    """Two convolutions with batch norm and dropout between them: what a resumed run can get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Conv2d(4, 1, 3, padding=1),
        )

    def forward(self, x):
        return x + self.layers(x)


def squares(count: int, side: int = 16, seed: int = 0) -> torch.Tensor:
    """Images of a bright rectangle on black: something that can be learned."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, side, side)
    for image in images:
        top, left = torch.randint(0, side // 2, (2,), generator=generator).tolist()
        height, width = torch.randint(3, side // 2, (2,), generator=generator).tolist()
        image[top : top + height, left : left + width] = 0.5 + 0.5 * float(
            torch.rand((), generator=generator)
        )
    return images
