"""Deep image prior, inpainting and restoration: under a text, with half of the pixels, with 2 % of them.

Change the text, the shares, or the photograph. A mask that was stored as JPEG is grey: threshold it, as here.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from recon_data import samples

import recon
from recon.report import save_comparison

truth = samples.chelsea().data[:, 60:156, 150:246]  # colours, between 0 and 1
page = Image.new("L", (96, 96), 255)
lines = "any forward\noperator, any\nprior, one\nsolve"
ImageDraw.Draw(page).multiline_text((2, 6), lines, fill=0, font=ImageFont.load_default(14), spacing=6)
text = torch.from_numpy(np.array(page)) > 127  # 1: known

chance = torch.rand(96, 96, generator=torch.Generator().manual_seed(0))
tasks = {"text": (text, 300), "50 %": (chance < 0.5, 300), "2 %": (chance < 0.02, 150)}
images = {}
for name, (mask, iterations) in tasks.items():
    holes = recon.operator("mask", mask=mask.expand(truth.shape))
    measured = holes(truth)
    prior = recon.prior("dip", filters=(8, 16, 32, 32), skip=0, depth=8)
    options = {"solver": "dip:lr=0.01", "stop": recon.MaxIterations(iterations)}
    solution = recon.solve(holes, prior, measured, image_range=(0.0, 1.0), **options)
    images |= {f"{name}, known": measured, f"{name}, DIP": solution.image}

psnr = recon.metric("psnr", data_range=1.0)
for name, image in images.items():
    print(f"{name:12} PSNR {psnr(image, truth, item_ndim=3):5.2f} dB")
grey = {name: image.mean(0) for name, image in images.items()}
save_comparison("dip_inpainting.png", grey, reference=truth.mean(0), window=(0.0, 1.0), metrics=[psnr])
