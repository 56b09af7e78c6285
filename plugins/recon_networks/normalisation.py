"""Normalisation layers by name, and the start values of networks trained against each other."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["batch", "instance", "none"]


def normalisation(norm: Norm, width: int) -> nn.Module:
    """The layer for images of `width` channels; instance norm is fastMRI's and CycleGAN's, without weights."""
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "instance":
        return nn.InstanceNorm2d(width)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"norm must be 'batch', 'instance' or 'none', got {norm!r}")


def start_normal(network: nn.Module, std: float = 0.02) -> None:
    """Convolutions from N(0, std), scales of batch norm from N(1, std), offsets zero (Radford et al. 2016)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
