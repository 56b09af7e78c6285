"""Sparse-view CT: a chest slice from 40 views instead of several hundred.

Change the number of angles or the noise; "tv" may be any prior that `recon list priors` names.
"""

from recon_data import samples

import recon
from recon.report import save_comparison

chest = samples.ct_chest()
mu = chest.attenuation()[::2, ::2]  # HU to 1/mm; every second pixel, to be done in seconds
ct = recon.operator("ct_parallel", shape=mu.shape, pixel_size=2 * chest.pixel_size[0], angles=40)
sinogram = ct.measure(mu, noise=recon.noise("poisson", photons=1e6), seed=0)

solution = recon.solve(ct, "tv", sinogram)  # the weight is chosen from the noise level

images = {"FBP": ct.pinv(sinogram), "FBP, Hann": ct.pinv(sinogram, filter="hann"), "TV": solution.image}
psnr, rmse = recon.metric("psnr", data_range=0.04, region="circle"), recon.metric("rmse_hu", region="circle")
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, mu):5.2f} dB   RMSE {rmse(image, mu):6.1f} HU")
print(solution)
save_comparison(
    "ct_sparse_view.png", images, reference=mu, window=(0.0, 0.03), unit="1/mm", metrics=[psnr, rmse]
)
