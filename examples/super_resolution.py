"""Super-resolution: a photograph from a noisy one with a sixteenth of the pixels.

Change the factor, the camera's kernel ("lanczos3", "lanczos2", "box") or the noise.
"""

from recon_data import samples

import recon
from recon.report import save_comparison

truth = samples.camera().data  # between 0 and 1
camera = recon.operator("downsample", shape=truth.shape, factor=4)
small = camera.measure(truth, noise=recon.noise("gaussian", std=0.03), seed=0)
solution = recon.solve(camera, "tv", small)

pixels = small.repeat_interleave(4, 0).repeat_interleave(4, 1)
images = {"pixels": pixels, "Lanczos": camera.pinv(small), "TV": solution.image}
psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, truth):5.2f} dB   SSIM {ssim(image, truth):.3f}")
print(solution)
save_comparison("super_resolution.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr, ssim])
