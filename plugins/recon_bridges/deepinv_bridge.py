"""DeepInverse: its physics, denoisers and priors as ours, and ours as its, by one function each way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from recon.linear import LinearOperator
from recon.parameters import Param
from recon.priors import Prior, Weight
from recon_bridges.deepinv_physics import from_physics, to_physics
from recon_bridges.deepinv_priors import from_denoiser, from_potential, to_prior
from recon_bridges.libraries import library
from recon_bridges.modules import ModuleDenoiser


def from_deepinv(thing: Any, **options: Any) -> Any:
    """A physics, denoiser or prior of DeepInverse as an operator or prior of ours.

    Args:
        thing: a `deepinv.physics.LinearPhysics` (options as in `from_physics`: ``img_size``, ``channels``,
            ``adjoint_tolerance``), a `deepinv.models.Denoiser` or `deepinv.optim.PnP` (`from_denoiser`:
            ``value_range``, ``sigma``, ``channels``, ``complex_as``, ``multiple_of``, ``weight``), or a
            `deepinv.optim.Prior` with a proximal map (`from_potential`: ``channels``, ``convex``, ``weight``).
        options: of that kind.

    Raises:
        TypeError: something else, physics that is not linear, a prior without a proximal map, or an option
            that the kind does not have.
        ValueError: options that do not fit.
    """
    deepinv = library("deepinv")
    if isinstance(thing, deepinv.physics.Physics):
        return from_physics(thing, **options)
    if isinstance(thing, deepinv.models.Denoiser):
        return from_denoiser(thing, **options)
    if isinstance(thing, deepinv.optim.PnP):
        return from_denoiser(thing.denoiser, **options)
    if isinstance(thing, deepinv.optim.Prior):
        return from_potential(thing, **options)
    raise TypeError(
        "from_deepinv takes a deepinv LinearPhysics, Denoiser or Prior, got "
        f"{type(thing).__module__}.{type(thing).__name__}: for any other network use recon_bridges.denoiser"
    )


def to_deepinv(thing: LinearOperator | Prior, **options: Any) -> Any:
    """An operator or prior of ours as physics or prior of DeepInverse.

    Args:
        thing: an operator (options as in `to_physics`: ``channels``, ``noise_model``) or a prior (`to_prior`:
            ``channels``, ``value_range``, ``iterations``).
        options: of that kind.

    Raises:
        TypeError: something else, or an option that the kind does not have.
        ValueError: options that do not fit.
    """
    if isinstance(thing, LinearOperator):
        return to_physics(thing, **options)
    if isinstance(thing, Prior):
        return to_prior(thing, **options)
    raise TypeError(f"to_deepinv takes a recon operator or prior, got {type(thing).__name__}")


def named_denoiser(
    model: Annotated[str, Param("class in deepinv.models, such as DRUNet")],
    weights: Annotated[Path | None, Param("file of its weights, for a trained network")] = None,
    download: Annotated[bool, Param("fetch the model's published weights from the network")] = False,
    channels: Annotated[
        int, Param("1 for grey images, 3 for colours along the image's first axis", ge=1)
    ] = 1,
    weight: Annotated[Weight, Param("strength; auto: from the noise level", ge=0)] = "auto",
) -> ModuleDenoiser:
    """A denoiser of DeepInverse by its name: the prior ``deepinv:model=DRUNet,weights=drunet_gray.pth``.

    Raises:
        ValueError: no such model, or a trained network without its weights.
        FileNotFoundError: no such file.
        TypeError: weights for a model that has none.
    """
    import inspect

    models = library("deepinv").models
    found = getattr(models, model, None)
    if not (isinstance(found, type) and issubclass(found, models.Denoiser)):
        known = sorted(
            name
            for name, thing in vars(models).items()
            if isinstance(thing, type) and issubclass(thing, models.Denoiser) and thing is not models.Denoiser
        )
        raise ValueError(f"deepinv.models has no denoiser {model!r}; it has {', '.join(known)}")
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"no file of weights {weights}")
    takes = inspect.signature(found).parameters
    arguments: dict[str, Any] = {}
    if "pretrained" in takes:
        if weights is None and not download:
            raise ValueError(
                f"deepinv.models.{model} is a trained network: give weights=FILE, or download=True to fetch them"
            )
        arguments["pretrained"] = "download" if weights is None else str(weights)
    elif weights is not None or download:
        raise TypeError(f"deepinv.models.{model} has no weights to load: leave weights and download out")
    for name in ("in_channels", "out_channels"):
        if name in takes:
            arguments[name] = channels
    return from_denoiser(found(**arguments), channels="add" if channels == 1 else "first", weight=weight)
