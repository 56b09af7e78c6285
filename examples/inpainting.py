"""Inpainting: three pixels in four are missing, the others are noisy.

Change MISSING, or the mask to any array of 0 (missing) and 1 (known), or the photograph to one of yours.
"""

import torch
from recon_data import samples

import recon
from recon.report import save_comparison

MISSING = 0.75

truth = samples.chelsea().data.mean(0)  # grey, between 0 and 1; recon.load("photo.png").data reads your own
mask = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0)) >= MISSING
holes = recon.operator("mask", mask=mask)
measured = holes.measure(truth, noise=recon.noise("gaussian", std=0.1), seed=0)
solution = recon.solve(holes, "tv", measured)

images = {"measured": measured, "interpolation": holes.pinv(measured), "TV": solution.image}
psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
for name, image in images.items():
    print(f"{name:14} PSNR {psnr(image, truth):5.2f} dB   SSIM {ssim(image, truth):.3f}")
print(solution)
save_comparison("inpainting.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr, ssim])
