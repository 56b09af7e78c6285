"""Objectives with critics: their losses against closed forms, and what one step does."""

import copy
import math

import pytest
import torch
from recon_networks import PatchGAN, WGANVGGCritic, WGANVGGGenerator
from torch import nn
from torch.nn import functional

from recon.channels import channels_of
from recon.testing import check_objective
from recon.testing.objectives import Plain, Trial
from recon.training.adversarial import Adversarial, discriminator_loss, generator_loss
from recon.training.cyclegan import CycleGAN
from recon.training.image_pool import ImagePool
from recon.training.objective import Batch, Setting, seeded
from recon.training.players import redraw, redraw_until_alive
from recon.training.wgan import WGAN

SHAPE = (32, 32)
SMALL_CRITIC = ("wgan_vgg_critic", {"widths": (4, 6), "features": 8})
SMALL_PATCHGAN = ("patchgan", {"width": 4, "layers": 1})


class Linear(nn.Module):
    """D(x) = <w, x>."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return (x * self.weight).flatten(1).sum(1, keepdim=True)


class HalfSquare(nn.Module):
    """D(x) = |x|^2 / 2, whose gradient is x; remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.shown = []

    def forward(self, x):
        self.shown.append(x.detach())
        return 0.5 * self.scale * x.flatten(1).square().sum(1, keepdim=True)


class Scale(nn.Module):
    """x to factor * x."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return self.factor * x


def batch_of(start, target, seed=3):
    return Batch(start, target, None, None, torch.arange(len(target)), seed=seed)


def images(items=4, shape=SHAPE, seed=0):
    return torch.rand(items, *shape, generator=torch.Generator().manual_seed(seed))


def prepared(objective, network=None, shape=SHAPE):
    torch.manual_seed(0)
    network = WGANVGGGenerator(width=4, depth=3, last_relu=False) if network is None else network
    objective.prepare(Setting(network, channels_of(network), shape, seed=5))
    return objective


@pytest.mark.parametrize(
    "objective",
    [
        WGAN(content="mse", critic=SMALL_CRITIC, critic_steps=2),
        WGAN(content="none", critic=SMALL_CRITIC, critic_steps=2, fresh_batches=True),
        WGAN(content="mse", adversarial_weight=0),
        Adversarial(critic=("splitting_discriminator", {"widths": (2, 4, 4, 4, 4, 4, 4)})),
        Adversarial(critic=SMALL_PATCHGAN, form="least_squares", content="none"),
        CycleGAN(critic=SMALL_PATCHGAN, pool=4),
        CycleGAN(critic=SMALL_PATCHGAN, identity=0, pool=0),
    ],
    ids=["wgan", "wgan-fresh", "mse", "adversarial", "least-squares", "cyclegan", "cyclegan-plain"],
)
def test_an_objective_keeps_its_promises(objective):
    check_objective(objective)


# WGAN


@pytest.mark.parametrize("norm", [0.3, 1.0, 2.5])
def test_the_penalty_of_a_linear_critic_is_that_of_its_norm(norm):
    weight = torch.randn(1, 5, 7, generator=seeded(1))
    weight *= norm / weight.norm()
    objective = prepared(WGAN(content="mse", critic=Linear(weight)), shape=(5, 7))
    batch = batch_of(None, images(6, (5, 7)))
    penalty = objective.gradient_penalty(batch, images(6, (5, 7), seed=1))
    assert float(penalty.detach()) == pytest.approx((norm - 1) ** 2, abs=1e-6)  # single precision


def test_the_penalty_is_taken_between_true_and_made_images_at_one_place_a_sample():
    critic = HalfSquare()
    objective = prepared(WGAN(content="mse", critic=critic), shape=(6, 5))
    true, made = images(8, (6, 5)), images(8, (6, 5), seed=1)
    penalty = objective.gradient_penalty(batch_of(None, true), made)
    between = critic.shown[-1][:, 0]
    place = (between - made) / (true - made)
    spread = place.flatten(1).amax(1) - place.flatten(1).amin(1)
    assert (
        float(spread.max()) < 1e-2
    )  # one epsilon for all pixels; differences of single precision are divided
    epsilon = place.flatten(1).median(1).values
    assert bool(((epsilon >= 0) & (epsilon <= 1)).all()) and len(set(epsilon.tolist())) == 8
    wanted = (between.flatten(1).norm(dim=1) - 1).square().mean()
    assert float(penalty.detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_the_penalty_trains_the_critic():
    weight = torch.full((1, 4, 4), 0.5)  # of norm 2
    objective = prepared(WGAN(content="mse", critic=Linear(weight.clone())), shape=(4, 4))
    penalty = objective.gradient_penalty(batch_of(None, images(3, (4, 4))), images(3, (4, 4), seed=1))
    (gradient,) = torch.autograd.grad(penalty, objective.critic.weight)
    torch.testing.assert_close(gradient, 2 * (2 - 1) * weight / 2)  # 2 (|w| - 1) w / |w|


def test_one_step_lowers_the_critics_loss_and_separates_true_from_made():
    objective = prepared(WGAN(content="mse", critic=("wgan_vgg_critic", {"widths": (8, 8), "features": 16})))
    batch = Trial(objective, None).batch()
    made = objective.reconstruct(batch).detach()
    before, numbers = objective.critic_loss(batch, made)
    fit = Plain(objective, lr=1e-4)
    fit.minimise("critic", before)
    after, later = objective.critic_loss(batch, made)
    assert float(after.detach()) < float(before.detach())
    assert (
        later["critic_of_true"] - later["critic_of_made"]
        > numbers["critic_of_true"] - numbers["critic_of_made"]
    )
    assert fit.moves == {"network": 0, "critic": 1}


def test_the_critics_loss_is_what_it_minimises():
    weight = torch.full((1, 4, 4), 0.5)
    objective = prepared(WGAN(content="mse", critic=Linear(weight), penalty=10), shape=(4, 4))
    true, made = images(3, (4, 4)), images(3, (4, 4), seed=1)
    loss, _ = objective.critic_loss(batch_of(None, true), made)
    wanted = 0.5 * (made.sum((1, 2)).mean() - true.sum((1, 2)).mean()) + 10 * (2 - 1) ** 2
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_the_networks_loss_raises_the_critics_value():
    weight = torch.full((1, 4, 4), 0.25)
    objective = prepared(
        WGAN(content="mse", content_weight=0.1, critic=Linear(weight)), Scale(2), shape=(4, 4)
    )
    x, y = images(3, (4, 4)), images(3, (4, 4), seed=1)
    loss, numbers = objective.network_loss(batch_of(x, y))
    content = (2 * x - y).square().mean()
    assert float(numbers["content"]) == pytest.approx(float(content), rel=1e-5)
    wanted = 0.1 * content - (0.25 * 2 * x).sum((1, 2)).mean()
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_the_four_systems_are_one_objective():
    for content in ("mse", "l1"):
        alone = prepared(WGAN(content=content, adversarial_weight=0))
        assert list(alone.players()) == ["network"]
        both = prepared(WGAN(content=content, critic=SMALL_CRITIC))
        assert list(both.players()) == ["network", "critic"]
    with pytest.raises(ValueError, match="nothing to minimise"):
        WGAN(content="none", adversarial_weight=0)


@pytest.mark.parametrize(("fresh", "moves"), [(False, (6, 18)), (True, (2, 6))])
def test_the_critic_makes_several_steps_for_each_of_the_network(fresh, moves):
    objective = prepared(WGAN(content="mse", critic=SMALL_CRITIC, critic_steps=3, fresh_batches=fresh))
    fit, trial = Plain(objective), Trial(objective, None)
    for seed in range(6):
        objective.step(trial.batch(seed), fit)
    assert (fit.moves["network"], fit.moves["critic"]) == moves


def test_each_critic_step_draws_its_own_epsilons():
    critic = HalfSquare()
    objective = prepared(WGAN(content="mse", critic=critic, critic_steps=2))
    batch, made = batch_of(None, images()), images(seed=1)
    for place in range(2):
        objective.gradient_penalty(batch, made, 1000 + place)
    assert not torch.equal(critic.shown[0], critic.shown[1])


def test_a_critic_takes_the_size_of_the_patches():
    objective = prepared(WGAN(content="mse", critic="wgan_vgg_critic"), shape=(80, 80))
    assert isinstance(objective.critic, WGANVGGCritic) and objective.critic.size == 80
    with pytest.raises(ValueError, match="square patches"):
        prepared(WGAN(content="mse", critic=SMALL_CRITIC), shape=(32, 48))


def test_a_dead_network_is_drawn_anew():
    torch.manual_seed(0)
    network = WGANVGGGenerator(width=4, depth=3)
    nn.init.constant_(network.layers[-1].bias, -100.0)
    setting = Setting(network, channels_of(network), SHAPE, seed=0)
    assert redraw_until_alive(network, setting) >= 1
    assert float(network(torch.rand(1, 1, *SHAPE)).detach().max()) > 0
    before = copy.deepcopy(network.state_dict())
    assert redraw_until_alive(network, setting) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_cannot_live_is_refused():
    class Dead(nn.Conv2d):
        def forward(self, x):
            return 0 * super().forward(x)

    network = Dead(1, 1, 3, padding=1)
    with pytest.raises(ValueError, match="zero everywhere after 3 draws"):
        redraw_until_alive(network, Setting(network, channels_of(network), SHAPE), tries=3)


# Standard adversarial losses


def test_standard_losses_are_binary_cross_entropies():
    true, made = torch.randn(5, 1, generator=seeded(0)), torch.randn(5, 1, generator=seeded(1))
    one, zero = torch.ones_like(true), torch.zeros_like(true)
    entropy = functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(
        discriminator_loss(true, made, "non_saturating"), entropy(true, one) + entropy(made, zero)
    )
    torch.testing.assert_close(generator_loss(made, "non_saturating"), entropy(made, one))
    torch.testing.assert_close(generator_loss(made, "saturating"), -entropy(made, zero))
    assert float(discriminator_loss(zero, zero, "saturating")) == pytest.approx(2 * math.log(2))


def test_least_squares_losses():
    true, made = torch.tensor([[0.5], [2.0]]), torch.tensor([[0.0], [1.0]])
    assert float(discriminator_loss(true, made, "least_squares")) == pytest.approx(
        0.5 * ((0.25 + 1) / 2 + (0 + 1) / 2)
    )
    assert float(generator_loss(made, "least_squares")) == pytest.approx(0.5)
    assert float(generator_loss(torch.ones(3, 1), "least_squares")) == 0


@pytest.mark.parametrize("form", ["non_saturating", "saturating", "least_squares"])
def test_a_step_of_the_discriminator_helps_it(form):
    objective = prepared(Adversarial(critic=SMALL_PATCHGAN, form=form, adversarial_weight=1.0))
    batch = Trial(objective, None).batch()
    fit = Plain(objective)

    def loss():
        made = objective.reconstruct(batch).detach()
        judged = objective.judged(batch.target), objective.judged(made)
        return discriminator_loss(*judged, form)

    before = loss()
    fit.minimise("critic", before)
    assert float(loss().detach()) < float(before.detach())


# CycleGAN


def test_every_network_is_the_identity_on_the_images_that_it_makes():
    """As printed in one paper the domains are swapped: G would learn to copy its noisy input."""
    objective = prepared(CycleGAN(critic=SMALL_PATCHGAN), Scale(1.5))
    with torch.no_grad():
        objective.backward.factor.fill_(0.5)
    x, y = images(), 3 + images(seed=1)
    terms = objective.network_terms(x, y, objective.forth(x), objective.back(y))
    assert float(terms["identity"].detach()) == pytest.approx(
        float(0.5 * x.mean() + 0.5 * y.mean()), rel=1e-5
    )
    assert float(terms["cycle"].detach()) == pytest.approx(float(0.25 * x.mean() + 0.25 * y.mean()), rel=1e-5)
    with torch.no_grad():
        objective.setting.network.factor.fill_(1.0)
        objective.backward.factor.fill_(2.0)
    terms = objective.network_terms(x, y, objective.forth(x), objective.back(y))
    assert float(terms["identity"].detach()) == pytest.approx(float(x.mean()), rel=1e-5)  # |F(x) - x| alone


def test_each_critic_judges_its_own_kind():
    objective = prepared(CycleGAN(critic=HalfSquare(), pool=0, identity=0, cycle=0), Scale(2))
    of_target, of_input = objective.critic_of_target, objective.critic_of_input
    assert of_target is not of_input
    with torch.no_grad():
        objective.backward.factor.fill_(0.5)
    x, y = images(2), images(2, seed=1)
    objective.step(batch_of(x, y), Plain(objective, lr=0.0))
    for critic, made, true in ((of_target, 2 * x, y), (of_input, 0.5 * y, x)):
        assert [torch.equal(a[:, 0], b) for a, b in zip(critic.shown, (made, true, made), strict=True)] == [
            True
        ] * 3


def test_the_weights_of_the_terms():
    torch.manual_seed(0)
    objective = prepared(CycleGAN(cycle=10, identity=5, critic=SMALL_PATCHGAN), Scale(1.5))
    numbers = objective.step(batch_of(images(), images(seed=1)), Plain(objective))
    wanted = numbers["adversarial"] + 10 * numbers["cycle"] + 5 * numbers["identity"]
    assert float(numbers["loss"]) == pytest.approx(float(wanted), rel=1e-6)


def test_the_two_networks_and_the_two_critics_begin_apart():
    network = WGANVGGGenerator(width=4, depth=3)
    objective = prepared(CycleGAN(critic=SMALL_PATCHGAN), network)
    for a, b in (
        (network, objective.backward),
        (objective.critic_of_target, objective.critic_of_input),
    ):
        assert not torch.equal(next(a.parameters()), next(b.parameters()))
    players = objective.players()
    assert list(players) == ["network", "critics"]
    assert len(players["network"]) == 2 * len(list(network.parameters()))


def test_new_start_values_are_the_networks_own():
    torch.manual_seed(0)
    critic = PatchGAN(width=16)
    before = critic.layers[2].weight.detach().clone()
    redraw(critic, 1)
    again = critic.layers[2].weight.detach().clone()
    assert not torch.equal(before, again)
    assert abs(float(again.std()) - 0.02) < 0.001  # 8192 values: 1 % error
    redraw(critic, 1)
    assert torch.equal(critic.layers[2].weight, again)


def test_a_pool_shows_what_is_new_until_it_is_full():
    pool = ImagePool(3)
    generators = [seeded(place) for place in range(3)]
    new = images(3, (2, 2))
    assert torch.equal(pool.exchange(new, generators), new)
    assert torch.equal(torch.stack(pool.kept), new)


def test_a_full_pool_shows_an_earlier_image_about_every_second_time():
    pool = ImagePool(5)
    old = []
    for place in range(400):
        new = torch.full((1, 1, 1), float(place))
        shown = pool.exchange(new, [seeded(7, place)])
        if place >= 5:
            old.append(float(shown) != place)
    assert 0.4 < sum(old) / len(old) < 0.6  # four standard deviations of 395 tosses
    assert len(pool.kept) == 5
    kept = sorted(float(image) for image in pool.kept)
    assert len(set(kept)) == 5 and kept[0] > 300  # images leave: the chance to stay 100 steps is 0.9^100


def test_an_image_that_was_swapped_out_is_not_shown_again():
    pool, seen = ImagePool(2), []
    for place in range(200):
        seen.append(float(pool.exchange(torch.full((1, 1), float(place)), [seeded(place)])))
    swapped = [value for place, value in enumerate(seen) if value != place]
    assert len(swapped) == len(set(swapped))


def test_a_pool_is_resumed_and_refuses_a_larger_one():
    pool, other = ImagePool(2), ImagePool(2)
    pool.exchange(images(2, (3, 3)), [seeded(0), seeded(1)])
    other.load_state_dict(pool.state_dict())
    assert torch.equal(torch.stack(other.kept), torch.stack(pool.kept))
    with pytest.raises(ValueError, match="holds 2 images, this pool keeps 1"):
        ImagePool(1).load_state_dict(pool.state_dict())
    with pytest.raises(ValueError, match="0 images or more"):
        ImagePool(-1)


def test_a_pool_of_none_passes_everything():
    new = images(3, (2, 2))
    assert ImagePool(0).exchange(new, []) is new


def test_cyclegan_says_what_it_misses():
    objective = prepared(CycleGAN(critic=SMALL_PATCHGAN), Scale(1))
    with pytest.raises(ValueError, match="images of both kinds"):
        objective.step(batch_of(None, images()), Plain(objective))
