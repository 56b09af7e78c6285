"""A data term that compares what a network sees: an image is made from the features of another."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from recon.fidelity import Gaussian
from recon.linear import Step


class FeatureDistance(Gaussian):
    """The distance of features: f(z; y) = |y|^2/2 |Phi(z) - Phi(y)|^2 / |Phi(y) - Phi(0)|^2, for feature inversion.

    Of y nothing but Phi(y) is known, and an image is sought that has the same features (Mahendran and Vedaldi 2015;
    with the deep image prior Ulyanov, Vedaldi and Lempitsky 2018). Phi is any network that can be
    differentiated, `recon.training.VGG19` among them, of images in the range that it was made for. Scaled so that a
    blank image costs as much as in least squares: weights of priors and learning rates mean what they mean there.

    f is neither convex nor has a proximal map: fit it with solver="dip". What noise leaves of its residual is
    not known: rules and weights that compare the two refuse it. It is an object, not a name, and is not stored in
    problem files.

    Args:
        features: Phi. Its method ``seen``, or its ``forward`` where it has none, gets what A makes of B images,
            ``(B, *range_shape)``, complex values by their magnitude, in the precision of its weights. It returns
            features of any shape whose first axis is B, ``(B, ...)``, or a multiple of B, ``(B planes, ...)``, those
            of the planes of an item side by side. The term keeps a copy of the network as it is now, in evaluation
            mode, whose weights are not trained; the caller's own is left alone.

    Raises:
        TypeError: not a `torch.nn.Module`.
    """

    name = "features"
    quadratic = False
    smooth = False
    proximal = False
    noise_residual = False

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        if not isinstance(features, nn.Module):
            raise TypeError(f"the features are those of a torch.nn.Module, got {type(features).__name__}")
        # running statistics and dropout would make an item depend on its mates and on chance
        self.features = copy.deepcopy(features)
        self.features.eval()
        self.features.requires_grad_(False)
        self.wanted: Tensor | None = None
        self.factor: Tensor | None = None

    def parameters(self) -> dict[str, Any]:
        """What makes this term again."""
        return {"features": self.features}

    def for_items(self, y: Tensor, batch_shape: Sequence[int]) -> Self:
        """The same term with the features of the data ``y`` (B, *range_shape), ``(B, F)``, the network on its device.

        Raises:
            ValueError: an item whose features are those of a blank image: there is nothing to find; or features that
                cannot be told apart by items.
        """
        part = self._copy()
        part.features = _on(self.features, y.device)
        with torch.no_grad():
            part.wanted = part._seen(y)
            blank = (part._seen(torch.zeros_like(y)) - part.wanted).square().sum(1)
        if not bool((blank > 0).all()):
            raise ValueError(
                "the features of the data are those of a blank image: there is nothing to invert"
            )
        part.factor = y.abs().square().flatten(1).sum(1).to(blank) / blank
        return part

    def with_noise_level(self, noise_level: float) -> Gaussian:
        """Refused: it compares features, whose noise is not that of the data.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"fidelity {self.name!r} compares features, to which no noise level of the data belongs: leave it out"
        )

    def select(self, items: Tensor) -> Self:
        """The term for some items ``(I,)`` of a batch laid out by `for_items`: numbers of items, or a mask ``(B,)``."""
        assert self.wanted is not None and self.factor is not None
        part = self._copy()
        part.wanted, part.factor = self.wanted[items], self.factor[items]
        return part

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """f of each item, ``(B,)``; ``z`` and ``y`` are ``(B, *range_shape)``, the features of ``y`` already known."""
        assert self.wanted is not None and self.factor is not None
        return 0.5 * self.factor * (self._seen(z) - self.wanted).square().sum(1)

    def residual(self, z: Tensor, y: Tensor) -> Tensor:
        """sqrt(2 f) of each item, ``(B,)``: the distance of the features; of a blank image |y|."""
        return (2 * self.value(z, y)).sqrt()

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Gradient in z, through the network: ``(B, *range_shape)``, as ``z``."""
        with torch.enable_grad():
            image = z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.value(image, y).sum(), image)
        return gradient

    def prox(self, z: Tensor, y: Tensor, step: Step) -> Tensor:
        """Refused: there is none in closed form.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "fidelity 'features' has no proximal map: use solver='dip' with a generator such as the prior 'dip'"
        )

    def _seen(self, images: Tensor) -> Tensor:
        """The features ``(B, F)`` of images ``(B, *range_shape)``, in the network's precision."""
        weight = next(iter(self.features.parameters()), None)
        plain = images.abs() if images.is_complex() else images
        plain = plain if weight is None else plain.to(weight.dtype)
        found: Tensor = getattr(self.features, "seen", self.features)(plain)
        if not found.ndim or not len(found) or len(found) % len(images):
            raise ValueError(
                f"{type(self.features).__name__} makes features of shape {tuple(found.shape)} of {len(images)} images: "
                "their first axis must be that of the images, or a multiple of it"
            )
        return found.reshape(len(images), -1)

    def _copy(self) -> Self:
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        return part

    def __repr__(self) -> str:
        return f"FeatureDistance({type(self.features).__name__}({self.features.extra_repr()}))"


def _on(features: nn.Module, device: torch.device) -> nn.Module:
    """The network on a device: itself where it lies there, else a copy, as other problems may use it."""
    tensors = (*features.parameters(), *features.buffers())
    return features if all(t.device == device for t in tensors) else copy.deepcopy(features).to(device)
