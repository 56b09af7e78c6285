"""Raw MRI files for the tests, written by the package that defines the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np


def header_xml(
    matrix: tuple[int, int, int] = (16, 10, 1),
    field_of_view: tuple[float, float, float] = (320.0, 150.0, 5.0),
    recon_matrix: tuple[int, int, int] = (8, 10, 1),
    recon_field_of_view: tuple[float, float, float] = (160.0, 150.0, 5.0),
    centre: int = 5,
    trajectory: str = "cartesian",
) -> bytes:
    """An ISMRMRD header, made by the package's own schema classes."""
    xsd = ismrmrd.xsd

    def space(points: tuple[int, int, int], length: tuple[float, float, float]) -> Any:
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(**dict(zip("xyz", points, strict=True))),
            fieldOfView_mm=xsd.fieldOfViewMm(**dict(zip("xyz", length, strict=True))),
        )

    encoding = xsd.encodingType(
        encodedSpace=space(matrix, field_of_view),
        reconSpace=space(recon_matrix, recon_field_of_view),
        encodingLimits=xsd.encodingLimitsType(
            kspace_encoding_step_1=xsd.limitType(minimum=0, maximum=matrix[1] - 1, center=centre),
            kspace_encoding_step_2=xsd.limitType(minimum=0, maximum=matrix[2] - 1, center=matrix[2] // 2),
        ),
        trajectory=xsd.trajectoryType(trajectory),
    )
    header = xsd.ismrmrdHeader(
        encoding=[encoding],
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63_870_000),
    )
    return header.toXML("utf-8").encode()


def readout(
    samples: np.ndarray, *, flags: tuple[int, ...] = (), centre: int | None = None, **index: int
) -> Any:
    """One readout (coils, samples) with its counters: kspace_encode_step_1, slice, average, ..."""
    made = ismrmrd.Acquisition.from_array(samples.astype(np.complex64))
    made.center_sample = samples.shape[1] // 2 if centre is None else centre
    for name, value in index.items():
        setattr(made.idx, name, value)
    for flag in flags:
        made.setFlag(flag)
    return made


def write_ismrmrd(path: Path, readouts: list[Any], xml: bytes | None = None) -> Path:
    """Write the readouts in the given order."""
    with ismrmrd.Dataset(str(path), "dataset", mode="w") as file:
        file.write_xml_header(header_xml() if xml is None else xml)
        for made in readouts:
            file.append_acquisition(made)
    return path


def write_fastmri(path: Path, kspace: np.ndarray, images: np.ndarray | None = None, **more: Any) -> Path:
    """A file as the fastMRI data set has them."""
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.astype(np.complex64)
        if images is not None:
            file["reconstruction_rss"] = images.astype(np.float32)
        file["ismrmrd_header"] = more.pop("xml", header_xml())
        file.attrs.update(
            {"acquisition": "CORPD_FBK", "max": 0.5, "norm": 2.0, "patient_id": "secret"} | more
        )
    return path
