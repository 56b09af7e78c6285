"""The Ellipses benchmark: the images, the scan, and the published figures on a part of the images."""

import json

import pytest
import torch
from recon_data.ellipses import Ellipses, rasterised

from recon.benchmarks import ellipses
from recon.cli import main


def test_the_images_are_the_same_in_any_order_and_fill_their_range():
    forwards, backwards = Ellipses("test"), Ellipses("test")
    later = backwards[4]
    assert torch.equal(forwards.first(5)[4], later)
    assert torch.equal(backwards[1], forwards[1])
    images = forwards.first(5)
    assert images.shape == (5, 128, 128)
    assert torch.equal(images.amax((1, 2)), torch.ones(5)) and float(images.min()) == 0
    assert not torch.equal(Ellipses("train")[0], forwards[0])
    assert (len(Ellipses("train")), len(forwards)) == (32000, 3200)


def test_an_ellipse_covers_its_area():
    half = rasterised(torch.tensor([[2.0, 0.5, 0.25, 0.1, -0.2, 0.7]]).numpy(), 400)
    # a pixel is 1/200 wide: the area pi/8 is met to the pixels on the rim
    assert abs(half.sum() / 200**2 - torch.pi / 8) < 2e-3
    assert half[200 + 20, 200 - 40] == 1


def test_published_figures_are_met_on_the_first_images():
    fbp, tv = ellipses.run(12, ("tv",))
    # means over 100 images; the first twelve differ from them by less than a decibel
    assert abs(fbp.psnr - 24.18) < 1.0 and abs(fbp.ssim - 0.594) < 0.05
    assert tv.psnr > fbp.psnr + 3 and tv.ssim > 0.85


@pytest.mark.slow
def test_published_figures_are_met_on_all_images():
    fbp, tv = ellipses.run(100, ("tv",))
    # the noise stream and the projector are not those of the publication: 0.15 dB
    assert abs(fbp.psnr - 24.18) < 0.15
    assert tv.psnr > 27.96 and tv.ssim > 0.862


def test_a_bare_deep_image_prior_has_the_settings_that_suit_the_device():
    told = []

    def stop(text):
        told.append(text)
        if "dip" in text:
            raise KeyboardInterrupt  # before the fit, which takes minutes

    with pytest.raises(KeyboardInterrupt):
        ellipses.run(1, ("dip + tv",), stop)
    assert told[-1] == "reconstructing with dip:preset=small_ct+tv"
    with pytest.raises(KeyboardInterrupt):
        ellipses.run(1, ("dip",), stop, device="cuda")
    assert told[-1] == "reconstructing with dip:preset=ct_ellipses"


def test_a_network_that_begins_at_an_image_refines_it_with_a_tenth_of_its_rate():
    first = torch.rand(1, 128, 128)
    told, options = ellipses._from(first, "dip:preset=small_ct+tv", "tv")
    assert told == "dip:preset=small_ct+tv from tv" and options["x0"] is first
    assert options["solver"].lr == pytest.approx(0.001) and repr(options["stop"]) == "MaxIterations(600)"
    assert ellipses._from(first, "tv", "tv") == ("tv", {}), "what has no network begins as ever"
    rows = ellipses.run(1, ("tikhonov:weight=1",), start="tikhonov:weight=10")
    assert rows[-1].method == "tikhonov:weight=1"


def test_the_command_prints_the_rows_and_the_published_ones(capsys):
    assert main(["benchmark", "ellipses", "--images", "2", "--prior", "tv:weight=3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in printed["rows"]] == ["FBP, Hann window, cutoff 0.7051", "tv:weight=3"]
    assert {"method": "learned primal-dual", "psnr": 32.27, "ssim": 0.9403} in printed["published"]
    assert main(["benchmark", "ellipses", "--images", "2", "--prior", "tvv"]) == 2
    assert "did you mean 'tv'" in capsys.readouterr().err
    assert main(["benchmark", "ellipses", "--device", "nowhere"]) == 2
    assert "'nowhere' cannot be used here" in capsys.readouterr().err
    assert main(["benchmark", "elipses"]) == 2
