"""Deep image prior, inpainting and restoration: under a text, with half of the pixels, with 2 % of them.

Change the text, the shares, or the photograph. A mask that was stored as JPEG is grey: threshold it, as here.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from recon_data import samples

import recon
from recon.report import save_comparison

truth = samples.chelsea().data[:, 60:124, 160:224]  # colours, between 0 and 1
page = Image.new("L", (64, 64), 255)
lines = "any forward\noperator, any\nprior, one\nsolve"
ImageDraw.Draw(page).multiline_text((2, 6), lines, fill=0, font=ImageFont.load_default(10), spacing=4)
text = torch.from_numpy(np.array(page)) > 127  # 1: known

chance = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
tasks = {"text": (text, 250), "50 %": (chance < 0.5, 250), "2 %": (chance < 0.02, 120)}
images: dict = {}
for name, (mask, iterations) in tasks.items():
    holes = recon.operator("mask", mask=mask.expand(truth.shape))
    measured = holes(truth)
    prior = recon.prior("dip", filters=(8, 16, 32), skip=0, depth=8)
    stop = recon.MaxIterations(iterations)
    solution = recon.solve(
        holes, prior, measured, image_range=(0.0, 1.0), solver="dip:lr=0.01,reg_noise=0", stop=stop
    )
    images |= {f"{name}, known": measured, f"{name}, DIP": solution.image}

psnr = recon.metric("psnr", data_range=1.0)
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, truth, item_ndim=3):5.2f} dB")
grey = {name: image.mean(0) for name, image in images.items()}
save_comparison("dip_inpainting.png", grey, reference=truth.mean(0), window=(0.0, 1.0), metrics=[psnr])
