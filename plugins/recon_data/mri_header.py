"""The part of an ISMRMRD header that says how k-space was measured (also in fastMRI files)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree


@dataclass(frozen=True)
class Limit:
    """The least, largest and central number of an encoding step."""

    minimum: int
    maximum: int
    centre: int


@dataclass(frozen=True)
class Encoding:
    """How one k-space was measured and is meant to be reconstructed; x is the readout.

    Attributes:
        trajectory: "cartesian", "radial", ...
        matrix: encoded points along x, y, z.
        field_of_view: that they cover, x, y, z [mm].
        recon_matrix, recon_field_of_view: the same of the image, without oversampling.
        limits: of "kspace_encoding_step_1" (y), "kspace_encoding_step_2" (z), "slice", ..., as far as stated.
    """

    trajectory: str
    matrix: tuple[int, int, int]
    field_of_view: tuple[float, float, float]
    recon_matrix: tuple[int, int, int]
    recon_field_of_view: tuple[float, float, float]
    limits: dict[str, Limit]


def read_encodings(text: str | bytes) -> list[Encoding]:
    """The encodings of an ISMRMRD XML header.

    Raises:
        ValueError: not such a header.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities that grow without bound, or read other files
        raise ValueError("an MRI header with a document type, which no scanner writes")
    try:
        root = ElementTree.fromstring(text.strip("\0 \n\r\t"))  # noqa: S314 - no entities, see above
    except ElementTree.ParseError as error:
        raise ValueError(f"the MRI header is not XML: {error}") from error
    encodings = [_encoding(element) for element in root.findall("{*}encoding")]
    if not encodings:
        raise ValueError("the MRI header describes no encoding")
    return encodings


def _encoding(element: ElementTree.Element) -> Encoding:
    limits = {}
    for limit in element.findall("{*}encodingLimits/*"):
        values = [int(_text(limit, name)) for name in ("minimum", "maximum", "center")]
        limits[limit.tag.rpartition("}")[2]] = Limit(*values)
    matrix, field_of_view = _space(element, "encodedSpace")
    recon_matrix, recon_field_of_view = _space(element, "reconSpace")
    return Encoding(
        _text(element, "trajectory"), matrix, field_of_view, recon_matrix, recon_field_of_view, limits
    )


def _space(
    element: ElementTree.Element, name: str
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    size = [int(_text(element, f"{name}/{{*}}matrixSize/{{*}}{axis}")) for axis in "xyz"]
    length = [float(_text(element, f"{name}/{{*}}fieldOfView_mm/{{*}}{axis}")) for axis in "xyz"]
    if min(size) < 1 or not all(0 < value < math.inf for value in length):
        raise ValueError(f"the MRI header's {name} measures {size} points and {length} mm")
    return (size[0], size[1], size[2]), (length[0], length[1], length[2])


def _text(element: ElementTree.Element, place: str) -> str:
    found = element.find(f"{{*}}{place}")
    if found is None or not found.text:
        raise ValueError(f"the MRI header lacks {place.replace('{*}', '')}")
    return found.text.strip()
