"""Image-to-image models of `transformers` from a local folder; nothing is fetched."""

import pytest
import torch
from recon_bridges import from_huggingface
from torch import nn

from recon.testing import check_prior

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def tiny(transformers, **changes):
    settings = {
        "image_size": 8, "num_channels": 1, "embed_dim": 8, "depths": [1], "num_heads": [1], "window_size": 4,
        "upscale": 1, "upsampler": "", "hidden_dropout_prob": 0.0,
    }  # fmt: skip
    config = transformers.Swin2SRConfig(**(settings | changes))
    return transformers.Swin2SRForImageSuperResolution(config).eval()


def test_a_folder_of_config_and_safetensors_is_a_prior(transformers, tmp_path):
    model = tiny(transformers)
    model.save_pretrained(tmp_path / "model", safe_serialization=True)
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"config.json", "model.safetensors"}
    prior = from_huggingface(tmp_path / "model", value_range=(0, 1))
    x = torch.rand(2, 9, 7)
    padded = nn.functional.pad(x[:, None], (0, 1, 0, 3), mode="replicate")  # to windows of 4
    with torch.no_grad():
        truth = model(padded).reconstruction[:, 0, :9, :7]
        found = prior.denoise(x, 0.1)
    assert torch.equal(found, truth)
    assert (prior.channels, prior.weight, prior.value_range) == ("add", 1, (0, 1))


def test_a_loaded_model_conforms_and_colours_stay_colours(transformers):
    check_prior(from_huggingface(tiny(transformers)))
    colours = from_huggingface(tiny(transformers, num_channels=3, num_channels_out=3))
    assert colours.channels == "first"
    assert colours.denoise(torch.rand(1, 3, 8, 8), 0.1).shape == (1, 3, 8, 8)
    grey = from_huggingface(tiny(transformers, num_channels=3, num_channels_out=3), channels="repeat")
    assert grey.denoise(torch.rand(1, 8, 8), 0.1).shape == (1, 8, 8)


def test_wrong_input_says_what_and_what_to_do(transformers, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder 'caidas/swin2SR'.*download=True"):
        from_huggingface("caidas/swin2SR")
    with pytest.raises(ValueError, match=r"enlarges images 2 times"):
        from_huggingface(tiny(transformers, upscale=2, upsampler="pixelshuffle"))
    with pytest.raises(TypeError, match=r"Conv2d is no image-to-image model.*recon_bridges.denoiser"):
        from_huggingface(nn.Conv2d(1, 1, 3))
