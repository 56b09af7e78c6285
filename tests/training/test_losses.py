"""Losses against other implementations and closed forms."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from recon.cli import main
from recon.training.losses import L1, MSE, Loss, OneMinusSSIM, WeightedSum, as_loss
from recon.training.perceptual import VGG19, _features


def pair(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(shape, generator=generator, dtype=dtype) for _ in range(2))


def test_mse_and_l1_of_real_and_complex_images():
    x, y = pair(2, 8, 9)
    assert float(MSE()(x, y)) == pytest.approx(float(np.mean((x.numpy() - y.numpy()) ** 2)))
    assert float(L1()(x, y)) == pytest.approx(float(np.mean(np.abs(x.numpy() - y.numpy()))))
    z = torch.complex(x, y)
    assert float(MSE()(z, z * 1j)) == pytest.approx(float((z - 1j * z).abs().square().mean()))
    assert float(L1()(z, z * 1j)) == pytest.approx(float((z - 1j * z).abs().mean()))


def test_ssim_is_that_of_scikit_image():
    x, y = pair(1, 24, 31)
    settings = {"use_sample_covariance": False, "full": True}
    first, second = x[0].numpy(), y[0].numpy()
    _, full = structural_similarity(first, second, gaussian_weights=True, data_range=1.0, **settings)
    inside = full[5:-5, 5:-5].mean()  # windows that lie inside the image
    assert float(OneMinusSSIM()(x, y)) == pytest.approx(1 - inside, abs=1e-9)
    _, full = structural_similarity(first, second, win_size=7, data_range=2.0, **settings)
    uniform = OneMinusSSIM(window=7, sigma=0, data_range=2.0)
    assert float(uniform(x, y)) == pytest.approx(1 - full[3:-3, 3:-3].mean(), abs=1e-9)


def test_ssim_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="window of 11"):
        OneMinusSSIM()(torch.rand(1, 8, 8), torch.rand(1, 8, 8))
    with pytest.raises(ValueError, match="odd number"):
        OneMinusSSIM(window=8)
    with pytest.raises(ValueError, match="range of the values"):
        OneMinusSSIM(data_range=0)


@pytest.mark.parametrize("loss", ["mse + 0.1*(1-ssim)", {"mse": 1.0, "1-ssim": 0.1}, "0.1 * 1-ssim+mse"])
def test_a_sum_by_name(loss):
    x, y = pair(2, 16, 16)
    wanted = float(MSE()(x, y)) + 0.1 * float(OneMinusSSIM()(x, y))
    assert float(as_loss(loss)(x, y)) == pytest.approx(wanted)


def test_other_forms_of_a_loss():
    x, y = pair(2, 16, 16)
    assert isinstance(as_loss("l1"), L1)
    assert float(as_loss("2*l1")(x, y)) == pytest.approx(2 * float(L1()(x, y)))
    assert float(as_loss("1e-2*mse")(x, y)) == pytest.approx(0.01 * float(MSE()(x, y)))
    own = as_loss({"l1": 1.0, "mine": (0.5, MSE())})
    assert isinstance(own, WeightedSum)
    assert float(own(x, y)) == pytest.approx(float(L1()(x, y)) + 0.5 * float(MSE()(x, y)))
    assert as_loss(own) is own


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("", "empty"),
        ("mse +", "nothing follows"),
        ("mse l1", "cannot read"),
        ("mse + mse", "twice"),
        ("huber", "no loss 'huber'"),
        ("ssim", "1-ssim"),
        ("-1*mse", ">= 0"),
        ({"mse": -1.0}, ">= 0"),
        ("vgg", "needs the weights"),
        ("msee", "no loss 'msee'; did you mean 'mse'"),
        ("vgg:weight=a.pth", "no parameter 'weight'; did you mean 'weights'"),
        ("vgg:layer=last", "layer=.last. must be a whole number"),
        ("vgg-random:layer=40", "0 to 35"),
        ("mse:weights=a", "no parameter 'weights'"),
        ("vgg:", "cannot read"),
    ],
)
def test_what_is_no_loss(loss, message):
    with pytest.raises((ValueError, TypeError), match=message):
        as_loss(loss)


def test_vgg_has_sixteen_convolutions_in_torchvisions_places():
    convolutions = [place for place, layer in enumerate(_features()) if isinstance(layer, torch.nn.Conv2d)]
    # torchvision's vgg19().features
    assert convolutions == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    assert sum(p.numel() for p in _features().parameters()) == 20_024_384  # its number of parameters


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """A file in torchvision's layout, with a classifier beside the features."""
    torch.manual_seed(0)
    state = {f"features.{name}": value for name, value in _features().state_dict().items()}
    state["classifier.6.bias"] = torch.zeros(1000)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path, state


def test_vgg_reads_weights_and_normalises_like_imagenet(vgg_file):
    path, state = vgg_file
    loss = VGG19(path, layer=2)
    x = torch.rand(2, 16, 16)
    grey = x.unsqueeze(1).expand(-1, 3, -1, -1)
    normal = (grey - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).reshape(3, 1, 1)
    first = torch.relu(
        torch.nn.functional.conv2d(normal, state["features.0.weight"], state["features.0.bias"], padding=1)
    )
    wanted = torch.nn.functional.conv2d(
        first, state["features.2.weight"], state["features.2.bias"], padding=1
    )
    torch.testing.assert_close(loss.seen(x), wanted)
    assert float(loss(x, x)) == 0
    y = torch.rand(2, 16, 16)
    torch.testing.assert_close(loss(x, y), (loss.seen(x) - loss.seen(y)).square().mean())


@pytest.mark.parametrize("text", ["l1 + 0.1*vgg:weights={},layer=2", "0.1 * VGG:layer=2,weights='{}' + l1"])
def test_vgg_of_a_file_by_name(vgg_file, tmp_path, text):
    path = tmp_path / "With Capitals+plus" / "vgg.pth"
    path.parent.mkdir()
    path.hardlink_to(vgg_file[0])
    if "'" not in text:  # without quotes a blank ends the name
        path = path.rename(tmp_path / "Capitals+plus.pth")
    x, y = pair(1, 16, 16, dtype=torch.float32)
    wanted = L1()(x, y) + 0.1 * VGG19(vgg_file[0], layer=2)(x, y)
    torch.testing.assert_close(as_loss(text.format(path))(x, y), wanted)


def test_vgg_layers_before_and_after_the_last_relu(vgg_file):
    x = torch.rand(1, 32, 32)
    before, after = VGG19(vgg_file[0], layer=34).seen(x), VGG19(vgg_file[0], layer=35).seen(x)
    assert before.shape == (1, 512, 2, 2)
    assert bool((before < 0).any())
    assert torch.equal(after, before.clamp_min(0))


def test_vgg_without_weights_says_so_and_random_ones_must_be_asked_for():
    with pytest.raises(ValueError, match="needs the weights of VGG-19"):
        VGG19(None)
    loss = VGG19("random", layer=4)
    assert loss.random and "random" in repr(loss)
    assert torch.equal(loss.features[0].weight, VGG19("random", layer=4).features[0].weight)
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    x = torch.rand(1, 16, 16, requires_grad=True)
    loss(x, torch.rand(1, 16, 16)).backward()
    assert x.grad is not None and bool((x.grad != 0).any())


def test_vgg_refuses_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="not downloaded"):
        VGG19(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(ValueError, match="not a readable file of weights"):
        VGG19(tmp_path / "text.pth")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold torchvision's VGG-19"):
        VGG19(tmp_path / "other.pth")
    assert issubclass(VGG19, Loss)


def test_vgg_of_a_file_on_the_command_line(vgg_file, tmp_path, capsys):
    (tmp_path / "slices").mkdir()
    for number in range(4):
        image = torch.rand(16, 16, generator=torch.Generator().manual_seed(number))
        np.save(tmp_path / "slices" / f"{number}.npy", image.numpy())
    command = ["train", "unet:channels=2,levels=2", "--data", str(tmp_path / "slices"), "--epochs", "1"]
    command += ["--op", "blur:kernel=[[0.25,0.5,0.25]]", "--batch", "2", "--image-range", "0,1", "--json"]
    vgg = f"vgg:weights={vgg_file[0]},layer=2"

    def logged(folder, *options):
        assert main([*command, *options, "-o", str(tmp_path / folder)]) == 0, capsys.readouterr().err
        metrics = json.loads(capsys.readouterr().out)["metrics"]
        return metrics["loss"]

    alone, weighted = logged("alone", "--loss", vgg), logged("weighted", "--loss", f"2*{vgg}", "--lr", "1e-3")
    assert weighted == pytest.approx(2 * alone, rel=0.05)  # one step in, and Adam takes steps of one length
    inside = ["--objective", f"wgan:content='{vgg}',content_weight=1,adversarial_weight=0", "--lr", "1e-3"]
    assert main([*command, *inside, "-o", str(tmp_path / "wgan")]) == 0
    capsys.readouterr()
    assert main([*command, "--loss", "vgg:weights=none.pth", "-o", str(tmp_path / "none")]) == 1
    assert "there is no file none.pth with the weights of VGG-19" in capsys.readouterr().err
