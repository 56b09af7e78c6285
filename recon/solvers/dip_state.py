"""What a fit of a generator carries from one iteration to the next."""

from __future__ import annotations

import dataclasses

from torch import Tensor


@dataclasses.dataclass
class DIPState:
    """Weights of every item's network, the moments of Adam, and the images.

    Attributes:
        theta: weights that the next step looks at ``(B, P)``.
        mean, square: Adam's moments of the gradient ``(B, P)``.
        steps: Adam's steps since the moments were zero ``(B,)``.
        iteration: iterations done ``(B,)``; it counts the random numbers too.
        rate: what the learning rate is multiplied by ``(B,)``: halved where the fit broke down, at most 1.
        kept: weights to go back to ``(B, P)``; kept_loss: the loss there ``(B,)``.
        low, high: range that the network's values are mapped to ``(B,)``.
        loss: objective relative to that of a blank image ``(B,)``.
        iterate: image of the latest pass ``(B, *shape)``.
        average: weighted average of the iterates ``(B, *shape)``.
        best: iterate of the lowest loss ``(B, *shape)``; lowest: that loss ``(B,)``.
        errors: of samples kept back, their squared error relative to their data ``(B,)``; none where none are.
        inputs: the fixed input of each item, where they differ; else none.
        curvature: for L-BFGS the latest differences of weights and of gradients ``(B, memory, P)``, and the gradient
            and weights before; else none.
    """

    theta: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    iteration: Tensor
    rate: Tensor
    kept: Tensor
    kept_loss: Tensor
    low: Tensor
    high: Tensor
    loss: Tensor
    iterate: Tensor
    average: Tensor
    best: Tensor
    lowest: Tensor
    errors: list[Tensor]
    inputs: list[Tensor]
    curvature: list[Tensor]
