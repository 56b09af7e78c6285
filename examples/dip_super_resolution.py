"""Deep image prior, super-resolution: four and eight times as many pixels along each side, without any training.

Change the factor or the photograph; "dip:preset=super_resolution_x4" has the settings of the paper, for a GPU.
"""

from recon_data import samples

import recon
from recon.report import save_comparison

truth = samples.chelsea().data.mean(0)[70:134, 160:224]  # grey, between 0 and 1
prior = recon.prior("dip", filters=(16, 32, 32), skip=0, depth=16)
stop = recon.MaxIterations(250)
images: dict = {}
for factor in (4, 8):
    camera = recon.operator("downsample", shape=truth.shape, factor=factor, kernel="lanczos2")
    small = camera(truth)
    solution = recon.solve(camera, prior, small, reference=truth, solver="dip:lr=0.01,reg_noise=0", stop=stop)
    images |= {f"Lanczos x{factor}": camera.pinv(small), f"DIP x{factor}": solution.image}
    low, high = (solution.history[name][-1] for name in ("psnr_data", "psnr"))
    print(f"x{factor}: PSNR(LR) {low:.2f} dB, of the small image; PSNR(HR) {high:.2f} dB, of the large one")

psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, truth):5.2f} dB   SSIM {ssim(image, truth):.3f}")
save_comparison("dip_super_resolution.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr, ssim])
