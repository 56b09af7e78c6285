"""Readers and sample data; this module only registers them and imports nothing heavy."""

from collections.abc import Iterator

from recon.entries import DatasetEntry, ReaderEntry
from recon.hookspecs import hookimpl
from recon_data.samples import samples as shipped_samples  # `samples` is the submodule's name


@hookimpl
def recon_readers() -> Iterator[ReaderEntry]:
    """The file formats that `recon.load` reads."""
    yield ReaderEntry(
        name="dicom",
        factory="recon_data.dicom:read_dicom",
        summary="DICOM image: CT in HU with its padding marked, MR and others as stored",
        suffixes=(".dcm", ".dicom", ".ima"),
        requires=("pydicom",),
    )
    yield ReaderEntry(
        name="hdf5",
        factory="recon_data.hdf5:read_hdf5",
        summary="HDF5: one dataset, with its attributes (fastMRI, Data Exchange)",
        suffixes=(".h5", ".hdf5"),
        requires=("h5py",),
    )
    yield ReaderEntry(
        name="matlab",
        factory="recon_data.matlab:read_matlab",
        summary="MATLAB 4 to 7.3: one numeric variable, or a struct's field",
        suffixes=(".mat",),
        requires=("scipy", "h5py"),
    )
    yield ReaderEntry(
        name="numpy",
        factory="recon_data.numpy_arrays:read_numpy",
        summary="NumPy array, or one array of an .npz; never a pickle",
        suffixes=(".npy", ".npz"),
        requires=("numpy",),
    )
    yield ReaderEntry(
        name="image",
        factory="recon_data.images:read_image",
        summary="PNG, JPEG or TIFF picture as values between 0 and 1, grey or colour",
        suffixes=(".png", ".jpg", ".jpeg", ".tif", ".tiff"),
        requires=("PIL",),
    )


@hookimpl
def recon_datasets() -> Iterator[DatasetEntry]:
    """The scans and photographs that ship with this package."""
    for name, sample in shipped_samples().items():
        yield DatasetEntry(
            name=name,
            factory=f"recon_data.samples:{name}",
            summary=sample.title,
            licence=sample.licence,
            tags=("sample",),
        )
    yield DatasetEntry(
        name="ellipses",
        factory="recon_data.ellipses:Ellipses",
        summary="random ellipses, generated: 32000 images to train on, 3200 each to validate and test",
        licence="CC0-1.0",
        tags=("generated",),
    )
