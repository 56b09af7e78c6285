"""Fan-beam sinograms of the Finnish open tomographic datasets (FIPS, Helsinki Tomography Challenge)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from recon.loading import Loaded, LoadError, reading, to_tensor
from recon.parameters import Param
from recon_data import mat5
from recon_data.matlab import MAT5

_NEEDED = ("distanceSourceOrigin", "distanceSourceDetector", "angles", "pixelSizePost")


def read_fips(
    path: Annotated[Path, Param("the .mat file with one struct: type, sinogram, parameters")],
    *,
    shape: Annotated[
        Sequence[int] | None, Param("image rows and columns; none: the square around the field of view")
    ] = None,
) -> Loaded:
    """Read the sinogram ``(views, detectors)`` of line integrals and the geometry of its scan.

    The file has one struct, called `CtDataFull` or alike, with `sinogram` and `parameters`: distances in mm,
    angles in degrees. A pixel is as large as a detector element seen on the rotation axis.

    Raises:
        LoadError: not a MATLAB file of version 5 to 7, damaged, without such a struct or parameter, or
            with parameters that contradict the sinogram.
    """
    with reading(path, MAT5) as remarks:
        name, fields = _scan(mat5.variables(path.read_bytes()), path)
        sinogram = fields["sinogram"].values()
        parameters = fields["parameters"].fields()
        numbers = {key: _number(parameters, key, path) for key in _NEEDED}
        texts = {key: item.text() for key, item in parameters.items() if item.kind == "char"}
    return Loaded(
        data=to_tensor(sinogram, f"{path}: '{name}.sinogram'"),
        geometry=_geometry(path, sinogram, numbers, texts, shape),
        attributes={"variable": name, **texts, **({"warnings": tuple(remarks)} if remarks else {})},
        source=str(path),
    )


def _scan(found: Mapping[str, mat5.Variable], path: Path) -> tuple[str, Mapping[str, mat5.Variable]]:
    structs = {name: item.fields() for name, item in found.items()}
    scans = [name for name, fields in structs.items() if {"sinogram", "parameters"} <= set(fields)]
    if len(scans) != 1:
        has = ", ".join(f"{name} ({item})" for name, item in found.items()) or "no variables"
        raise LoadError(f"{path}: expected one struct with 'sinogram' and 'parameters'; the file has {has}")
    return scans[0], structs[scans[0]]


def _number(parameters: Mapping[str, mat5.Variable], key: str, path: Path) -> np.ndarray:
    if key not in parameters:
        raise LoadError(f"{path}: its parameters lack '{key}'; there are {', '.join(parameters)}")
    numbers = parameters[key].values().astype(np.float64).reshape(-1)
    if not numbers.size or not np.isfinite(numbers).all():
        raise LoadError(f"{path}: its parameter '{key}' holds {numbers.size} numbers, expected finite ones")
    return numbers


def _geometry(
    path: Path,
    sinogram: np.ndarray,
    numbers: Mapping[str, np.ndarray],
    texts: Mapping[str, str],
    shape: Sequence[int] | None,
) -> dict[str, Any]:
    """The arguments of ``ct_fan``."""
    source_origin, source_detector, element = (
        float(numbers[key][0]) for key in ("distanceSourceOrigin", "distanceSourceDetector", "pixelSizePost")
    )
    angles = numbers["angles"]
    if sinogram.ndim != 2 or sinogram.shape[0] != angles.size:
        raise LoadError(f"{path}: a sinogram of shape {sinogram.shape} for {angles.size} angles")
    if texts.get("distanceUnit", "mm") != "mm":
        raise LoadError(f"{path}: distances in '{texts['distanceUnit']}', expected mm")
    if not 0 < source_origin <= source_detector or not element > 0:
        raise LoadError(
            f"{path}: impossible geometry: source to origin {source_origin:g} mm, source to detector "
            f"{source_detector:g} mm, elements of {element:g} mm"
        )
    detectors = sinogram.shape[1]
    pixel_size = element * source_origin / source_detector
    if shape is None:
        radius = source_origin * math.sin(math.atan(detectors * element / 2 / source_detector))
        shape = (math.floor(2 * radius / pixel_size),) * 2
    return {
        "shape": tuple(shape),
        "pixel_size": pixel_size,
        "angles": tuple(np.deg2rad(angles).tolist()),
        "source_origin": source_origin,
        "origin_detector": source_detector - source_origin,
        "detectors": detectors,
        "detector_size": element,
    }
