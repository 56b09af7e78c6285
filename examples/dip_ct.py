"""Deep image prior, CT: few noisy parallel views, and a measured fan-beam scan; with total variation beside it.

Change the number of views, the weight of "tv", or the scan to one of yours with its geometry.
"""

import torch
from recon_data import samples

import recon
from recon.report import save_comparison

chest = samples.ct_chest()
mu = chest.attenuation().reshape(64, 8, 64, 8).mean((1, 3))  # 1/mm
ct = recon.operator("ct_parallel", shape=mu.shape, pixel_size=8 * chest.pixel_size[0], angles=20)
sinogram = ct.measure(mu, noise=recon.noise("gaussian", std=0.4), seed=0)
network = recon.prior("dip", filters=(16, 32, 64), skip=0, depth=16)
solver, stop = recon.solver("dip", lr=0.003, reg_noise=0.0), recon.MaxIterations(300)
solutions = {
    "DIP": recon.solve(ct, network, sinogram, solver=solver, stop=stop),
    "DIP + TV": recon.solve(ct, network + recon.prior("tv", weight=0.5), sinogram, solver=solver, stop=stop),
}
images = {"FBP, Hann": ct.pinv(sinogram, filter="hann", cutoff=0.7)}
images |= {name: solution.image for name, solution in solutions.items()}
psnr = recon.metric("psnr", data_range=0.04, region="circle")
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, mu):5.2f} dB")

scan = samples.fan_disc()  # Helsinki Tomography Challenge 2022: a plastic disc with holes
views = slice(0, None, 18)
geometry = {**scan.geometry, "shape": (64, 64), "pixel_size": scan.geometry["pixel_size"] * 512 / 64}
fan = recon.operator("ct_fan", **{**geometry, "angles": scan.geometry["angles"][views]})
disc = recon.solve(fan, network, scan.data[views], solver=solver, stop=stop).image
fitted = torch.linalg.vector_norm(fan(disc) - scan.data[views]) / torch.linalg.vector_norm(scan.data[views])
print(f"measured fan beam, {len(scan.data[views])} views: residual {100 * float(fitted):.1f} % of the data")
save_comparison("dip_ct.png", images, mu, (0, 0.03), "1/mm", metrics=[psnr])
