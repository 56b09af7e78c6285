"""A trained network as files and as a prior: what is kept, what is refused, and that it does the same anywhere."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_trainings import SmallNet, squares

import recon
from recon.learned import LearnedPrior, ModelError, operator_digest
from recon.model_files import load_model, save_model
from recon.provenance import describe


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A U-Net trained end to end on a mask operator, and its folder."""
    folder = tmp_path_factory.mktemp("model")
    mask = (torch.arange(256).reshape(16, 16) % 3 != 0).float()
    op = recon.operator("mask", mask=mask)
    prior = recon.train(
        "unet:channels=4,levels=2", op=op, data=squares(24), noise="gaussian:std=0.05", epochs=2, batch=4,
        unit="1/mm", output=folder, about={"licence": "CC0-1.0"},
    )  # fmt: skip
    return prior, folder, op


def copied(folder, target):
    for name in ("weights.safetensors", "card.json", "README.md"):
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def test_a_model_from_its_folder_does_what_the_trained_one_did(model):
    prior, folder, op = model
    loaded = recon.prior(f"{folder}/")
    y = op.measure(squares(3, seed=5), noise="gaussian:std=0.05", seed=1)
    first, second = recon.solve(op, prior, y), recon.solve(op, loaded, y)
    assert torch.equal(first.image, second.image)
    assert (
        first.provenance["solver"]["settings"] == "Feedforward(sigma='auto', consistent=False)"
    )  # chosen by itself
    assert second.provenance["prior"][0]["name"] == "recon/learned"


def test_another_process_loads_it(model, tmp_path):
    prior, folder, _ = model
    code = (
        "import recon, torch; from safetensors.torch import save_file\n"
        f"prior = recon.prior({str(folder)!r})\n"
        "x = torch.linspace(0, 1, 256).reshape(1, 16, 16)\n"
        f"save_file({{'x': prior.denoise(x, 0.1)}}, {str(tmp_path / 'x.safetensors')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    x = torch.linspace(0, 1, 256).reshape(1, 16, 16)
    torch.testing.assert_close(load_file(tmp_path / "x.safetensors")["x"], prior.denoise(x, 0.1))


def test_the_card_says_what_was_trained_on_what(model):
    prior, folder, _ = model
    card = json.loads((folder / "card.json").read_text())
    assert card["architecture"]["name"] == "recon/unet"
    assert card["architecture"]["arguments"]["channels"] == 4
    assert card["parameters"] == sum(p.numel() for p in prior.network.parameters())
    assert card["unit"] == "1/mm" and card["licence"] == "CC0-1.0"
    assert card["image_range"] == list(prior.image_range)
    assert card["objective"]["loss"] == "mse"
    assert "0.05" in card["data"]["noise"]
    assert card["data"]["trained on"] == 22 and card["data"]["validated on"] == 2
    assert card["metrics"]["psnr"] > 0
    assert card["versions"]["torch"] == torch.__version__
    text = (folder / "README.md").read_text()
    assert card["weights"]["sha256"] in text and "recon/mask" in text


def test_what_was_applied_once_is_told_so(model):
    """No denoiser's weight and no direct reconstruction is spoken of where the network itself made the image."""
    prior, _, op = model
    solution = recon.solve(op, prior, op.measure(squares(1, seed=5)[0], noise="gaussian:std=0.05", seed=1))
    assert solution.reason == "network applied once"
    words = solution.explain()
    assert "denoiser UNet, whose weight plays no part" in words and "Given:" not in words


def test_changed_weights_are_refused(model, tmp_path):
    folder = copied(model[1], tmp_path)
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="does not fit its card"):
        recon.prior(f"{folder}/")


def test_weights_of_another_architecture_are_refused(model, tmp_path):
    folder = copied(model[1], tmp_path)
    card = json.loads((folder / "card.json").read_text())
    for arguments, message in (
        ({"channels": 8}, "another architecture than recon/unet"),
        ({"channels": 4, "levels": 3}, "another architecture"),
        ({"chanels": 4}, "did you mean 'channels'"),
    ):
        changed = {**card, "architecture": {**card["architecture"], "arguments": arguments}}
        (folder / "card.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError, match=message):
            recon.prior(f"{folder}/")
    changed = {**card, "architecture": {**card["architecture"], "name": "no_such_net"}}
    (folder / "card.json").write_text(json.dumps(changed))
    with pytest.raises(ModelError, match="unknown network 'no_such_net'"):
        recon.prior(f"{folder}/")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "recon model 99"}, "this version"),
        ({"image_range": [1.0, 0.0]}, "low < high"),
        ({"value_range": "all"}, "low < high"),
    ],
)
def test_a_damaged_card_is_refused(model, tmp_path, change, message):
    folder = copied(model[1], tmp_path)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(ModelError, match=message):
        recon.prior(f"{folder}/")
    (folder / "card.json").write_text(json.dumps(card)[:-20])
    with pytest.raises(ModelError, match="not a readable model card"):
        recon.prior(f"{folder}/")


def test_what_is_missing_is_said(tmp_path, model):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        recon.prior(f"{tmp_path}/nothing/")
    with pytest.raises(FileNotFoundError, match=r"no card\.json"):
        recon.prior(f"{tmp_path}/")
    (tmp_path / "card.json").write_bytes((model[1] / "card.json").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"no weights\.safetensors"):
        recon.prior(f"{tmp_path}/")


def test_an_end_to_end_network_refuses_another_operator(model):
    prior, folder, op = model
    other = recon.operator("mask", mask=1 - op.mask)
    y = other.measure(squares(1), seed=1)
    with pytest.raises(ModelError, match="recon/mask of the same size, but with another mask: train one"):
        recon.solve(other, prior, y)
    anyway = recon.prior(f"{folder}/:any_operator=true")
    assert recon.solve(other, anyway, y).image.shape == (1, 16, 16)
    inside = recon.solve(other, prior, y, solver="admm", stop=recon.MaxIterations(3))
    assert inside.image.shape == (1, 16, 16)


def test_of_two_operators_only_what_differs_is_said():
    def trained_with(op):
        about = {"digest": operator_digest(op), "description": describe("operator", op)}
        return LearnedPrior(torch.nn.Conv2d(1, 1, 1), end_to_end=True, operator=about)

    few, many = (
        recon.operator("ct_parallel", shape=(8, 8), pixel_size=2.0, angles=count) for count in (5, 9)
    )
    with pytest.raises(
        ModelError, match=r"^[^{]*with recon/ct_parallel of angles=9, here angles=5: train one"
    ):
        trained_with(many).check_operator(few)
    with pytest.raises(ModelError, match=r"with recon/ct_parallel, here recon/identity: train one"):
        trained_with(many).check_operator(recon.operator("identity", shape=(8, 8)))
    trained_with(many).check_operator(recon.operator("ct_parallel", shape=(8, 8), pixel_size=2.0, angles=9))


def test_an_end_to_end_network_refuses_another_unit(model):
    prior, _, op = model
    y = op.measure(squares(1), seed=1)
    low, high = prior.image_range
    with pytest.raises(ModelError, match="bring them to that unit"):
        recon.solve(op, prior, y, image_range=(-1000 * high, 3000 * high))
    assert torch.equal(
        recon.solve(op, prior, y, image_range=(low, 0.8 * high)).image, recon.solve(op, prior, y).image
    )


def test_a_network_that_no_plugin_registers(tmp_path):
    prior = LearnedPrior(SmallNet())
    save_model(prior, tmp_path)
    with pytest.raises(ModelError, match=r"small_trainings\.SmallNet, which no plugin registers"):
        recon.prior(f"{tmp_path}/")
    loaded = load_model(tmp_path, network=SmallNet())
    x = torch.rand(2, 16, 16)
    assert torch.equal(loaded.denoise(x, 0.1), prior.denoise(x, 0.1))


def test_half_precision_halves_the_file(tmp_path):
    network = recon.registry.make("network", "unet:channels=8")
    prior = LearnedPrior(network)
    save_model(prior, tmp_path / "half", half=True)
    save_model(prior, tmp_path / "whole")
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.55 * sizes[1]
    x = torch.rand(1, 16, 16)
    half = recon.prior(f"{tmp_path}/half/").denoise(x, 0.1)
    torch.testing.assert_close(half, prior.denoise(x, 0.1), rtol=1e-2, atol=1e-2)  # 11 bits


def test_weights_are_safetensors_and_nothing_else(model, tmp_path):
    folder = copied(model[1], tmp_path)
    save_file({"x": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(ModelError):
        recon.prior(f"{folder}/")


class Doubling(torch.nn.Module):
    """Doubles its input, and remembers the shape that it saw."""

    def __init__(self, channels=1):
        super().__init__()
        self.in_channels = channels

    def forward(self, x):
        self.seen = tuple(x.shape)
        return 2 * x


@pytest.mark.parametrize(
    ("channels", "complex_as", "image", "seen"),
    [
        (1, "auto", torch.rand(2, 5, 6), (2, 1, 5, 6)),
        (1, "auto", torch.rand(2, 4, 5, 6), (8, 1, 5, 6)),  # slices are items
        (3, "auto", torch.rand(2, 3, 5, 6), (2, 3, 5, 6)),  # colours are channels
        (1, "auto", torch.randn(2, 5, 6, dtype=torch.complex64), (4, 1, 5, 6)),
        (1, "magnitude", torch.randn(2, 5, 6, dtype=torch.complex64), (2, 1, 5, 6)),
        (2, "auto", torch.randn(2, 5, 6, dtype=torch.complex64), (2, 2, 5, 6)),
        (1, "auto", torch.rand(0, 5, 6), (0, 1, 5, 6)),
    ],
)
def test_images_become_channels_and_come_back(channels, complex_as, image, seen):
    prior = LearnedPrior(Doubling(channels), complex_as=complex_as)
    torch.testing.assert_close(prior.denoise(image, 0.1), 2 * image)
    assert prior.network.seen == seen


def test_a_conditioned_network_is_told_each_items_noise_level():
    class Level(torch.nn.Module):
        conditioned = True

        def forward(self, x, sigma):
            return x * 0 + sigma.reshape(-1, 1, 1, 1)

    prior = LearnedPrior(Level(), sigma_range=(0.01, 0.2))
    out = prior.denoise(torch.zeros(3, 2, 4, 4), torch.tensor([0.1, 0.5, 0.0]))
    assert out.flatten(1).amax(1).tolist() == pytest.approx(
        [0.1, 0.2, 0.01]
    )  # the last two: the nearest trained
    assert out.flatten(1).amin(1).tolist() == pytest.approx([0.1, 0.2, 0.01])


def test_inputs_are_made_at_inference_as_in_training(tmp_path):
    op = recon.operator("ct_parallel", shape=(16, 16), pixel_size=1.0, angles=12)
    prior = recon.train(
        SmallNet(), op=op, data=squares(8), epochs=1, batch=4, pinv={"filter": "hann"}, image_range=(0.0, 1.0)
    )
    save_model(prior, tmp_path)
    y = op.measure(squares(2, seed=3))
    with torch.no_grad():
        wanted = prior.denoise(op.pinv(y, filter="hann"), 0.0)
        other = prior.denoise(op.pinv(y), 0.0)
    assert not torch.allclose(wanted, other, rtol=0, atol=1e-3)
    for one in (prior, load_model(tmp_path, network=SmallNet())):
        image = recon.solve(op, one, y, solver="feedforward").image
        torch.testing.assert_close(image, wanted, rtol=0, atol=1e-6)  # rounding
