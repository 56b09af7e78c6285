"""A trained network as a prior: a denoiser inside an algorithm, or the whole reconstruction in one step."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from recon.channels import ImageChannels, channels_of, is_conditioned, needs_operator
from recon.checkpoint import feed
from recon.linear import Field, LinearOperator
from recon.priors import Denoiser, Weight
from recon.view_splits import ViewSplits


class ModelError(ValueError):
    """A model does not fit: its files are damaged, or it was trained for something else."""


class LearnedPrior(Denoiser):
    """A trained network with what it was trained for.

    As a `Denoiser` it works in every algorithm that takes one: a network that is conditioned on the noise level
    is told sigma, others ignore it. `solver="feedforward"` applies it once, to ``op.pinv(y)``; a network that was
    trained by Noise2Inverse to the splits of its training, whose images are averaged.

    Args:
        network: from ``(N, channels, *spatial)``; an unrolled one from operator and data.
        value_range: the range of the values that the network works on.
        image_range: the range of the images that it was trained on, in `unit`: what solvers assume where the user
            says no other. None: there is none.
        unit: of those images, such as "1/mm"; "" for none.
        complex_as: how it meets complex images: ``"channels"``, ``"magnitude"``, ``"separate"`` or ``"auto"``.
        sigma_range: noise levels that it was trained for, in units of `value_range`; others are moved to the
            nearest.
        end_to_end: trained to map the direct reconstruction to the image, rather than to remove white noise.
        operator: digest and description of the operator that it was trained with, or None for any.
        weight: of the prior; ``"auto"`` for denoisers.
        card: what the model card says.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        image_range: tuple[float, float] | None = None,
        unit: str = "",
        complex_as: str = "auto",
        sigma_range: tuple[float, float] | None = None,
        end_to_end: bool = False,
        operator: dict[str, Any] | None = None,
        weight: Weight | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__((1.0 if end_to_end else "auto") if weight is None else weight)
        self.network = network.eval().requires_grad_(False)
        self.channels: ImageChannels = channels_of(network, complex_as)
        self.domain: Field = "complex" if self.channels.channels == 2 and complex_as != "magnitude" else "any"
        self.value_range = value_range
        self.image_range = image_range
        self.unit, self.sigma_range, self.end_to_end = unit, sigma_range, end_to_end
        self.conditioned = is_conditioned(network) and not end_to_end
        self.operator = operator
        self.card: dict[str, Any] = {} if card is None else card

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The network's image of ``x`` (B, *shape), values in `value_range`; ``sigma`` a number or ``(B,)``.

        Raises:
            ModelError: an unrolled network, which needs operator and data.
        """
        if needs_operator(self.network):
            raise ModelError(
                f"{type(self.network).__name__} is unrolled: it needs the operator and the data, so it is no denoiser "
                "inside another algorithm; use solver='feedforward'"
            )
        if not is_conditioned(self.network):
            return self.channels.apply(self.network, x)
        levels = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
        if self.sigma_range is not None:
            levels = levels.clamp(*self.sigma_range)
        return self.channels.apply(self.network, x, levels)

    def reconstruct(self, op: LinearOperator, data: Tensor) -> Tensor:
        """The image of a network that `sees_data`, from data ``(B, *range_shape)`` mapped to `value_range`.

        Raises:
            ValueError: the data of another operator cannot be split by views.
        """
        weight = next(iter(self.network.parameters()), None)
        if weight is not None and not data.is_complex():
            data = data.to(weight.dtype)
        if self.view_splits is not None:

            def image_of(images: Tensor) -> Tensor:
                return self.channels.apply(self.network, images)

            return self.view_splits.apply(image_of, op, data, **self.pinv_options)
        if needs_operator(self.network):
            image: Tensor = self.network(op, data)
        else:
            image = self.channels.apply(self.network, op.pinv(data, **self.pinv_options))
        return consistent_with(op, data, image, **self.pinv_options) if self.is_corrected else image

    @property
    def sees_data(self) -> bool:
        """Whether it reconstructs from the data themselves.

        It is unrolled, was trained on splits of the data, or was trained to be corrected by them (SSDU).
        """
        return needs_operator(self.network) or self.is_corrected or self.view_splits is not None

    @property
    def is_corrected(self) -> bool:
        """Whether its image is corrected by what the data say, `consistent_with`, as it was in its training."""
        trained = self.card.get("objective") or {}
        return self.end_to_end and bool(trained.get("corrected"))

    @property
    def view_splits(self) -> ViewSplits | None:
        """How data are split for a network that was trained by Noise2Inverse, else None."""
        objective = self.card.get("objective") or {}
        if not self.end_to_end or objective.get("name") != "noise2inverse":
            return None
        return ViewSplits(int(objective["splits"]), objective["strategy"])

    @property
    def pinv_options(self) -> dict[str, Any]:
        """Options of ``op.pinv`` by which its inputs were made, if it was trained on direct reconstructions."""
        return dict(self.card.get("data", {}).get("pinv") or {}) if self.end_to_end else {}

    def at(self, loop: int) -> LearnedPrior:
        """The prior of an outer loop of a splitting: of a network with weights for each loop, those; else itself."""
        stage = getattr(self.network, "at", None)
        if stage is None:
            return self
        prior = copy.copy(self)
        prior._modules = {**self._modules, "network": stage(loop)}
        return prior

    def check_operator(self, op: LinearOperator) -> None:
        """Refuse another operator than that which it was trained with.

        Raises:
            ModelError: it is another.
        """
        if self.operator is None:
            return
        if self.operator["digest"] != operator_digest(op):
            from recon.provenance import describe

            raise ModelError(
                f"this network was trained with {_told_apart(self.operator['description'], describe('operator', op))}: "
                "train one for it, use it as a denoiser (solver='admm'), or say any_operator=True when you load it"
            )

    def __repr__(self) -> str:
        name = self.card.get("architecture", {}).get("name", type(self.network).__name__)
        role = "end to end" if self.end_to_end else "denoiser"
        trained = f", images in {self.image_range} {self.unit}".rstrip() if self.image_range else ""
        return f"LearnedPrior({name}, {role}, weight={self.weight}{trained})"


def consistent_with(op: LinearOperator, data: Tensor, image: Tensor, **pinv: Any) -> Tensor:
    """The image corrected by what the data say, x + A^+ (y - A x).

    In MRI with one coil, the measured places of k-space take their places again (Hyun et al. 2018, Phys. Med. Biol. 63,
    135007).
    """
    return image + op.pinv(data - op(image), **pinv)


def operator_digest(op: LinearOperator) -> str:
    """A digest of what an operator is: its registered name and arguments, else its buffers and settings."""
    from recon.provenance import identify

    digest = hashlib.sha256()
    known = identify("operator", op)
    if known is None:
        feed(digest, op)
    else:
        name, _, arguments = known
        feed(digest, name)
        feed(digest, arguments)
    feed(digest, [*op.domain_shape, -1, *op.range_shape])
    return digest.hexdigest()


def _told_apart(trained: Any, given: dict[str, Any]) -> str:
    """What differs between two descriptions of operators: ``"ct_parallel of angles=60, here angles=30"``."""
    if not isinstance(trained, dict):
        return f"{trained}, here {given['name']}"
    name = trained.get("name", "an operator")
    if name != given["name"]:
        return f"{name}, here {given['name']}"
    before, now = ({**about.get("arguments", {})} for about in (trained, given))
    names = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if names:
        sides = (", ".join(f"{key}={side.get(key)}" for key in names) for side in (before, now))
        return f"{name} of {', here '.join(sides)}"
    arrays = [
        key for key, value in now.items() if str(value).endswith(" values") or str(value).startswith("array")
    ]
    return f"{name} of the same size, but with another {' or '.join(arrays) or 'content'}"
