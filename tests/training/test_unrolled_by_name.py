"""Every unrolled network by name from the command line: trained on an operator, kept, and used on a scan of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small_trainings import squares

import recon
from recon import registry
from recon.cli import main

NETWORKS = {
    "admm_net": "stages=2,filters=4",
    "learned_gradient": "iterations=2,memory=1,features=4",
    "learned_primal_dual": "iterations=2,primal=2,dual=2,features=4",
    "modl": "iterations=2,features=4,layers=2",
    "variational_network": "cascades=2,channels=2,levels=1",
}
OPERATORS = {
    "ct": "ct_parallel:angles=20,pixel_size=1",
    "mri": "mri_cartesian:mask='random_1d:acceleration=2'",
}


def test_no_unrolled_network_is_left_out():
    unrolled = {found.entry.name for found in registry.items("network") if "unrolled" in found.entry.tags}
    assert unrolled == set(NETWORKS)


@pytest.mark.parametrize("modality", OPERATORS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_trained_and_used_from_the_command_line(name, modality, tmp_path, capsys):
    (tmp_path / "slices").mkdir()
    for number, image in enumerate(squares(5)):
        np.save(tmp_path / "slices" / f"{number}.npy", 0.04 * image.numpy())
    op, model, scan = OPERATORS[modality], tmp_path / "model", tmp_path / "scan.h5"
    command = ["train", f"{name}:{NETWORKS[name]}", "--op", op, "--data", str(tmp_path / "slices")]
    assert main([*command, "--epochs", "1", "--batch", "2", "-o", str(model), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["architecture"]["name"] == f"recon/{name}"
    image = str(tmp_path / "slices" / "0.npy")
    assert main(["simulate", image, "--op", op, "-o", str(scan)]) == 0
    capsys.readouterr()
    assert main(["solve", str(scan), "--prior", f"{model}/", "-o", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["solver"]["name"].endswith("eedforward")
    problem, prior = recon.Problem.load(scan), recon.prior(f"{model}/")
    high = prior.image_range[1]  # the network sees images in [0, 1], and data of such images
    with torch.no_grad():
        wanted = high * prior.network(problem.operator, problem.y / high)
    found = recon.Solution.load(tmp_path / "out").image
    torch.testing.assert_close(found, wanted.reshape(found.shape), rtol=1e-4, atol=1e-6)  # float32
    assert float(found.abs().max()) > 0
