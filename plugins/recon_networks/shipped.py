"""The denoiser that ships with the package: trained weights beside this file, ready without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from recon.learned import LearnedPrior
from recon.model_files import load_model
from recon.parameters import Param

MODELS = Path(__file__).parent / "models"


def drunet(
    weight: Annotated[
        float | Literal["auto"],
        Param("strength of the prior; auto: from the noise level", ge=0),
    ] = "auto",
) -> LearnedPrior:
    """A small DRUNet denoiser of photographs, CT and MR images, for plug-and-play.

    Its images lie in [0, 1]: a problem or a solve must say the range of its own (``image_range``). Complex images are
    denoised part by part. ``models/drunet/README.md`` says what it was trained on, and examples/experiments has the
    command.

    Args:
        weight: strength of the prior.
    """
    prior = load_model(MODELS / "drunet", weight=None if weight == "auto" else weight)
    prior.image_range = None  # trained on images of any unit, each brought to [0, 1]
    return prior
