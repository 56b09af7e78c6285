"""Deep image prior, denoising: a network that has seen no image removes noise and JPEG artefacts, and stops by itself.

Change the noise, the quality, or the photograph; without `stop` and sizes it takes minutes and is better.
"""

import io

import numpy as np
import torch
from PIL import Image
from recon_data import samples

import recon
from recon.report import save_comparison

QUALITY = 10  # of JPEG, 1 to 95

truth = torch.nn.functional.avg_pool2d(samples.camera().data[None], 4)[0, 10:74, 30:94]
buffer = io.BytesIO()
Image.fromarray((255 * truth).round().byte().numpy()).save(buffer, "JPEG", quality=QUALITY)
compressed = torch.from_numpy(np.array(Image.open(buffer), dtype=np.float32)) / 255
noisy = truth + 25 / 255 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))

# two images at once: every one has a network of its own, and stops for itself
stop = recon.MovingVariance(patience=80, forgetting=0.05, burn_in=200)
prior = recon.prior("dip", filters=(16, 32, 64), skip=0, depth=16)
both = torch.stack([noisy, compressed])
solution = recon.solve(
    recon.Identity(truth.shape), prior, both, solver="dip:lr=0.003,reg_noise=0.01", stop=stop
)

images = {"noisy": noisy, "noisy, DIP": solution.image[0], "JPEG": compressed, "JPEG, DIP": solution.image[1]}
psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, truth):5.2f} dB   SSIM {ssim(image, truth):.3f}")
print(*solution.reasons, sep="\n")
save_comparison("dip_denoise.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr, ssim])
