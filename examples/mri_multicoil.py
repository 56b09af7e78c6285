"""Multi-coil MRI as measured: whitened, coil maps from the scan's own centre (ESPIRiT), SENSE with TV.

No truth exists. 8 % of the samples are kept back, and an image has to predict them: error 1 is noise alone.
Change "tv", the calibration region, or the data to a scan of yours: complex (coils, H, W), zeros not measured.
"""

import torch
from recon_data import samples
from recon_operators import CartesianMRI
from recon_operators.coil_maps import espirit
from recon_operators.coils import noise_covariance, prewhiten

import recon
from recon.report import save_comparison

kspace = samples.kspace_brain_8_coils().data  # (8, 230, 180), one sample in eight; zeros were not measured
measured = (kspace != 0).any(0)
rows, columns = torch.meshgrid(torch.linspace(-1, 1, 230), torch.linspace(-1, 1, 180), indexing="ij")
outermost = measured & (torch.hypot(rows, columns) > 0.85)  # noise, and hardly any signal
kspace = prewhiten(kspace, noise_covariance(kspace[:, outermost]))  # standard deviation 1 in every coil

kept_back = torch.rand(measured.shape, generator=torch.Generator().manual_seed(0)) < 0.08
kept_back &= measured & (torch.maximum(rows.abs(), columns.abs()) > 0.15)  # not from the centre
given = measured & ~kept_back
data = kspace * given

maps = espirit(data, calibration=24)
sense, full = CartesianMRI(given, maps), CartesianMRI(torch.ones(230, 180), maps)
solution = recon.solve(sense, "tv", data, fidelity=("gaussian", {"noise_level": 1.0}))

images = {"SENSE, zero-filled": sense.pinv(data), "SENSE, TV": solution.image}
predictions = {"zero-filled": 0 * data} | {name: full(image) for name, image in images.items()}
for name, prediction in predictions.items():
    missed = (prediction - kspace)[:, kept_back]
    print(f"{name:20} ERROR {missed.abs().square().mean().div(2).sqrt():.2f} of the noise")
print(solution)
coil_images = CartesianMRI(given).pinv(data)
images = {"zero-filled, root sum of squares": torch.linalg.vector_norm(coil_images, dim=0), **images}
save_comparison("mri_multicoil.png", images)
