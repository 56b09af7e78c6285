"""Objectives with critics in the training loop itself: what they learn, and that a killed training goes on alike."""

import copy

import pytest
import torch
from recon_networks import ResNetGenerator, WGANVGGGenerator
from torch.nn import functional

import recon
from recon.channels import channels_of
from recon.testing.objectives import Plain
from recon.training.cyclegan import CycleGAN
from recon.training.objective import Setting
from recon.training.sources import Unpaired
from recon.training.wgan import WGAN

CRITIC = ("wgan_vgg_critic", {"channels": (8, 8), "features": 16})
PATCHGAN = ("patchgan", {"channels": 4, "layers": 1})


def smooth(items, seed):
    coarse = torch.rand(items, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, (24, 24), mode="bicubic", align_corners=True)[:, 0].clamp(0, 1)


def noisy(images, seed):
    return images + 0.15 * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))


CLEAN, HELD = smooth(24, 0), smooth(8, 1)
PAIRS, HELD_PAIRS = (noisy(CLEAN, 2), CLEAN), (noisy(HELD, 3), HELD)


def denoiser():
    torch.manual_seed(0)
    return WGANVGGGenerator(channels=8, depth=4, last_relu=False, residual=True)


def translator():
    torch.manual_seed(0)
    return ResNetGenerator(channels=4, blocks=1, norm="instance", residual="identity", tanh="before")


def settings(**more):
    return {"image_range": (0.0, 1.0), "batch": 8, "device": "cpu", "progress": False, **more}


@pytest.mark.parametrize("weight", [0.0, 1e-3])
def test_a_network_learns_to_denoise_beside_a_critic(weight):
    log = []
    objective = WGAN(
        content="mse", content_weight=1.0, adversarial_weight=weight, critic=CRITIC, critic_steps=2
    )
    recon.train(
        denoiser(),
        data=PAIRS,
        validation=HELD_PAIRS,
        objective=objective,
        epochs=12,
        lr={"network": 3e-3, "critic": 1e-3},
        callback=lambda row: log.append(row),
        **settings(),
    )
    assert log[-1]["psnr"] > log[-1]["input_psnr"] + 3  # dB
    assert ("penalty" in log[-1]) == (weight > 0)


def test_a_critic_learns_to_tell_true_from_made_images():
    log = []
    recon.train(
        denoiser(),
        data=PAIRS,
        validation=0,
        objective=WGAN(content="mse", critic=CRITIC, critic_steps=3, content_weight=1.0),
        epochs=4,
        lr={"network": 1e-6, "critic": 2e-3},
        callback=lambda row: log.append(row),
        **settings(),
    )
    distances = [row["critic_of_true"] - row["critic_of_made"] for row in log]
    assert distances[-1] > distances[0] and distances[-1] > 0
    assert log[-1]["critic_loss"] < log[0]["critic_loss"]


def test_cyclegan_trains_on_unpaired_images_and_is_measured_on_pairs():
    log = []
    prior = recon.train(
        translator(),
        data=Unpaired(noisy(CLEAN, 2), smooth(20, 5)),
        validation=HELD_PAIRS,
        objective=CycleGAN(critic=PATCHGAN, pool=8),
        epochs=6,
        monitor="last",
        callback=lambda row: log.append(row),
        **settings(),
    )
    assert log[-1]["cycle"] < log[0]["cycle"] and log[-1]["identity"] < log[0]["identity"]
    assert {"adversarial", "critic_loss", "psnr", "input_psnr"} <= log[-1].keys()
    rates = [row["lr_network"] for row in log]
    assert (
        rates[0] == rates[2] == 2e-4 and rates[3] > rates[4] > rates[5] > 0
    )  # constant, then linearly to zero
    assert prior.card["objective"]["name"] == "cyclegan"


class Recording(WGAN):
    """Keeps the batches that it was shown."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.shown = []

    def step(self, batch, fit):
        self.shown.append(batch)
        return super().step(batch, fit)


def test_every_step_of_a_player_begins_without_gradient():
    """The loop does what plain Adam does with fresh gradients, critic steps on one batch included."""
    objective = Recording(content="mse", critic=CRITIC, critic_steps=3)
    network = denoiser()
    start = copy.deepcopy(network)
    recon.train(
        network,
        data=PAIRS,
        validation=0,
        objective=objective,
        epochs=2,
        lr=1e-3,
        optimiser="adam",
        schedule="constant",
        monitor="last",
        **settings(),
    )
    again = WGAN(content="mse", critic=CRITIC, critic_steps=3)
    again.prepare(Setting(start, channels_of(start), (24, 24), seed=0))
    fit = Plain(again, lr=1e-3)
    for batch in objective.shown:
        again.step(batch, fit)
    assert fit.moves == {"network": 6, "critic": 18}
    for part, module in again.modules().items():
        for name, value in module.state_dict().items():
            mine = objective.modules()[part].state_dict()[name]
            torch.testing.assert_close(mine, value, rtol=1e-4, atol=1e-6)  # sums in another order


class KilledError(Exception):
    """Stands for a process that is killed."""


def trained(kind, folder, callback=None):
    """The weights after four epochs, of everything that is trained."""
    if kind == "wgan":
        data, network = PAIRS, denoiser()
        objective = WGAN(content="mse", critic=CRITIC, critic_steps=2, fresh_batches=True)
    else:
        data, network = Unpaired(noisy(CLEAN, 2), smooth(20, 5)), translator()
        objective = CycleGAN(critic=PATCHGAN, pool=4)
    recon.train(
        network,
        data=data,
        validation=0,
        objective=objective,
        epochs=4,
        output=folder,
        callback=callback,
        **settings(),
    )
    return {
        f"{part}.{name}": value
        for part, module in objective.modules().items()
        for name, value in module.state_dict().items()
    }


@pytest.mark.parametrize("kind", ["wgan", "cyclegan"])
def test_a_training_that_was_killed_goes_on_bit_for_bit(kind, tmp_path):
    whole = trained(kind, tmp_path / "whole")

    def kill(row):
        if row["epoch"] == 3:
            raise KilledError

    with pytest.raises(KilledError):
        trained(kind, tmp_path / "parts", kill)
    resumed = trained(kind, tmp_path / "parts")
    assert whole.keys() == resumed.keys() and len(whole) > 10
    different = [name for name, value in whole.items() if not torch.equal(resumed[name], value)]
    assert not different
