"""Deep image prior, MRI: a brain from two fifths of its k-space, with one coil and with simulated four.

Change the mask, the number of coils, or the data to a scan of yours. The image is complex: the network makes two
channels, real and imaginary part.
"""

import torch
from recon_data import samples
from recon_operators import CartesianMRI

import recon
from recon.report import save_comparison

kspace = samples.kspace_brain().data[96:160, 96:160].to(torch.complex64)  # fully sampled; its middle: 64 x 64
truth = CartesianMRI(torch.ones(64, 64)).pinv(kspace)
lines = torch.rand(64, generator=torch.Generator().manual_seed(1)) < 0.3
lines[28:36] = True  # the middle of k-space
mask = lines.float().expand(64, 64)

rows, columns = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
maps = torch.stack([torch.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 2) for r, c in corners])
maps = (maps / torch.linalg.vector_norm(maps, dim=0)).to(torch.complex64)

stop = recon.MaxIterations(600)
images: dict = {}
for name, scanner in {"1 coil": CartesianMRI(mask), "4 coils": CartesianMRI(mask, maps)}.items():
    data = scanner(truth)
    prior = recon.prior("dip", filters=(16, 32, 64), skip=0, depth=16)
    solution = recon.solve(scanner, prior, data, solver="dip:lr=0.01,reg_noise=0.033", stop=stop)
    images |= {f"zero-filled, {name}": scanner.pinv(data), f"DIP, {name}": solution.image}
    images[f"TV, {name}"] = recon.solve(scanner, "tv", data).image

psnr = recon.metric("psnr", data_range="max")
for name, image in images.items():
    print(f"{name:20} PSNR {psnr(image.abs(), truth.abs()):5.2f} dB")
shown = {name: image.abs() for name, image in images.items()}
save_comparison("dip_mri.png", shown, reference=truth.abs(), metrics=[psnr])
