"""The perceptual loss: distance of the features that VGG-19 sees in two images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from recon.training.losses import Loss

# features of the 16 convolutions (Simonyan and Zisserman 2015, configuration E); 0 is a 2x2 max pooling
CONFIGURATION = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FIRST, LAST = 0, 35  # of torchvision's `features`; 34 is conv5_4 before its ReLU, 35 after it


class VGG19(Loss):
    """mean |VGG(image) - VGG(target)|^2 over the features of one layer, of images in [0, 1].

    Yang et al. 2018 (IEEE TMI 37, 1348): layer 34 is the output of the 16th convolution, 35 that after its ReLU, as
    numbered in torchvision's ``vgg19().features``. Grey images stand on all three channels; the values are
    normalised with ImageNet's mean and standard deviation, as torchvision's weights expect. Complex images enter by
    their magnitude. The weights are never trained.

    Args:
        weights: a local file with torchvision's weights of VGG-19 (``vgg19-dcbb9e9d.pth``, or the same as
            safetensors), or ``"random"``: frozen random weights, whose features are no perception but penalise
            differences of texture too.
        layer: number of the layer in torchvision's ``features``.
        distance: ``"mse"``, or ``"l1"`` for the mean absolute difference.
        seed: of random weights.

    Raises:
        ValueError: no weights, or a file that does not hold them.
        FileNotFoundError: no such file.
    """

    def __init__(
        self,
        weights: str | Path | None,
        layer: int = 34,
        distance: Literal["mse", "l1"] = "mse",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if weights is None:
            raise ValueError(
                "the VGG loss needs the weights of VGG-19, which do not come with this package: give a local file in "
                "torchvision's layout, VGG19('vgg19-dcbb9e9d.pth') or 'vgg:weights=vgg19-dcbb9e9d.pth', or say "
                "VGG19('random') or 'vgg-random' for frozen random weights"
            )
        if not FIRST <= layer <= LAST:
            raise ValueError(f"layer is a number of torchvision's features, {FIRST} to {LAST}, got {layer}")
        if distance not in ("mse", "l1"):
            raise ValueError(f"distance must be 'mse' or 'l1', got {distance!r}")
        self.random = weights == "random"
        self.distance = distance
        features = _features()
        if self.random:
            _randomise(features, seed)
        else:
            _load(features, Path(weights))
        self.features = nn.Sequential(*list(features)[: layer + 1]).requires_grad_(False).eval()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)

    def seen(self, images: Tensor) -> Tensor:
        """The features of images ``(B, *shape)``, ``(N, features, rows, columns)``.

        Raises:
            ValueError: images smaller than 16 pixels, of which nothing is left after four poolings.
        """
        if images.is_complex():
            images = images.abs()
        if min(images.shape[-2:]) < 16:
            raise ValueError(f"VGG-19 needs images of 16 pixels or more, got {tuple(images.shape[-2:])}")
        colour = images.ndim == 4 and images.shape[1] == 3
        planes = images if colour else images.reshape(-1, 1, *images.shape[-2:]).expand(-1, 3, -1, -1)
        features: Tensor = self.features((planes - self.mean.to(planes)) / self.std.to(planes))
        return features

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """The distance of the features."""
        seen, wanted = self.seen(image), self.seen(target)
        return (
            functional.mse_loss(seen, wanted) if self.distance == "mse" else functional.l1_loss(seen, wanted)
        )

    def train(self, mode: bool = True) -> VGG19:
        """Always in evaluation."""
        return super().train(False)

    def extra_repr(self) -> str:
        """What is compared, and with which weights."""
        kind = "frozen random weights" if self.random else "weights of a file"
        return f"layer {len(self.features) - 1}, {self.distance}, {kind}"

    def __repr__(self) -> str:
        return f"VGG19({self.extra_repr()})"


def _features() -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for width in CONFIGURATION:
        if width:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _randomise(features: nn.Sequential, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _load(features: nn.Sequential, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path} with the weights of VGG-19; it is not downloaded for you: get torchvision's "
            "vgg19-dcbb9e9d.pth, or say VGG19('random') or 'vgg-random' for frozen random weights"
        )
    try:
        stored = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise ValueError(f"{path} is not a readable file of weights: {str(error).splitlines()[0]}") from None
    wanted = features.state_dict()
    found = {name.removeprefix("features."): value for name, value in dict(stored).items()}
    for name, tensor in wanted.items():
        if name not in found or not isinstance(found[name], Tensor) or found[name].shape != tensor.shape:
            raise ValueError(
                f"{path} does not hold torchvision's VGG-19: features.{name} {tuple(tensor.shape)} is missing or of "
                "another shape"
            )
    features.load_state_dict({name: found[name] for name in wanted})
