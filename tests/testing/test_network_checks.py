"""The checks of networks and objectives pass faultless ones and catch the fault that each is there for, in words."""

import re
import textwrap

import pytest
import torch
from torch import nn

from recon.testing import cases, check_network, check_objective, network_checks, objective_checks
from recon.testing.running import judge
from recon.training.objective import Objective
from recon.training.supervised import Supervised


class Plain(nn.Module):
    """One convolution: a faultless network to spoil."""

    in_channels = 2
    out_channels = 1

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        return self.layer(x)


class Halved(Plain):
    def forward(self, x):
        return nn.functional.interpolate(self.layer(x)[..., ::2, ::2], scale_factor=2)


class Idle(Plain):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))


class Cut(Plain):
    def forward(self, x):
        return self.layer(x).detach()


class BatchMean(Plain):
    def forward(self, x):
        return self.layer(x) - x.mean()


class Writes(Plain):
    def forward(self, x):
        return self.layer(x.mul_(0.5))


class Restless(Plain):
    def forward(self, x):
        return self.layer(x) + torch.rand_like(x[:, :1])


class Single(Plain):
    def forward(self, x):
        return self.layer(x).float()


class Counts(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.layer(x)


class Extra(Plain):
    """State that is no tensor."""

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


class OnePerBatch(Plain):
    critic = True

    def forward(self, x):
        return self.layer(x).mean().reshape(1, 1)


class Conditioned(Plain):
    conditioned = True

    def forward(self, x, sigma):
        return self.layer(x) * sigma.reshape(-1, 1, 1, 1)


class Unrolled(nn.Module):
    needs_operator = True

    def __init__(self):
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.1))

    def forward(self, op, y):
        return self.step * op.adjoint(y)


@pytest.mark.parametrize("network", [Plain(), Conditioned(), Unrolled(), nn.Conv2d(1, 1, 3, padding=1)])
def test_a_faultless_network_passes(network):
    assert "safetensors" in check_network(network)


@pytest.mark.parametrize(
    ("network", "check", "words"),
    [
        (Halved, "shapes", "Pad to what it needs, then|expected \\(2, 1, 33, 32\\)"),
        (Idle, "gradients", "does not depend on unused: freeze or remove it"),
        (Cut, "gradients", "cut from the graph"),
        (BatchMean, "batch_equals_loop", "is a normalisation taken over the batch"),
        (Writes, "input_unchanged", "an in-place operation"),
        (Restless, "deterministic", "is dropout left on"),
        (Single, "dtypes", "float64 images give torch.float32"),
        (Counts, "evaluation_keeps_state", "changes calls"),
        (Extra, "safetensors", "_extra_state is a dict, expected tensors only"),
        (OnePerBatch, "shapes", "expected \\(2, ...\\)"),
    ],
)
def test_a_fault_is_caught_and_named(network, check, words):
    verdict = judge(network_checks(network())[check])
    assert verdict.status == "failed" and re.search(words, verdict.message), verdict


def test_checking_leaves_the_mode_of_every_part():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    network[1].eval()
    check_network(network)
    assert [layer.training for layer in network] == [True, False, True]


class Still(Supervised):
    def step(self, batch, fit):
        return {"loss": torch.zeros(())}


class Draws(Supervised):
    def step(self, batch, fit):
        batch.target = batch.target + torch.rand_like(batch.target)
        return super().step(batch, fit)


class Remembers(Supervised):
    count = 0

    def step(self, batch, fit):
        self.count += 1
        return {**super().step(batch, fit), "count": torch.tensor(self.count)}


class Attached(Objective):
    def step(self, batch, fit):
        loss = self.reconstruct(batch).square().mean()
        fit.minimise("network", loss)
        return {"loss": loss}


def test_a_faultless_objective_passes():
    assert "resume" in check_objective(Supervised("l1"))


@pytest.mark.parametrize(
    ("objective", "check", "words"),
    [
        (Still, "step", "do not move the player network"),
        (Draws, "same_again", "draw from batch.generators"),
        (Remembers, "resume", "belongs into state_dict"),
        (Attached, "step", "expected one finite number, detached"),
    ],
)
def test_a_fault_of_an_objective_is_caught_and_named(objective, check, words):
    verdict = judge(objective_checks(objective())[check])
    assert verdict.status == "failed" and words in verdict.message, verdict


def test_a_network_in_a_file_is_checked_unless_it_is_part_of_something_else(tmp_path):
    network = """
        import recon
        from torch import nn

        class Mine(nn.Module):
            def __init__(self, width: int = 2):
                super().__init__()
                self.layers = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 1))

            def forward(self, x):
                return self.layers(x)
        """
    (tmp_path / "net.py").write_text(textwrap.dedent(network))
    found = list(cases(str(tmp_path / "net.py")))
    assert {case.kind for case in found} == {"network"}
    assert all(case.judge().status in ("passed", "skipped") for case in found)
    denoiser = """
        class Smooth(recon.Denoiser):
            def __init__(self):
                super().__init__()
                self.network = Mine()

            def _denoise(self, x, sigma):
                return self.network(x[:, None])[:, 0]
        """
    (tmp_path / "both.py").write_text(textwrap.dedent(network) + textwrap.dedent(denoiser))
    assert {case.item for case in cases(str(tmp_path / "both.py"))} == {"both.py:Smooth"}


class Volumes(nn.Module):
    """Says nothing of its images: its first convolution does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv3d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.layer(x)


class Enlarges(nn.Module):
    """From a latent input to an image of four times the size."""

    latent = True
    out_channels = 1

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return nn.functional.interpolate(self.layer(x), scale_factor=4.0)


@pytest.mark.parametrize("network", [Volumes(), Enlarges()])
def test_volumes_and_latent_inputs(network):
    check_network(network)
