"""A measured parallel-beam scan, from the detector's counts to the image: flat field, rotation axis, reconstruction.

There is no truth: every tenth view is kept back, and predicting it is the score. Change the scan to one of yours.
"""

import torch
from recon_data import samples
from recon_operators.measured_ct import detector_offset, from_counts, rotation_centre

import recon
from recon.report import save_comparison

file = samples.sample("tooth")  # raw counts, flat fields, dark fields and angles
counts, flat, dark, degrees = (
    recon.load(file, dataset=f"exchange/{name}").data for name in ("data", "data_white", "data_dark", "theta")
)
integrals, clipped = from_counts(counts[:, 0], flat=flat[:, 0], dark=dark[:, 0])
centre = rotation_centre(integrals)
print(f"rotation axis on element {centre:.1f} of {counts.shape[-1]}, {int(clipped.sum())} readings clipped")

pairs = integrals.reshape(len(integrals), -1, 2).mean(-1)  # two elements in one, to be done in seconds
offset = detector_offset((centre + 0.5) / 2 - 0.5, pairs.shape[-1], detector_size=1.0)
angles = torch.deg2rad(degrees).tolist()
kept = torch.arange(len(angles)) % 10 == 5


def scanner(views):
    """The scanner at some of its views; lengths are in units of a pair of elements."""
    chosen = [angle for angle, is_chosen in zip(angles, views.tolist(), strict=True) if is_chosen]
    return recon.operator(
        "ct_parallel", shape=(200, 200), angles=chosen, detectors=320, detector_offset=offset
    )


ct, unseen = scanner(~kept), scanner(kept)
images = {"FBP": ct.pinv(pairs[~kept]), "TV": recon.solve(ct, "tv", pairs[~kept]).image}
for name, image in images.items():
    error = (unseen(image) - pairs[kept]).square().mean().sqrt()
    print(f"{name:4} error of the views kept back {float(error):.4f}, of {float(pairs[kept].std()):.2f}")
save_comparison("ct_measured_counts.png", images, window=(0.0, 0.025))
