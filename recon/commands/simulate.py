"""`recon simulate`: an image, an operator and a noise model make a problem whose answer is known."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.existing import PROBLEM, check_file, kind_of
from recon.commands.images import AIR, WATER, load_file
from recon.commands.options import ForceFile, Seed
from recon.parameters import parse_spec, plain
from recon.terminal import AsJson, add_row, console, new_table, print_json

if TYPE_CHECKING:
    from torch import Tensor

    from recon.linear import LinearOperator
    from recon.loading import Loaded
    from recon.problem import Problem

SUFFIXES = (".h5", ".hdf5")
_HIGHEST_ATTENUATION = 10.0  # 1/mm; lead at 60 keV has 5.7
_DENSE = 0.4  # 1/mm; more than titanium at 60 keV: what has no unit is then perhaps no attenuation


def simulate_command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="An image that recon.load reads, or the name of a sample data set."
        ),
    ],
    op: Annotated[
        str,
        typer.Option(
            metavar="SPEC", help="Forward operator, such as ct_parallel:angles=60 (recon list operators)."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.h5", help="The problem file to write.")
    ],
    noise: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Noise model, such as poisson:photons=1e4; none without it."),
    ] = None,
    seed: Seed = 0,
    water: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            metavar="MU",
            help=f"Attenuation of water [1/mm] that converts HU for CT operators; {WATER:g} unless given.",
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT", help="Unit of the image where the file does not say: 1/mm or HU for CT operators."
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Reader and its options, such as matlab:variable=image."),
    ] = None,
    force: ForceFile = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a measurement and write it as a problem file.

    FILE is an image: (rows, columns), real or complex, or a stack or colour image of real ones, each of which
    is measured. Parameters of the operator that the file knows (shape, pixel_size) need not be given.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"{output} must end in .h5 (it is written as HDF5)", param_hint="--output")
    with redirect_stdout(sys.stderr):
        check_file(output, lambda path: kind_of(path) == PROBLEM, force=force, inputs=(Path(file),))
        replaces = output.exists()
        loaded = _with_unit(load_file(file, reader), unit)
        problem = simulated(loaded, op, noise=noise, seed=seed, water=water)
        problem.save(output)
    if as_json:
        print_json({"written": str(output), "replaced": replaces, **_as_dict(problem)})
    else:
        _print(problem, output, replaces)


def simulated(
    loaded: Loaded, op: Any, *, noise: Any = None, seed: int = 0, water: float | None = None
) -> Problem:
    """The problem of recovering an image from its simulated measurement; the image is its reference.

    Args:
        loaded: what `recon.load` returned.
        op: operator by name or ``(name, {arguments})``, its `shape` and `pixel_size` filled in from the file where it
            takes them.
        noise: noise model in the same forms, or None.
        seed: of the noise.
        water: attenuation of water [1/mm] that HU are converted with for CT operators; 0.02 if None.

    Raises:
        ValueError, TypeError, LookupError: no image, or one that the operator or the noise does not take.
    """
    from recon import registry
    from recon.problem import Problem
    from recon.simulate import as_noise

    name, given = parse_spec(op) if isinstance(op, str) else op
    found = registry.find("operator", name)
    model = None if noise is None else as_noise(noise)
    image, unit, used_water = _image(loaded, ct="ct" in found.entry.tags, water=water)
    declared = {parameter.name for parameter in found.parameters()}
    arguments: dict[str, Any] = dict(given)
    if "shape" in declared:
        arguments.setdefault("shape", tuple(image.shape[-2:]))
    if "pixel_size" in declared and "pixel_size" not in given and loaded.pixel_size is not None:
        arguments["pixel_size"] = _side(loaded.pixel_size, name)
    operator: LinearOperator = registry.make("operator", (name, arguments))
    data = operator.measure(image, noise=model, seed=seed)
    problem = Problem(operator, data, reference=image, image_range=_range(image))
    problem.notes = {
        "simulated": True,
        "source": loaded.source,
        "unit": unit,
        "pixel_size": None if loaded.pixel_size is None else list(loaded.pixel_size),
        "water": used_water,
        "noise": "none" if model is None else model.description,
        "seed": seed,
    }
    return problem


def _image(loaded: Loaded, *, ct: bool, water: float | None) -> tuple[Tensor, str, float | None]:
    """The image in the unit that the operator takes, that unit, and the water it was converted with."""
    data, source = loaded.data, loaded.source or "the input"
    if data.ndim < 2 or (data.is_complex() and data.ndim > 2):
        kind = "complex" if data.is_complex() else "real"
        raise ValueError(
            f"{source} holds {kind} data of shape {tuple(data.shape)}, but an image to simulate from is "
            "(rows, columns), or a stack of real ones; raw k-space is a measurement already: pose it in Python "
            "with recon.Problem(recon.operator('mri_cartesian', ...), kspace).save('scan.h5')"
        )
    if water is not None and not (ct and loaded.unit == "HU"):
        why = f"its unit is {loaded.unit or 'unknown'!r}" if ct else "the operator is none of CT"
        raise ValueError(f"--water converts Hounsfield units for CT operators, but {why}: leave it out")
    if ct and loaded.unit == "HU":
        water = WATER if water is None else water
        return loaded.attenuation(water=water), "1/mm", water
    if ct and loaded.unit not in ("", "1/mm"):
        raise ValueError(
            f"{source} is in {loaded.unit}, but CT operators take attenuation in 1/mm, or HU: convert it"
        )
    if ct and not data.is_complex() and float(data.max()) > _HIGHEST_ATTENUATION:
        raise ValueError(
            f"{source} has values up to {float(data.max()):g} and no unit, but CT operators take attenuation "
            "in 1/mm (water has 0.02, lead about 5): scale the image, or save it with a unit (HU in DICOM)"
        )
    if ct and not loaded.unit and not data.is_complex() and float(data.max()) > _DENSE:
        warnings.warn(
            f"{source} does not say its unit: its values, up to {float(data.max()):g}, are taken as attenuation in "
            "1/mm, where water has 0.02, bone 0.06 and titanium 0.35. Scale a photograph or a phantom to such values, "
            "or say --unit 1/mm if they are meant (--unit HU for Hounsfield units)",
            stacklevel=2,
        )
    if loaded.valid is not None:
        padding = AIR if loaded.unit == "HU" else float(data[loaded.valid].min())
        data = data.where(loaded.valid, padding)
    return data, "1/mm" if ct else loaded.unit, None


def _range(image: Tensor) -> tuple[float, float] | None:
    """The range of the image's values, for learned priors; that of a complex image's magnitude starts at 0."""
    low, high = (0.0, float(image.abs().max())) if image.is_complex() else map(float, image.aminmax())
    return (low, high) if low < high else None


def _side(pixel_size: tuple[float, ...], operator: str) -> float:
    """The side of square pixels [mm]."""
    rows, columns = pixel_size[-2:]
    if abs(rows - columns) > 1e-3 * max(rows, columns):
        raise ValueError(
            f"the file's pixels are {rows:g} x {columns:g} mm, but {operator} takes square ones: resample "
            f"the image, or give the side to use: {operator}:pixel_size={columns:g}"
        )
    return float(rows)


def _as_dict(problem: Problem) -> dict[str, Any]:
    from recon.provenance import describe

    return {
        "operator": describe("operator", problem.operator),
        "image_shape": [*problem.batch_shape, *problem.operator.domain_shape],
        "data_shape": list(problem.data.shape),
        **{name: plain(value) for name, value in problem.notes.items()},
    }


def _with_unit(loaded: Loaded, unit: str | None) -> Loaded:
    """The image with the unit that the user says it has, where the file says none."""
    if unit is None or unit == loaded.unit:
        return loaded
    if loaded.unit:
        raise typer.BadParameter(
            f"{loaded.source} says that it is in {loaded.unit}, not {unit}: leave the unit out",
            param_hint="--unit",
        )
    return dataclasses.replace(loaded, unit=unit)


def _print(problem: Problem, output: Path, replaces: bool) -> None:
    notes, operator = problem.notes, problem.operator
    reference = problem.unflatten(problem.reference) if problem.reference is not None else problem.data
    table = new_table("", "")
    table.show_header = False
    add_row(table, "image", f"{notes['source']}: {_dimensions(reference)}{_unit(notes)}{_kind(reference)}")
    add_row(table, "operator", f"{type(operator).__name__}: {' '.join(operator.extra_repr().split())}")
    add_row(table, "data", _dimensions(problem.data))
    add_row(
        table,
        "noise",
        notes["noise"] if notes["noise"] == "none" else f"{notes['noise']}; seed {notes['seed']}",
    )
    add_row(
        table, "written", f"{output}, in the place of the one that was there" if replaces else str(output)
    )
    console().print(table)


def _dimensions(values: Tensor) -> str:
    return f"{' x '.join(map(str, values.shape))} {str(values.dtype).removeprefix('torch.')}"


def _unit(notes: dict[str, Any]) -> str:
    if notes["water"] is not None:
        return f", HU converted to attenuation [1/mm] with water at {notes['water']:g} 1/mm"
    return f", in {notes['unit']}" if notes["unit"] else ""


def _kind(image: Tensor) -> str:
    return ", taken as a complex image (not as k-space)" if image.is_complex() else ""
