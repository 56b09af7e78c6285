"""Low-dose CT images from full-dose ones: the noise of fewer photons, inserted into a reconstruction."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from recon.linear import LinearOperator
from recon.simulate import LowerDoseNoise


class DosePair(NamedTuple):
    """Two images of one slice [1/mm], both of the shape that was given: at the lower and at the full dose."""

    low: Tensor
    high: Tensor


def low_dose_pair(
    attenuation: Tensor,
    operator: LinearOperator,
    *,
    photons: float,
    dose: float = 0.25,
    electronic: float = 0.0,
    seed: int = 0,
    first_item: int = 0,
    **pinv: Any,
) -> DosePair:
    """A full-dose reconstruction and what it would have been at a part of the dose: a pair to learn or test on.

    The image is projected, its line integrals are given the noise that the lower dose adds (`LowerDoseNoise`),
    and the direct reconstruction of that noise alone is added to the image. So the pair differs by noise
    and by nothing else: the resolution is that of the image given, and where the operator's FBP does not
    reproduce an image (a coarse detector, few views), no streaks appear. Its grain is that of
    the operator's geometry and filter; take those of the scanner. Without noise in the image given, as in a phantom,
    the result has less noise than the lower dose would: measure such images with the `poisson` noise.

    Args:
        attenuation: images ``(*batch, rows, columns)`` [1/mm]; `recon.hounsfield.attenuation_of` makes
            them from Hounsfield units with the attenuation of water and air named.
        operator: a CT operator for that shape, such as ``ct_parallel`` or ``ct_fan``.
        photons: mean photons that reach a detector element at full dose without an object in the way.
        dose: the part of the dose that is left, above 0 up to 1.
        electronic: standard deviation of the detector's own noise [counts].
        seed: the same seed gives the same pair; each item draws from its own generator.
        first_item: index of the first item, for a data set made in pieces.
        pinv: options of the direct reconstruction: ``filter="hann"``, ``cutoff=0.8``.

    Raises:
        ValueError: images in another unit, whose line integrals count no photon or too many.
    """
    sinogram = operator(attenuation)
    least, most = (float(value) for value in torch.aminmax(sinogram))
    if least < -1 or most > 20:  # exp(-20) is two photons in a billion
        raise ValueError(
            f"the line integrals reach from {least:g} to {most:g}, in a patient 0 to 10: give the attenuation "
            "in 1/mm and the pixel size in mm (recon.hounsfield.attenuation_of converts Hounsfield units)"
        )
    noise = LowerDoseNoise(photons, dose, electronic)
    lower = noise(sinogram, item_ndim=len(operator.range_shape), seed=seed, first_item=first_item)
    return DosePair(attenuation + operator.pinv(lower - sinogram, **pinv), attenuation)
