"""One operator on every channel of an image: colours, contrasts, energies, echoes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from recon.algebra import Combination
from recon.linear import Identity, LinearOperator, Step


class Channelwise(Combination):
    """A applied to every channel: images ``(channels, *shape)`` to data ``(channels, *A.range_shape)``.

    For priors that look at all channels at once, such as vectorial total variation. Closed forms and
    preconditioners are those of A, channel by channel, where every prior's linear map is channelwise too.

    Args:
        operator: A.
        channels: how many there are.
        axis: the place of the channel axis in the image, -1 for ``(*shape, channels)``. In the data it is first.

    Raises:
        ValueError: no channels, or an axis that the image has not.
    """

    def __init__(self, operator: LinearOperator, channels: int, axis: int = 0) -> None:
        if not isinstance(operator, LinearOperator):
            raise TypeError(f"operator must be a recon.LinearOperator, got {type(operator).__name__}")
        if int(channels) != channels or channels < 1:
            raise ValueError(f"channels must be a whole number >= 1, got {channels!r}")
        axes = len(operator.domain_shape) + 1
        if not -axes <= axis < axes:
            raise ValueError(f"axis must lie in [{-axes}, {axes}) for images of {axes} axes, got {axis}")
        place = axis % axes
        shape = list(operator.domain_shape)
        shape.insert(place, int(channels))
        super().__init__(shape, (int(channels), *operator.range_shape))
        self.operator, self.channels, self.axis = operator, int(channels), place
        self.domain, self.nonnegative = operator.domain, operator.nonnegative

    def _channels_first(self, image: Tensor) -> Tensor:
        batch = image.ndim - len(self.domain_shape)
        return image.movedim(batch + self.axis, batch)

    def _in_place(self, image: Tensor) -> Tensor:
        batch = image.ndim - len(self.domain_shape)
        return image.movedim(batch, batch + self.axis)

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator(self._channels_first(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._in_place(self.operator.adjoint(y))

    def _gram(self, x: Tensor) -> Tensor:
        return self._in_place(self.operator._run_gram(self._channels_first(x)))

    def _norm(self) -> float:
        return self.operator.norm()

    def _pinv(self, y: Tensor, **options: Any) -> Tensor:
        return self._in_place(self.operator.pinv(y, **options))

    def fourier_symbol(self) -> Tensor | None:
        """That of A, whatever the frequency along the channels."""
        return self._repeated(self.operator.fourier_symbol())

    def approximate_symbol(self) -> Tensor | None:
        """That of A, whatever the frequency along the channels."""
        return self._repeated(self.operator.approximate_symbol())

    def _repeated(self, symbol: Tensor | None) -> Tensor | None:
        return None if symbol is None else symbol.unsqueeze(self.axis).expand(self.domain_shape)

    def solve_gram(self, b: Tensor, rho: Sequence[Step], terms: Sequence[LinearOperator]) -> Tensor | None:
        """That of A with every channel as an item, where the terms are channelwise too."""
        inside = self._inside(terms)
        if inside is None:
            return None
        folded = self._channels_first(b)
        solved = self.operator.solve_gram(folded.flatten(0, 1), self._for_channels(rho), inside)
        return None if solved is None else self._in_place(solved.reshape(folded.shape))

    def preconditioner(
        self, rho: Sequence[Step], terms: Sequence[LinearOperator]
    ) -> Callable[[Tensor], Tensor] | None:
        """That of A with every channel as an item, where the terms are channelwise too."""
        inside = self._inside(terms)
        inverse = None if inside is None else self.operator.preconditioner(self._for_channels(rho), inside)
        if inverse is None:
            return None

        def apply(residual: Tensor) -> Tensor:
            folded = self._channels_first(residual)
            return self._in_place(inverse(folded.flatten(0, 1)).reshape(folded.shape))

        return apply

    def _inside(self, terms: Sequence[LinearOperator]) -> list[LinearOperator] | None:
        """What each term does to a channel; None if one looks at several."""
        found: list[LinearOperator] = []
        for term in terms:
            if isinstance(term, Identity):
                found.append(Identity(self.operator.domain_shape))
            elif isinstance(term, Channelwise) and term.axis == self.axis:
                found.append(term.operator)
            else:
                return None
        return found

    def _for_channels(self, rho: Sequence[Step]) -> list[Step]:
        """Weights of items, repeated for their channels."""
        axes = len(self.operator.domain_shape)
        laid_out: list[Step] = []
        for weight in rho:
            if isinstance(weight, Tensor):
                # one for all items stays one, but loses the axis of the channels
                times = self.channels if weight.numel() > 1 else 1
                weight = weight.reshape(-1).repeat_interleave(times).reshape(-1, *(1,) * axes)
            laid_out.append(weight)
        return laid_out

    @property
    def sample_mask(self) -> Tensor | None:
        """That of A."""
        return self.operator.sample_mask

    def noise_level(self, y: Tensor) -> Tensor:
        """Root mean square over the channels of what A estimates."""
        levels = self.operator.noise_level(y.flatten(0, 1))
        return levels.reshape(y.shape[:2]).square().mean(1).sqrt()

    def extra_repr(self) -> str:
        """Shapes and channels."""
        return f"{super().extra_repr()}, channels={self.channels}, axis={self.axis}"
