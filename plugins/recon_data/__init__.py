"""Readers, writers and data sets; this module only registers them and imports nothing heavy."""

from collections.abc import Iterator

from recon.entries import DatasetEntry, Example, ReaderEntry, WriterEntry
from recon.hookspecs import hookimpl
from recon_data.samples import samples as shipped_samples  # `samples` is the submodule's name


@hookimpl
def recon_readers() -> Iterator[ReaderEntry]:
    """The file formats that `recon.load` reads."""
    yield ReaderEntry(
        name="dicom",
        factory="recon_data.dicom:read_dicom",
        summary="DICOM image, or a folder of slices: CT in HU with its padding marked, others as stored",
        suffixes=(".dcm", ".dicom", ".ima"),
        folders=(".dcm", ".dicom", ".ima", ""),
        requires=("pydicom",),
    )
    yield ReaderEntry(
        name="hdf5",
        factory="recon_data.hdf5:read_hdf5",
        summary="HDF5: one dataset, with its attributes (Data Exchange and others)",
        suffixes=(".h5", ".hdf5"),
        requires=("h5py",),
    )
    yield ReaderEntry(
        name="fastmri",
        factory="recon_data.fastmri:read_fastmri",
        summary="fastMRI HDF5: k-space or reconstructions, with the header's field of view (.h5, by name)",
        suffixes=(),
        requires=("h5py",),
    )
    yield ReaderEntry(
        name="ismrmrd",
        factory="recon_data.ismrmrd_kspace:read_ismrmrd",
        summary="ISMRMRD raw data: Cartesian readouts sorted into k-space (.mrd; .h5 by name)",
        suffixes=(".mrd",),
        requires=("h5py",),
    )
    yield ReaderEntry(
        name="nifti",
        factory="recon_data.nifti:read_nifti",
        summary="NIfTI volume, with its place in the patient",
        suffixes=(".nii", ".nii.gz"),
        requires=("nibabel",),
    )
    yield ReaderEntry(
        name="tiff",
        factory="recon_data.tiff:read_tiff",
        summary="TIFF stack as stored, all pages or a folder of files (.tif by name)",
        suffixes=(),
        folders=(".tif", ".tiff"),
        requires=("tifffile",),
    )
    yield ReaderEntry(
        name="matlab",
        factory="recon_data.matlab:read_matlab",
        summary="MATLAB 4 to 7.3: one numeric variable, or a struct's field",
        suffixes=(".mat",),
        requires=("scipy", "h5py"),
    )
    yield ReaderEntry(
        name="fips",
        factory="recon_data.fips:read_fips",
        summary="fan-beam sinogram of the Finnish tomographic datasets with its geometry (.mat, by name)",
        suffixes=(),
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
def recon_writers() -> Iterator[WriterEntry]:
    """The file formats that `recon.save` writes."""
    yield WriterEntry(
        name="numpy",
        factory="recon_data.writers:write_numpy",
        summary="NumPy array: any shape and type, the values alone",
        suffixes=(".npy",),
        requires=("numpy",),
    )
    yield WriterEntry(
        name="png",
        factory="recon_data.writers:write_png",
        summary="PNG picture, grey in 8 or 16 bits or in colour, in a window of values",
        suffixes=(".png",),
        requires=("PIL",),
    )
    yield WriterEntry(
        name="tiff",
        factory="recon_data.writers:write_tiff",
        summary="TIFF stack in float32, with the size of a pixel (ImageJ)",
        suffixes=(".tif", ".tiff"),
        requires=("tifffile",),
    )
    yield WriterEntry(
        name="nifti",
        factory="recon_data.writers:write_nifti",
        summary="NIfTI volume, with its place in the patient",
        suffixes=(".nii", ".nii.gz"),
        requires=("nibabel",),
    )
    yield WriterEntry(
        name="dicom",
        factory="recon_data.dicom_writer:write_dicom",
        summary="DICOM derived image, or a folder of them for a volume; CT in HU; no patient unless asked",
        suffixes=(".dcm",),
        folders=True,
        requires=("pydicom",),
    )


@hookimpl
def recon_datasets() -> Iterator[DatasetEntry]:
    """The scans and photographs that ship with this package, and collections that the user has a copy of."""
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
    yield from _local_copies()


def _local_copies() -> Iterator[DatasetEntry]:
    for name, factory, summary, licence in (
        ("lodopab", "lodopab:LoDoPaB", "LoDoPaB-CT: low-dose chest CT with line integrals", "CC-BY-4.0"),
        (
            "mayo_ldct",
            "mayo:MayoLDCT",
            "Mayo Clinic / AAPM low-dose CT: pairs of low- and full-dose slices",
            "terms of The Cancer Imaging Archive",
        ),
        ("chaos", "patient_folders:CHAOS", "CHAOS: CT or MR of healthy abdomens", "CC-BY-NC-SA-4.0"),
        ("tcga_lihc", "patient_folders:TCGALIHC", "TCGA-LIHC: CT and MR of liver cancer", "CC-BY-3.0"),
        ("adni", "patient_folders:ADNI", "ADNI: MR of brains", "ADNI data use agreement"),
        (
            "fastmri",
            "fastmri_folder:FastMRIFolder",
            "fastMRI: k-space and reconstructions of knees and brains",
            "fastMRI data sharing agreement",
        ),
        (
            "patients",
            "patient_folders:PatientFolders",
            "any folder of patients with DICOM series or NIfTI volumes, split by patient",
            "that of the data",
        ),
    ):
        yield DatasetEntry(
            name=name,
            factory=f"recon_data.{factory}",
            summary=f"{summary}; reads a local copy",
            licence=licence,
            tags=("local copy",),
            examples=(
                Example({"folder": f"{name}/"}, expected_failures={"example": "the data are the user's own"}),
            ),
        )
