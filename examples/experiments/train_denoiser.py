"""Train the small denoiser that ships with the package (`--prior drunet`): DRUNet on photographs, CT and MR slices.

    python examples/experiments/train_denoiser.py IMAGES OUTPUT
    python examples/experiments/train_denoiser.py IMAGES OUTPUT2 --start OUTPUT --sigma-high 0.8 --epochs 30 --lr 5e-4

IMAGES is a folder with the files of `TRAINING`, OUTPUT becomes the model's folder; a run that was stopped goes on.
The samples that tests and tutorials reconstruct (ct_chest, mr_brain, kspace_brain, camera) are not among them, nor is
any other slice of those patients.
"""

import argparse
from pathlib import Path

import torch
from torch.nn.functional import avg_pool2d

import recon
from recon.model_files import load_model
from recon.training import Images

WATER, BRIGHTEST = 0.02, 0.04  # 1/mm: what becomes 1
CREDITS = (
    "CT: Saltz J. et al. 2021, Stony Brook University COVID-19 Positive Cases, doi:10.7937/TCIA.BBAG-2923 (CC BY 4.0); "
    "head CT (c) 2019 Chris Rorden, Aliza Medical Imaging (BSD-2); TotalSegmentator's example CT (Apache-2.0). "
    "MR: 100 chest images of Deep-ADMM-Net (MIT), whose scans are of unstated origin. "
    "Photographs: NASA (public domain), Rachel Michetti and Stefan van der Walt (CC0)"
)
# file, how often it is shown: large areas of CT and photographs make up for the many MR images
TRAINING = {
    "ct_sbu_A058062_axial_19001231-084.dcm": 8,
    "ct_sbu_A062055_axial_19001127-136.dcm": 8,
    "ct_head_ge_dcmqa_20.dcm": 4,
    "ct_totalseg_example_ct.nii.gz": 1,
    "img_astronaut.png": 4,
    "img_coffee.png": 4,
    "img_chelsea.png": 4,
}
MR = "admm_net/ChestTrain"
VALIDATION = 10  # of the MR images


def planes(path):
    """The slices or colours in a file, in [0, 1]: (slices, rows, columns)."""
    loaded = recon.load(path, variable="im_ori") if path.suffix == ".mat" else recon.load(path)
    if loaded.unit == "HU" or "totalseg" in path.name:
        padded = loaded.data if loaded.valid is None else loaded.data.where(loaded.valid, -1000.0)
        values = (WATER * (1 + padded / 1000)).clamp(0, BRIGHTEST) / BRIGHTEST
    else:
        values = loaded.data / loaded.data.max()
    return values.reshape(-1, *values.shape[-2:]).float()


def images(folder):
    """Images to train on, in two sizes, and images to validate on."""
    training = []
    for name, times in TRAINING.items():
        found = [plane for plane in planes(folder / name) if plane.max() > 0.2]
        halves = [avg_pool2d(plane[None, None], 2)[0, 0] for plane in found]
        training += times * [plane for plane in found + halves if min(plane.shape) >= 48]
    mr = [planes(path)[0] for path in sorted((folder / MR).glob("*.mat"))]
    return training + mr[VALIDATION:], mr[:VALIDATION]


def main():
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--network", default="drunet:channels=(24,48,72),blocks=2,shuffle=2,residual=true")
    parser.add_argument("--epochs", type=int, default=220)
    parser.add_argument("--sigma-high", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument(
        "--start", type=Path, help="a model of this script to go on from, with other noise levels"
    )
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training, validation = images(arguments.images)
    text = f"{len(training)} planes of photographs, CT and MR slices: those of TRAINING in train_denoiser.py"
    network = arguments.network
    if arguments.start is not None:
        network = load_model(arguments.start).network.requires_grad_()
    prior = recon.train(
        network,
        data=Images(training, text),
        validation=validation,
        image_range=(0.0, 1.0),
        objective=f"denoising:sigma_low=0.002,sigma_high={arguments.sigma_high},spread=log",
        augment={"flip": 0.5, "turns": True, "negate": 0.25},
        patch=48,
        patches=2,
        batch=16,
        epochs=arguments.epochs,
        lr=arguments.lr,
        schedule="cosine:warmup=0.02",
        clip=0.1,
        ema=0.999,
        validate_every=10,
        precision=arguments.precision,
        device=arguments.device,
        output=arguments.output,
        half=True,
        callback=lambda row: print({name: round(value, 4) for name, value in row.items()}, flush=True),
        about={
            "licence": "CC BY 4.0",
            "credits": CREDITS,
            "notes": "not trained on the samples ct_chest, mr_brain, kspace_brain and camera, nor on other slices of "
            "those patients; images of any unit: say their range when solving",
        },
    )
    print(prior)


if __name__ == "__main__":
    main()
