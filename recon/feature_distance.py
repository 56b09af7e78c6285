"""A data term that compares what a network sees: an image is made from the features of another."""

from __future__ import annotations

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

    f is neither convex nor has a proximal map: fit it with solver="dip". It is an object, not a name, and is not
    stored in problem files.

    Args:
        features: Phi, from images ``(B, *shape)`` to any features ``(B, ...)`` or those of planes side by side; its
            method ``seen``, where it has one.
    """

    name = "features"
    quadratic = False
    smooth = False
    proximal = False

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        if not isinstance(features, nn.Module):
            raise TypeError(f"the features are those of a torch.nn.Module, got {type(features).__name__}")
        self.features = features
        self.wanted: Tensor | None = None
        self.factor: Tensor | None = None

    def parameters(self) -> dict[str, Any]:
        """What makes this term again."""
        return {"features": self.features}

    def for_items(self, y: Tensor, batch_shape: Sequence[int]) -> Self:
        """The same term with the features of the data.

        Raises:
            ValueError: an item whose features are those of a blank image: there is nothing to find.
        """
        part = self._copy()
        part.features = self.features.to(y.device)
        with torch.no_grad():
            part.wanted = part._seen(y)
            blank = (part._seen(torch.zeros_like(y)) - part.wanted).square().sum(1)
        if not bool((blank > 0).all()):
            raise ValueError(
                "the features of the data are those of a blank image: there is nothing to invert"
            )
        part.factor = y.abs().square().flatten(1).sum(1).to(blank) / blank
        return part

    def select(self, items: Tensor) -> Self:
        """The term for some items of a batch laid out by `for_items`."""
        assert self.wanted is not None and self.factor is not None
        part = self._copy()
        part.wanted, part.factor = self.wanted[items], self.factor[items]
        return part

    def value(self, z: Tensor, y: Tensor) -> Tensor:
        """f of each item, ``(B,)``."""
        assert self.wanted is not None and self.factor is not None
        return 0.5 * self.factor * (self._seen(z) - self.wanted).square().sum(1)

    def gradient(self, z: Tensor, y: Tensor) -> Tensor:
        """Gradient in z, through the network."""
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
        """The features ``(B, F)``, in the network's precision."""
        weight = next(iter(self.features.parameters()), None)
        plain = images.abs() if images.is_complex() else images
        plain = plain if weight is None else plain.to(weight.dtype)
        found: Tensor = getattr(self.features, "seen", self.features)(plain)
        return found.reshape(len(images), -1)

    def _copy(self) -> Self:
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        return part

    def __repr__(self) -> str:
        return f"FeatureDistance({type(self.features).__name__}({self.features.extra_repr()}))"
