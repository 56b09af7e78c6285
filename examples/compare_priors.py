"""Several priors on one problem, a blurred and noisy photograph: a table, a picture and an HTML report.

Change PRIORS: names of `recon list priors` with their arguments, sums of them, or objects of your own.
"""

from recon_data import samples

import recon
from recon.report import comparison_report, save_comparison

PRIORS = {
    "Tikhonov": recon.prior("tikhonov", of="gradient"),
    "TV, anisotropic": recon.prior("tv", isotropic=False),
    "TV": recon.prior("tv"),
    "TV, 0 to 1": recon.prior("tv") + recon.prior("box", low=0.0, high=1.0),
}

truth = samples.camera().data[::2, ::2]
blur = recon.operator("blur", shape=truth.shape, kernel=("gaussian", 1.5))
blurred = blur.measure(truth, noise=recon.noise("gaussian", std=0.02), seed=0)
solutions = {name: recon.solve(blur, prior, blurred) for name, prior in PRIORS.items()}

images = {"Wiener": blur.pinv(blurred)} | {name: solution.image for name, solution in solutions.items()}
psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
for name, image in images.items():
    print(f"{name:16} PSNR {psnr(image, truth):5.2f} dB   SSIM {ssim(image, truth):.3f}")
save_comparison("compare_priors.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr, ssim])
comparison_report({"measured": blurred, **solutions}, "compare_priors.html", reference=truth)
