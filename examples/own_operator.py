"""A forward model of your own: a camera that turns while its shutter is open.

Shapes and `_forward` are enough: adjoint, gradients, norm, solvers and the automatic weight come with them.
"""

import torch
from recon_data import samples
from torch.nn.functional import affine_grid, grid_sample

import recon
from recon.report import save_comparison


class TurningCamera(recon.LinearOperator):
    """The mean of the image turned by many small angles."""

    grids: torch.Tensor

    def __init__(self, shape, degrees, steps):
        super().__init__(domain_shape=shape, range_shape=shape)
        angle = torch.deg2rad(torch.linspace(-degrees / 2, degrees / 2, steps))
        turns = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle], 1)
        grids = affine_grid(turns.reshape(steps, 2, 3), [steps, 1, *shape], align_corners=False)
        self.register_buffer("grids", grids)

    def _forward(self, x):
        images = x.reshape(1, -1, *self.domain_shape)
        turned = [grid_sample(images, grid[None], align_corners=False) for grid in self.grids]
        return torch.stack(turned).mean(0).reshape(x.shape)


truth = samples.camera().data[::2, ::2]  # between 0 and 1
camera = TurningCamera(truth.shape, degrees=6, steps=9)
blurred = camera.measure(truth, noise=recon.noise("gaussian", std=0.01), seed=0)

images = {"measured": blurred, "TV": recon.solve(camera, "tv", blurred).image}
psnr = recon.metric("psnr", data_range=1.0)
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, truth):5.2f} dB")
save_comparison("own_operator.png", images, reference=truth, window=(0.0, 1.0), metrics=[psnr])
