"""Low-dose CT: every ray has few photons, and the data term knows how uncertain each ray is.

Change PHOTONS (the dose), the number of angles, or "tv" to any prior that `recon list priors` names.
"""

from recon_data import samples

import recon
from recon.report import save_comparison

PHOTONS = 2e4  # that would reach a detector element without the patient

chest = samples.ct_chest()
mu = chest.attenuation()[::2, ::2]  # 1/mm; every second pixel, to be done in seconds
ct = recon.operator("ct_parallel", shape=mu.shape, pixel_size=2 * chest.pixel_size[0], angles=120)
sinogram = ct.measure(mu, noise=recon.noise("poisson", photons=PHOTONS), seed=0)

# a line integral y has the variance 1 / counts, and counts = PHOTONS * exp(-y): the weights of pwls
solution = recon.solve(ct, "tv", sinogram, fidelity=f"pwls:photons={PHOTONS}")

images = {
    "FBP": ct.pinv(sinogram),
    "FBP, Hann": ct.pinv(sinogram, filter="hann", cutoff=0.5),
    "TV": solution.image,
}
psnr, rmse = recon.metric("psnr", data_range=0.04, region="circle"), recon.metric("rmse_hu", region="circle")
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, mu):5.2f} dB   RMSE {rmse(image, mu):6.1f} HU")
print(solution)
save_comparison(
    "ct_low_dose.png", images, reference=mu, window=(0.0, 0.03), unit="1/mm", metrics=[psnr, rmse]
)
