"""How far noise moves each method's image, as maps."""

from collections.abc import Sequence

import numpy as np
import torch

from recon.report.figures import ITEMS_SHOWN, window_from_zero
from recon.report.html import Figure, Section, grey_figure
from recon.report.methods import Method
from recon.uncertainty import Uncertainty

__all__ = ["uncertainties"]


def uncertainties(methods: Sequence[Method], unit: str) -> list[Section]:
    """A section for each method whose uncertainty is known: standard deviation and quantiles of the samples."""
    sections = []
    for method in methods:
        found: Uncertainty | None = getattr(method.solved, "error_bars", None)
        if found is None or found.std.numel() != method.items.numel():
            continue
        shape = method.items.shape
        std = found.std.cpu().reshape(shape)
        low, high = found.quantiles.cpu()[0].reshape(shape), found.quantiles.cpu()[-1].reshape(shape)
        figures: list[Figure] = []
        for index in range(min(len(std), ITEMS_SHOWN)):
            which = f", item {index}" if len(std) > 1 else ""
            title, window = f"Standard deviation{which}", window_from_zero(std[index])
            figures.append(grey_figure(std[index], title, window=window, unit=unit))
            bounds = torch.stack([low[index], high[index]]).double().flatten()
            least, most = np.percentile(bounds.numpy(), (0.5, 99.5)).tolist()
            window = (least, most) if least < most else (least - 0.5, least + 0.5)
            for level, bound in ((found.levels[0], low), (found.levels[-1], high)):
                title = f"{100 * level:g} % quantile{which}"
                figures.append(grey_figure(bound[index], title, window=window, unit=unit))
        name = f": {method.name}" if len(methods) > 1 else ""
        sections.append(
            Section(
                title=f"Uncertainty{name}",
                text=" ".join(found.in_words()),
                figures=figures,
                figures_per_row=3,
            )
        )
    return sections
