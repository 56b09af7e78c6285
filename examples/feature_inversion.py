"""Feature inversion: an image from what a layer of VGG-19 sees in another, by a deep image prior.

Change the photograph, the layers, or WEIGHTS to the file vgg19-dcbb9e9d.pth of torchvision, which does not come with
this package: frozen random weights stand in for it. More iterations find more.
"""

import torch
from recon_data import samples

import recon
from recon.report import save_comparison
from recon.training import VGG19

WEIGHTS = "random"  # or the path of torchvision's weights
LAYERS = (3, 13)  # of torchvision's features: the 2nd and the 6th convolution

truth = torch.nn.functional.avg_pool2d(samples.camera().data[None], 4)[0, 10:74, 30:94]
prior = recon.prior("dip", filters=(16, 32, 64), skip=0, depth=16)
images = {"blank": torch.full_like(truth, float(truth.mean()))}
for layer in LAYERS:
    seen = recon.FeatureDistance(VGG19(WEIGHTS, layer))  # of the photograph, only its features are compared
    images[f"from layer {layer}"] = recon.solve(
        recon.Identity(truth.shape),
        prior,
        truth,
        fidelity=seen,
        image_range=(0.0, 1.0),
        stop=recon.MaxIterations(200),
    ).image

psnr, ssim = recon.metric("psnr", data_range=1.0), recon.metric("ssim", data_range=1.0)
for name, image in images.items():
    print(f"{name:14} PSNR {psnr(image, truth):5.2f} dB   SSIM {ssim(image, truth):.3f}")
save_comparison("feature_inversion.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr, ssim])
