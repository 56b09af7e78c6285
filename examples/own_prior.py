"""A prior of your own: total variation that is smooth below a threshold (Huber), against staircases.

A penalty, its proximal map and the linear map in front of it are enough; change all three to yours.
"""

import torch
from recon_data import samples
from recon_operators import Gradient

import recon
from recon.report import save_comparison


class HuberTV(recon.Functional):
    """Sum over pixels of |Dx| - d/2 where |Dx| > d, and of |Dx|^2 / 2d elsewhere."""

    threshold = 0.03  # d: steeper gradients are edges

    def K(self, shape):
        return Gradient(shape)

    def _penalty(self, z):
        size = z.norm(dim=1)
        return torch.where(size > self.threshold, size - self.threshold / 2, size**2 / (2 * self.threshold))

    def _prox(self, z, step):
        size = z.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return z * (1 - step / size).clamp_min(self.threshold / (self.threshold + step))


truth = samples.chelsea().data.mean(0)  # between 0 and 1
camera = recon.operator("identity", shape=truth.shape)
noisy = camera.measure(truth, noise=recon.noise("gaussian", std=0.1), seed=0)

images = {"noisy": noisy, "TV": recon.solve(camera, "tv", noisy).image}
images["Huber TV"] = recon.solve(camera, HuberTV(), noisy).image
psnr = recon.metric("psnr", data_range=1.0)
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, truth):5.2f} dB")
save_comparison("own_prior.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr])
