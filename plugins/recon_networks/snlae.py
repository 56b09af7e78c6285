"""SNLAE: the stacked non-local autoencoder of deep-learning regularisation by splitting."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from recon.parameters import Param


class SNLAE(nn.Module):
    """Full layers on groups of similar patches: 512, 1024, 2048, 1024 and 512 hidden values.

    ``(B, in_channels, H, W)`` to the same shape. Liu, Kuang and Zhang 2018 (MICCAI), Table 1, state the six layers and
    that patches are non-local, nothing more. What they leave open is done so, after Wang and Tao 2016
    (arXiv:1609.05117), Buades, Coll and Morel 2005 (CVPR) and block matching:

    - patches of `patch` pixels lie `stride` apart and overlap, the last ones at the border;
    - each is matched by squared difference with those at most `search` pixels away; the group is the patch
      itself and the nearest `similar` - 1 in order of their distance (no gradient flows through the choice);
    - the group less the mean of its patch goes through the six layers, ReLU between them and nothing after the
      last, and comes back as one clean patch, to which the mean is added again;
    - patches are averaged where they overlap.

    Args:
        in_channels: channels of the image.
        widths: values of the hidden layers.
        patch: side of the patches [pixels].
        similar: patches in a group, the patch itself among them.
        search: how far away similar patches are looked for [pixels].
        stride: from one patch to the next [pixels].
    """

    def __init__(
        self,
        in_channels: Annotated[int, Param("channels of the image", ge=1)] = 1,
        widths: Annotated[tuple[int, ...], Param("values of the hidden layers", ge=1)] = (
            512, 1024, 2048, 1024, 512,
        ),
        patch: Annotated[int, Param("side of the patches", unit="pixels", ge=1)] = 8,
        similar: Annotated[int, Param("patches in a group, the patch itself among them", ge=1)] = 4,
        search: Annotated[
            int, Param("how far away similar patches are looked for", unit="pixels", ge=0)
        ] = 6,
        stride: Annotated[int, Param("from one patch to the next", unit="pixels", ge=1)] = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        if stride > patch:
            raise ValueError(f"stride={stride} leaves gaps between patches of {patch}: take at most {patch}")
        if similar > (2 * search + 1) ** 2:
            raise ValueError(
                f"there are {(2 * search + 1) ** 2} patches within search={search} pixels, fewer than "
                f"similar={similar}: search further"
            )
        self.in_channels = self.out_channels = in_channels
        self.patch, self.similar, self.search, self.stride = patch, similar, search, stride
        values = in_channels * patch * patch
        layers: list[nn.Module] = []
        before = similar * values
        for width in widths:
            layers += [nn.Linear(before, width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Linear(before, values))

    def forward(self, x: Tensor) -> Tensor:
        """Restore images ``(B, in_channels, H, W)``."""
        if min(x.shape[-2:]) < self.patch:
            raise ValueError(
                f"an image of {x.shape[-2]} x {x.shape[-1]} pixels holds no patch of {self.patch}: make the "
                "network with a smaller patch"
            )
        reached = [min(self.search, side - self.patch) + 1 for side in x.shape[-2:]]
        if reached[0] * reached[1] < self.similar:
            raise ValueError(
                f"in the corner of an image of {x.shape[-2]} x {x.shape[-1]} pixels only {reached[0] * reached[1]} "
                f"patches of {self.patch} are within search={self.search} pixels, fewer than similar={self.similar}"
            )
        rows, columns = (self._places(side, x.device) for side in x.shape[-2:])
        groups = self._groups(x, rows, columns)
        means = groups[:, :, 0].mean((-2, -1), keepdim=True)
        centred = (groups - means.unsqueeze(2)).flatten(2)
        clean = self.layers(centred).unflatten(-1, groups.shape[3:]) + means
        return self._averaged(clean, rows, columns, x)

    def _places(self, side: int, device: torch.device) -> Tensor:
        """Where patches begin along one side: a stride apart, the last one at the border."""
        last = side - self.patch
        return torch.tensor([*range(0, last, self.stride), last], device=device)

    def _groups(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Each patch and those most like it, ``(B, patches, similar, channels, patch * patch)``."""
        found = self._matches(x.detach(), rows, columns)
        within = self._within(x)
        pixels = found.unsqueeze(-1) + within
        values = x.flatten(2).unsqueeze(1).expand(-1, pixels.shape[1], -1, -1)
        index = pixels.flatten(2).unsqueeze(2).expand(-1, -1, x.shape[1], -1)
        gathered = values.gather(3, index).unflatten(3, (self.similar, len(within)))
        return gathered.transpose(2, 3)

    def _within(self, x: Tensor) -> Tensor:
        """Distance of a patch's pixels from its first one, in the flattened image."""
        steps = torch.arange(self.patch, device=x.device)
        return (steps[:, None] * x.shape[-1] + steps).flatten()

    def _matches(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """First pixel of the patches most like each patch, ``(B, patches, similar)``; itself comes first."""
        height, width = x.shape[-2:]
        distances, places = [], []
        reach = range(-self.search, self.search + 1)
        shifts = sorted(
            ((i, j) for i in reach for j in reach), key=lambda shift: abs(shift[0]) + abs(shift[1])
        )
        for down, right in shifts:
            moved_rows, moved_columns = rows + down, columns + right
            inside = ((moved_rows >= 0) & (moved_rows <= height - self.patch))[:, None] & (
                (moved_columns >= 0) & (moved_columns <= width - self.patch)
            )
            squares = (x - torch.roll(x, (-down, -right), (-2, -1))).square().sum(1, keepdim=True)
            sums = functional.avg_pool2d(squares, self.patch, 1)[:, 0]
            chosen = sums[:, rows][:, :, columns]
            distances.append(chosen.masked_fill(~inside, torch.inf).flatten(1))
            places.append((moved_rows[:, None] * width + moved_columns).flatten())
        # stable: of equally good patches the nearest, so that an item does not depend on its mates
        order = torch.stack(distances, -1).sort(dim=-1, stable=True).indices[..., : self.similar]
        return torch.stack(places, -1).expand(len(x), -1, -1).gather(-1, order)

    def _averaged(self, patches: Tensor, rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
        """The image of overlapping patches ``(B, patches, channels, patch * patch)``."""
        first = (rows[:, None] * like.shape[-1] + columns).flatten()
        pixels = (first[:, None] + self._within(like)).flatten()
        values = patches.permute(0, 2, 1, 3).flatten(2)
        total = values.new_zeros(like.flatten(2).shape).index_add(2, pixels, values)
        count = values.new_zeros(like.shape[-2] * like.shape[-1])
        count = count.index_add(0, pixels, torch.ones_like(pixels, dtype=values.dtype))
        return (total / count).reshape(like.shape)
