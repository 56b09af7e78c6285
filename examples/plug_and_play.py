"""Plug-and-play: a denoiser as the prior of a blurred and noisy photograph, one that ships and one of your own.

Nothing is tuned: the noise level is estimated from the data, and the solver shows a denoiser the noise that is left.
Change the photograph and the blur to your own, or the class below to any denoiser that you have.
"""

import torch
from recon_data import samples

import recon
from recon.report import save_comparison


class Smoothing(recon.Denoiser):
    """A mean of each pixel's neighbours, the more alike the more they weigh (bilateral filter); put yours here."""

    def denoise(self, x, sigma):
        level = torch.as_tensor(sigma).reshape(-1, 1, 1)
        total, weights = torch.zeros_like(x), torch.zeros_like(x)
        for rows in range(-2, 3):
            for columns in range(-2, 3):
                moved = x.roll((rows, columns), (-2, -1))
                alike = torch.exp(-((moved - x) ** 2) / (2 * level) ** 2 - (rows**2 + columns**2) / 4)
                total, weights = total + alike * moved, weights + alike
        return total / weights


truth = samples.chelsea().data.mean(0)[20:276, 100:356].contiguous()  # between 0 and 1
blur = recon.operator("blur", shape=truth.shape, kernel=("gaussian", 1.5))
blurred = blur.measure(truth, noise=recon.noise("gaussian", std=0.02), seed=0)

images = {"Wiener": blur.pinv(blurred), "TV": recon.solve(blur, "tv", blurred).image}
images["bilateral filter"] = recon.solve(blur, Smoothing(), blurred).image
images["wavelet denoiser"] = recon.solve(blur, "wavelet_denoiser", blurred).image
psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
for name, image in images.items():
    print(f"{name:16} PSNR {psnr(image, truth):5.2f} dB   SSIM {ssim(image, truth):.3f}")
save_comparison("plug_and_play.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr, ssim])
