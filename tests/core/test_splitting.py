"""The splitting solver against its own fixed points in closed form, and training by it."""

import math

import pytest
import torch
from torch import nn

import recon
from recon.channels import ImageChannels
from recon.linear import LinearOperator
from recon.priors import Denoiser, Functional
from recon.solvers.splitting import Splitting
from recon.stopping import MaxIterations
from recon.training.objective import Batch, Setting
from recon.training.splitting import SplitTraining

SHAPE = (4, 5)
PIXELS = 20


class Dense(LinearOperator):
    """A random matrix on images of 4 x 5."""

    def __init__(self, is_complex: bool = False, closed: bool = False, scale: float = 1.0) -> None:
        super().__init__(domain_shape=SHAPE, range_shape=(15,))
        self.domain = "complex" if is_complex else "real"
        self.closed = closed
        dtype = torch.complex128 if is_complex else torch.float64
        self.matrix = scale * torch.randn(15, PIXELS, dtype=dtype, generator=torch.Generator().manual_seed(0))

    def _forward(self, x):
        return x.flatten(-2) @ self.matrix.to(x.dtype).T

    def _adjoint(self, y):
        return (y @ self.matrix.to(y.dtype).conj()).unflatten(-1, SHAPE)

    def solve_gram(self, b, rho, terms):
        if not self.closed or len(terms) != 1:
            return None
        gram = self.matrix.conj().T @ self.matrix
        rho = rho[0].flatten()[0] if isinstance(rho[0], torch.Tensor) else rho[0]
        matrix = gram + rho * torch.eye(PIXELS, dtype=gram.dtype)
        return torch.linalg.solve(matrix, b.flatten(1).T).T.unflatten(1, SHAPE)


class Pull(Denoiser):
    """f(x) = a x + t."""

    def __init__(self, a: float = 0.3, t: float = 0.5) -> None:
        super().__init__(weight=1.0)
        self.a, self.t = a, t

    def denoise(self, x, sigma):
        return self.a * x + self.t


class Square(Functional):
    """weight/2 |x|^2, not declared as such."""

    def _penalty(self, z):
        return z.abs().square() / 2

    def _prox(self, z, threshold):
        return z / (1 + threshold)


def fixed_point(op: Dense, y: torch.Tensor, prior: Pull, eta: float, weight: float = 0.0) -> torch.Tensor:
    """2 eta (A^H (A x - y)/|A|^2 + weight x/|A|^2) + x - f(x) = 0."""
    squared = op.norm() ** 2
    gram = op.matrix.conj().T @ op.matrix / squared
    eye = torch.eye(PIXELS, dtype=gram.dtype)
    left = 2 * eta * (gram + weight / squared * eye) + (1 - prior.a) * eye
    right = 2 * eta * op.adjoint(y).flatten(1) / squared + prior.t
    return torch.linalg.solve(left, right.T).T.unflatten(1, SHAPE)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_it_reaches_the_fixed_point_of_a_linear_network(is_complex: bool, closed: bool, scale: float) -> None:
    op, prior = Dense(is_complex, closed, scale), Pull()
    y = op(torch.randn(2, *SHAPE, dtype=op.matrix.dtype, generator=torch.Generator().manual_seed(1)))
    found = recon.solve(
        op, prior, y, solver=Splitting(rho=0.5, eta=2.0, returned="x"), stop=MaxIterations(400)
    )
    expected = fixed_point(op, y, prior, eta=2.0)
    assert torch.allclose(found.image, expected, atol=1e-7, rtol=0)  # 400 loops of linear convergence


def test_functionals_join_the_data_step() -> None:
    op, prior = Dense(), Pull()
    y = op(torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    both = prior + Square(weight=4.0)
    found = recon.solve(op, both, y, solver=Splitting(eta=2.0, returned="x"), stop=MaxIterations(400))
    assert torch.allclose(found.image, fixed_point(op, y, prior, 2.0, weight=4.0), atol=1e-7, rtol=0)


def test_the_printed_dual_ends_elsewhere() -> None:
    """With b + xhat - z the fixed point has xhat = z, and x stays away from both."""
    op, prior = Dense(), Pull()
    y = op(torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    images = {
        returned: recon.solve(
            op, prior, y, solver=Splitting(eta=2.0, dual="xhat", returned=returned), stop=MaxIterations(400)
        ).image
        for returned in ("network", "x", "z")
    }
    assert torch.allclose(images["network"], images["z"], atol=1e-6)
    assert float((images["x"] - images["z"]).norm() / images["z"].norm()) > 0.01
    assert float((images["z"] - fixed_point(op, y, prior, 2.0)).norm() / images["z"].norm()) > 0.01


def test_five_loops_and_clear_errors() -> None:
    op = Dense()
    y = op(torch.ones(SHAPE, dtype=torch.float64))
    assert recon.solve(op, Pull(), y, solver=Splitting()).iterations == 5
    with pytest.raises(ValueError, match="one denoiser or learned network among the priors, got 0"):
        recon.solve(op, Square(1.0), y, solver=Splitting())
    with pytest.raises(ValueError, match="no rule for an automatic weight"):
        Splitting().start(recon.Problem(op, y, prior=Pull() + Square()))
    with pytest.raises(ValueError, match="dual must be 'x' or 'xhat', got 'y'"):
        Splitting(dual="y")  # type: ignore[arg-type]


class Fit:
    """The loop's part, plain gradient descent."""

    def __init__(self, objective: SplitTraining, epochs: int, rate: float = 0.05) -> None:
        self.epoch, self.epochs, self.steps = 0, epochs, 0
        self.parameters = objective.players()
        self.rate = rate

    def minimise(self, player, loss):
        gradients = torch.autograd.grad(loss, self.parameters[player])
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters[player], gradients, strict=True):
                parameter -= self.rate * gradient


class Affine(nn.Module):
    """a x + t."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.t = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

    def forward(self, x):
        return self.a * x + self.t


class Judge(nn.Module):
    """The mean of an image times a number."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x):
        return self.a * x.flatten(1).mean(1)


def batch_and(objective: SplitTraining, **more) -> Batch:
    op = Dense(closed=True)
    generator = torch.Generator().manual_seed(3)
    target = torch.rand(3, *SHAPE, dtype=torch.float64, generator=generator)
    y = op(target)
    objective.prepare(Setting(Affine(), ImageChannels(), SHAPE, op=op, **more))
    return Batch(op.pinv(y), target, y, op, torch.tensor([4, 0, 7]))


def run(objective: SplitTraining, batch: Batch, epochs: int = 6) -> list[float]:
    fit, losses = Fit(objective, epochs), []
    for epoch in range(epochs):
        fit.epoch = epoch
        losses.append(float(objective.step(batch, fit)["loss"]))
    return losses


@pytest.mark.parametrize("input_step", ["truth", "inference"])
def test_training_lowers_the_loss_and_follows_the_equations(input_step: str) -> None:
    objective = SplitTraining(loops=3, input_step=input_step, input_steps=200, input_rate=0.02)  # type: ignore[arg-type]
    batch = batch_and(objective)
    losses = run(objective, batch)
    assert losses[-1] < losses[0]
    before = objective.places[4].state
    network = objective.setting.network
    # the next loop by hand: z and x in closed form for an affine network
    objective.before.load_state_dict(network.state_dict())
    one = objective._problem(batch).select(torch.tensor([0]))
    after = objective._advanced(one, before, batch.target[:1], 2)
    op, rho, eta = batch.op, 0.5, 5.0
    pull = rho / (2 * eta) * op.norm() ** 2
    gram = op.matrix.T @ op.matrix + pull * torch.eye(PIXELS, dtype=torch.float64)
    v = (before.x + before.b).flatten(1)
    z = torch.linalg.solve(gram, (op.adjoint(batch.data[:1]).flatten(1) + pull * v).T).T.unflatten(1, SHAPE)
    a, t = network.a.item(), network.t.item()
    centre = z - before.b
    if input_step == "truth":  # 2 a (a x + t - target) + rho (x - centre) = 0
        x = (2 * a * (batch.target[:1] - t) + rho * centre) / (2 * a * a + rho)
    else:
        x = (a * before.x + t + rho * centre) / (1 + rho)
    assert torch.allclose(after.z, z, atol=1e-10)
    assert torch.allclose(after.x, x, atol=1e-3 if input_step == "truth" else 1e-10)  # 200 steps of Adam
    assert torch.allclose(after.b, before.b + after.x - after.z, atol=1e-12)


def test_training_goes_on_bitwise_from_its_state() -> None:
    whole = SplitTraining(loops=3)
    batch = batch_and(whole)
    run(whole, batch)
    first = SplitTraining(loops=3)
    batch = batch_and(first)
    fit = Fit(first, 6)
    for fit.epoch in range(3):
        first.step(batch, fit)
    second = SplitTraining(loops=3)
    batch_and(second)
    for name, module in second.modules().items():
        module.load_state_dict(first.modules()[name].state_dict())
    second.load_state_dict(first.state_dict())
    fit = Fit(second, 6)
    for fit.epoch in range(3, 6):
        second.step(batch, fit)
    assert torch.equal(second.setting.network.a, whole.setting.network.a)
    assert torch.equal(second.places[7].state.b, whole.places[7].state.b)


def test_a_critic_is_trained_beside_the_network() -> None:
    objective = SplitTraining(loops=2, adversarial=0.1, critic=Judge())
    batch = batch_and(objective)
    assert set(objective.players()) == {"network", "critic"}
    begin = objective.critic.a.item()
    fit = Fit(objective, 2)
    first = objective.step(batch, fit)
    assert objective.critic.a.item() != begin
    assert float(first["critic"]) == pytest.approx(
        2 * math.log(2), rel=0.1
    )  # a critic that knows nothing yet
    assert set(first) == {"mse", "critic", "adversarial", "loss"}


def test_inference_is_that_of_the_solver() -> None:
    objective = SplitTraining(loops=2)
    batch = batch_and(objective)
    run(objective, batch, epochs=2)
    a, t = objective.setting.network.a.item(), objective.setting.network.t.item()
    found = recon.solve(batch.op, Pull(a, t), batch.data, solver=Splitting(rho=0.5, eta=5.0, loops=2)).image
    assert torch.allclose(objective.reconstruct(batch), found, atol=1e-12)


def test_what_does_not_fit_is_named() -> None:
    objective = SplitTraining()
    with pytest.raises(ValueError, match="give op="):
        objective.prepare(Setting(Affine(), ImageChannels(), SHAPE))
    batch = batch_and(objective)
    fit = Fit(objective, 5)
    objective.step(batch, fit)
    fit.epoch = 2
    with pytest.raises(RuntimeError, match="every sample must be seen in every loop"):
        objective.step(batch, fit)
    with pytest.raises(ValueError, match="nothing to train on"):
        SplitTraining(content=0)


def test_a_network_that_was_trained_so_is_applied_so() -> None:
    op = Dense(closed=True)
    y = op(torch.rand(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    objective = SplitTraining(rho=0.25, eta=3.0, loops=2, decay=0.5)
    prior = recon.LearnedPrior(Affine(), end_to_end=True, card={"objective": objective.describe()})
    found = recon.solve(op, prior, y, image_range=(0.0, 1.0))
    assert "rho=0.25, eta=3" in found.provenance["solver"]["settings"]
    assert "trained in turn with the data" in found.explain()
    named = recon.solve(op, prior, y, solver=Splitting(0.25, 3.0, decay=0.5, loops=2), image_range=(0.0, 1.0))
    assert torch.equal(found.image, named.image)
    objective = SplitTraining(rho=0.25, eta=3.0, loops=2, prior=Square(1.0))
    objective.prior = Square(1.0)
    prior = recon.LearnedPrior(Affine(), end_to_end=True, card={"objective": objective.describe()})
    assert (
        "Square(weight=1.0) stood beside the data"
        in recon.solve(op, prior, y, image_range=(0.0, 1.0)).explain()
    )
    both = recon.solve(op, prior + Square(1.0), y, image_range=(0.0, 1.0))
    assert "stood beside" not in both.explain()
