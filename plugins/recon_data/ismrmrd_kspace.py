"""ISMRMRD raw data (.mrd, .h5): Cartesian readouts sorted into k-space (Inati et al. 2017, doi:10.1002/mrm.26089)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import torch

from recon.loading import Loaded, LoadError, reading, to_tensor
from recon.parameters import Param
from recon_data.hdf5 import check_heaps, check_size
from recon_data.mri_header import Encoding, Limit, read_encodings

HDF5 = "an HDF5 file"

# Numbers of bits in a readout's flags, from 1, as the format counts them.
NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSED = 19, 20, 21, 22
# Navigators, phase correction, feedback, dummy scans, surface coil correction, phase stabilisation.
NO_IMAGE = (NOISE, 23, 24, 26, 27, 28, 29, 30, 31)

# One of these must be chosen where a file has several; slices become an axis, averages are averaged.
COUNTERS = ("contrast", "phase", "repetition", "set")
LEAST_SAMPLED = 100  # k-space larger than this many times its data is no scan, but a damaged header


@dataclass(frozen=True)
class Readouts:
    """The readouts of one image: their heads, in file order, and where in the file they are."""

    heads: np.ndarray
    rows: np.ndarray

    def only(self, kept: np.ndarray) -> Readouts:
        return Readouts(self.heads[kept], self.rows[kept])

    def counter(self, name: str) -> np.ndarray:
        return self.heads["idx"][name].astype(np.int64)


def read_ismrmrd(
    path: Annotated[Path, Param("the .mrd or .h5 file")],
    *,
    remove_oversampling: Annotated[bool, Param("crop the readout to the field of view of the image")] = False,
    slice_number: Annotated[int | None, Param("which slice; all unless given", ge=0)] = None,
    contrast: Annotated[int | None, Param("which contrast (echo), if there are several", ge=0)] = None,
    phase: Annotated[int | None, Param("which cardiac phase, if there are several", ge=0)] = None,
    repetition: Annotated[int | None, Param("which repetition, if there are several", ge=0)] = None,
    set_number: Annotated[int | None, Param("which set, if there are several", ge=0)] = None,
    group: Annotated[str, Param("the group in the file that holds the data")] = "dataset",
) -> Loaded:
    """Sort the readouts of a Cartesian scan into k-space `(coils, rows, columns)`, zero where not measured.

    Rows are the readout, columns the phase encoding, as in fastMRI's files; a 3-D scan has `(coils,
    partitions, rows, columns)`, several slices stand before the coils. The zero frequency is in the middle.
    Averages are averaged. Noise, navigator, calibration-only and other readouts that make no image are left
    out and counted in `attributes["left_out"]`. `valid` is False where nothing was measured. `pixel_size` is
    that of the image which the inverse Fourier transform gives.

    Raises:
        LoadError: no such file, damaged, not Cartesian, readouts in reversed direction (echo planar imaging),
            or several contrasts, phases, repetitions or sets and none chosen.
    """
    chosen = {"contrast": contrast, "phase": phase, "repetition": repetition, "set": set_number}
    with reading(path, HDF5) as remarks, h5py.File(path, "r") as file:
        data, encoding = _open(file, group, path)
        everything = _heads(data, path)
        imaging = _imaging(everything)
        readouts = _choose(imaging, chosen | {"slice": slice_number}, path)
        kspace, measured = _sort(readouts, encoding, data, path)
    attributes: dict[str, Any] = {
        "left_out": len(everything.rows) - len(imaging.rows),
        "encoded_matrix": encoding.matrix,
        "encoded_field_of_view": encoding.field_of_view,
        "image_matrix": encoding.recon_matrix,
        "image_field_of_view": encoding.recon_field_of_view,
    }
    if remarks:
        attributes["warnings"] = tuple(remarks)
    if remove_oversampling:
        kspace, measured = _crop_readout(kspace, measured, encoding, path)
    sizes = tuple(fov / points for fov, points in zip(encoding.field_of_view, encoding.matrix, strict=True))
    if kspace.shape[0] == 1:
        kspace, measured = kspace[0], measured[0]
    is_3d = encoding.matrix[2] > 1
    if not is_3d:
        kspace, measured = kspace.squeeze(-3), measured.squeeze(-3)
    valid = torch.from_numpy(np.ascontiguousarray(np.broadcast_to(measured, kspace.shape)))
    return Loaded(
        data=to_tensor(kspace, f"{path}: its k-space"),
        pixel_size=(sizes[2], sizes[0], sizes[1]) if is_3d else sizes[:2],
        valid=None if valid.all() else valid,
        attributes=attributes,
        source=str(path),
    )


def _open(file: h5py.File, group: str, path: Path) -> tuple[h5py.Dataset, Encoding]:
    for name in ("data", "xml"):
        if not isinstance(file.get(f"{group}/{name}"), h5py.Dataset):
            raise LoadError(
                f"{path}: no '{group}/{name}', so no ISMRMRD raw data; the file has "
                f"{', '.join(list(file)[:8]) or 'nothing'} (group= chooses another group)"
            )
    check_heaps(path)
    check_size(file[f"{group}/xml"], path)
    encodings = read_encodings(file[f"{group}/xml"][0])
    if encodings[0].trajectory.lower() != "cartesian":
        raise LoadError(f"{path}: a {encodings[0].trajectory} scan; only Cartesian ones can be sorted")
    return file[f"{group}/data"], encodings[0]


def _heads(data: h5py.Dataset, path: Path) -> Readouts:
    check_size(data, path)
    heads = data.fields("head")[:]
    return Readouts(heads, np.arange(len(heads)))


def _imaging(readouts: Readouts) -> Readouts:
    """Those of the first encoding that make an image."""
    flags = readouts.heads["flags"].astype(np.uint64)

    def flagged(*bits: int) -> np.ndarray:
        mask = np.uint64(sum(1 << (bit - 1) for bit in bits))
        return (flags & mask) != 0

    calibration_only = flagged(CALIBRATION) & ~flagged(CALIBRATION_AND_IMAGING)
    return readouts.only(
        ~flagged(*NO_IMAGE) & ~calibration_only & (readouts.heads["encoding_space_ref"] == 0)
    )


def _choose(readouts: Readouts, chosen: dict[str, int | None], path: Path) -> Readouts:
    """Those of the chosen counters; there must be a single contrast, phase, repetition and set."""
    for name, wanted in chosen.items():
        there = np.unique(readouts.counter(name))
        option = {"slice": "slice_number", "set": "set_number"}.get(name, name)
        if wanted is None and name in COUNTERS and len(there) > 1:
            listed = ", ".join(map(str, there[:12]))
            raise LoadError(f"{path}: several of '{name}' ({listed}); choose one with {option}=")
        if wanted is not None:
            if wanted not in there:
                listed = ", ".join(map(str, there[:12])) or "none"
                raise LoadError(f"{path}: no {name} {wanted}; there are {listed}")
            readouts = readouts.only(readouts.counter(name) == wanted)
    if not len(readouts.rows):
        raise LoadError(f"{path}: no readout that makes an image")
    flags = readouts.heads["flags"].astype(np.uint64)
    if (flags & np.uint64(1 << (REVERSED - 1))).any():
        raise LoadError(
            f"{path}: readouts in reversed direction (echo planar imaging), which need a phase correction first"
        )
    return readouts


def _places(readouts: Readouts, encoding: Encoding, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The column and the partition of each readout."""
    found = []
    for name, points in (
        ("kspace_encode_step_1", encoding.matrix[1]),
        ("kspace_encode_step_2", encoding.matrix[2]),
    ):
        limit = encoding.limits.get(name.replace("encode", "encoding"), Limit(0, points - 1, points // 2))
        place = readouts.counter(name) - limit.centre + points // 2
        if place.min() < 0 or place.max() >= points:
            raise LoadError(
                f"{path}: {name} runs from {readouts.counter(name).min()} to {readouts.counter(name).max()} "
                f"around {limit.centre}, which does not fit into the encoded matrix {encoding.matrix}"
            )
        found.append(place)
    return found[0], found[1]


def _sort(
    readouts: Readouts, encoding: Encoding, data: h5py.Dataset, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """(slices, coils, partitions, rows, columns) and where it was measured (one coil for all)."""
    columns, partitions = _places(readouts, encoding, path)
    slices, slice_of = np.unique(readouts.counter("slice"), return_inverse=True)
    coils = np.unique(readouts.heads["active_channels"])
    if len(coils) != 1:
        raise LoadError(f"{path}: readouts of {', '.join(map(str, coils))} coils in one image")
    shape = (len(slices), int(coils[0]), encoding.matrix[2], encoding.matrix[0], encoding.matrix[1])
    samples = int(readouts.heads["number_of_samples"].astype(np.int64).sum()) * shape[1]
    if np.prod(shape, dtype=float) > LEAST_SAMPLED * samples or 8 * samples > path.stat().st_size:
        raise LoadError(f"{path}: damaged: k-space of shape {shape} from {samples} samples")
    _refuse_twice(slice_of, columns, partitions, readouts, path)
    total = np.zeros(shape, np.complex64)
    times = np.zeros((shape[0], 1, *shape[2:]), np.float32)
    for place, row in enumerate(readouts.rows):
        head = readouts.heads[place]
        line = _line(data[int(row)]["data"], head, shape[1], path)
        first = shape[3] // 2 - (int(head["center_sample"]) - int(head["discard_pre"]))
        if first < 0 or first + line.shape[1] > shape[3]:
            raise LoadError(
                f"{path}: a readout of {line.shape[1]} samples around sample {head['center_sample']} does not "
                f"fit into the encoded matrix {encoding.matrix}"
            )
        where = (slice_of[place], slice(None), partitions[place], slice(first, first + line.shape[1]))
        total[(*where, columns[place])] += line
        times[(*where, columns[place])] += 1
    return total / np.maximum(times, 1), times > 0


def _line(values: np.ndarray, head: np.void, coils: int, path: Path) -> np.ndarray:
    """(coils, samples) without the samples that the scanner wants discarded."""
    samples = int(head["number_of_samples"])
    if values.dtype != np.float32 or values.size != 2 * coils * samples:
        raise LoadError(
            f"{path}: damaged: a readout of {coils} coils and {samples} samples has {values.size}"
        )
    line = np.ascontiguousarray(values).view(np.complex64).reshape(coils, samples)
    kept = line[:, int(head["discard_pre"]) : samples - int(head["discard_post"])]
    if not kept.size:
        raise LoadError(f"{path}: damaged: a readout without a sample to keep")
    return kept


def _refuse_twice(
    slice_of: np.ndarray, columns: np.ndarray, partitions: np.ndarray, readouts: Readouts, path: Path
) -> None:
    keys = np.stack([slice_of, columns, partitions, readouts.counter("average")], axis=1)
    unique, counts = np.unique(keys, axis=0, return_counts=True)
    if (counts > 1).any():
        _, column, partition, average = unique[int(counts.argmax())]
        raise LoadError(
            f"{path}: {int((counts > 1).sum())} lines were measured more than once in one average, such as column "
            f"{column} of partition {partition} in average {average}: segments or sets that make no single image"
        )


def _crop_readout(
    kspace: np.ndarray, measured: np.ndarray, encoding: Encoding, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """K-space of the middle of the readout's field of view; the image's values stay."""
    points = encoding.matrix[0]
    wanted = round(points * encoding.recon_field_of_view[0] / encoding.field_of_view[0])
    if not 1 <= wanted <= points:
        raise LoadError(f"{path}: the image's field of view is larger than the measured one")
    axis = -2
    image = np.fft.fftshift(
        np.fft.ifft(np.fft.ifftshift(kspace, axes=axis), axis=axis, norm="ortho"), axes=axis
    )
    first = points // 2 - wanted // 2
    middle = image[..., first : first + wanted, :]
    cropped = np.fft.fftshift(
        np.fft.fft(np.fft.ifftshift(middle, axes=axis), axis=axis, norm="ortho"), axes=axis
    )
    lines = np.broadcast_to(
        measured.any(axis=axis, keepdims=True), (*measured.shape[:-2], wanted, measured.shape[-1])
    )
    return cropped.astype(np.complex64), lines
