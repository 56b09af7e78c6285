"""Sampling masks: exact rates, full centres, seeds, densities, distances; masks by name."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators import CartesianMRI
from recon_operators.sampling import (
    MASKS,
    equispaced,
    make_mask,
    partial_fourier,
    poisson_disc,
    radial,
    random_1d,
    random_2d,
)
from scipy.spatial import cKDTree

ACCELERATED = {name: make for name, make in MASKS.items() if make is not partial_fourier}


@given(
    st.integers(1, 6),
    st.integers(8, 64),
    st.floats(1, 6),
    st.floats(0, 0.16),
    st.sampled_from(["uniform", "gaussian"]),
    st.integers(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_rate_and_centre_are_exact(height, width, acceleration, fraction, density, seed):
    mask = random_1d((height, width), acceleration, fraction, density=density, seed=seed)
    assert mask.shape == (height, width)
    assert mask.dtype == torch.float32
    assert bool((mask == mask[:1]).all())
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert int(mask[0].sum()) == round(width / acceleration)
    band = round(width * fraction)
    start = width // 2 - band // 2
    assert bool(mask[:, start : start + band].all())
    if band:
        assert start <= width // 2 < start + band  # the zero frequency is in it


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    masks = [random_1d((4, 64), seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(random_1d((4, 64), seed=generator), masks[0])
    assert not torch.equal(random_1d((4, 64), seed=generator), masks[0])  # it went on
    assert torch.equal(torch.get_rng_state(), state)


def test_the_densities_are_what_they_say():
    shape, draws = (1, 101), 400
    counts = {
        density: sum(random_1d(shape, 5, 0.05, density=density, seed=seed)[0] for seed in range(draws))
        for density in ("uniform", "gaussian")
    }
    outside = (torch.arange(101) - 50).abs() > 2
    expected = draws * 15 / 96  # 20 columns, 5 of them in the band
    uniform = counts["uniform"][outside]
    assert float(uniform.mean()) == pytest.approx(expected)
    assert float((uniform - expected).abs().max()) < 5 * expected**0.5  # binomial spread
    near, far = counts["gaussian"][40:48].mean(), counts["gaussian"][:10].mean()
    assert float(near) > 5 * float(far)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"acceleration": 20, "centre_fraction": 0.2}, "13 columns, but acceleration 20 leaves 3 of 64"),
        ({"acceleration": 0.5}, "acceleration must lie between 1 and the 64 columns, got 0.5"),
        ({"acceleration": 65}, "acceleration must lie between 1 and the 64 columns, got 65"),
        ({"centre_fraction": 1.5}, "centre_fraction must lie between 0 and 1, got 1.5"),
        ({"density": "poisson"}, "density must be 'uniform' or 'gaussian', got 'poisson'"),
    ],
)
def test_impossible_masks_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        random_1d((64, 64), **arguments)


def middle(shape, fraction):
    """The fully sampled rectangle, as a mask."""
    sides = [round(side * fraction) for side in shape]
    starts = [side // 2 - inner // 2 for side, inner in zip(shape, sides, strict=True)]
    mask = torch.zeros(shape)
    mask[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))] = 1
    return mask


@given(
    st.sampled_from([random_2d, poisson_disc]),
    st.integers(9, 40),
    st.integers(9, 40),
    st.floats(1, 8),
    st.floats(0, 0.3),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_rate_and_centre_of_points_are_exact(make, height, width, acceleration, fraction, seed):
    mask = make((height, width), acceleration, fraction, seed=seed)
    assert mask.shape == (height, width)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert int(mask.sum()) == round(height * width / acceleration)
    assert bool((mask >= middle((height, width), fraction)).all())


@given(st.integers(1, 6), st.integers(8, 64), st.floats(1, 6), st.floats(0, 0.16), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_equispaced_columns_are_exact_in_number_and_even(height, width, acceleration, fraction, seed):
    mask = equispaced((height, width), acceleration, fraction, seed=seed)
    assert bool((mask == mask[:1]).all())
    assert int(mask[0].sum()) == round(width / acceleration)
    band = middle((width,), fraction)
    assert bool((mask[0] >= band).all())
    places = torch.nonzero(mask[0][band == 0]).squeeze(1)  # counted without the band
    if len(places) > 1:
        steps = places.diff()
        assert int(steps.max() - steps.min()) <= 1


@pytest.mark.parametrize("acceleration", [3, 4, 5, 10])
@pytest.mark.parametrize("shape", [(256, 256), (192, 160), (65, 96)])
def test_radial_masks_come_within_one_line_of_the_rate(shape, acceleration):
    wanted = math.prod(shape) / acceleration
    for seed in range(3):
        measured = float(radial(shape, acceleration, seed=seed).sum())
        assert abs(measured - wanted) <= max(shape)


def test_a_radial_mask_is_lines_through_the_middle():
    mask = radial((65, 65), 8)
    assert mask[32, 32] == 1
    assert float((mask == mask.flip(0, 1)).float().mean()) > 0.98  # symmetric but for the rounding of halves
    rings = torch.hypot(*torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij"))
    counts = [float(mask[(rings >= r) & (rings < r + 4)].sum()) for r in (12, 18, 24)]
    assert max(counts) <= 1.2 * min(counts)  # as many points on every ring: the density falls as 1 / r
    assert bool(mask[rings < 2].all())


@pytest.mark.parametrize("acceleration", [3, 4, 5])
@pytest.mark.parametrize("family", ["radial", "random_2d", "random_1d"])
def test_the_three_families_of_the_admm_regularisation_paper(family, acceleration):
    """Liu, Kuang and Zhang 2018 sample 192 x 160 images at 1/5, 1/4 and 1/3."""
    mask = make_mask(f"{family}:acceleration={acceleration}", (192, 160))
    rate = float(mask.mean())
    assert rate == pytest.approx(1 / acceleration, rel=0.01)
    assert mask[96, 80] == 1


def distance_from_middle(points, shape):
    return sum(((points[:, axis] - shape[axis] // 2) / (shape[axis] / 2)) ** 2 for axis in (0, 1)).sqrt()


@pytest.mark.parametrize("growth", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("acceleration", "seed"), [(4, 0), (8, 1)])
def test_poisson_disc_points_keep_their_distance(growth, acceleration, seed):
    shape = (96, 80)
    mask = poisson_disc(shape, acceleration, 0.1, growth=growth, seed=seed)
    points = torch.nonzero(mask - middle(shape, 0.1)).to(torch.float64)
    relative = 1 + growth * distance_from_middle(points, shape)
    pairs = torch.from_numpy(cKDTree(points.numpy()).query_pairs(30, output_type="ndarray"))
    apart = (points[pairs[:, 0]] - points[pairs[:, 1]]).norm(dim=1)
    spacing = float((apart / relative[pairs].amax(1)).min())  # the s0 that all pairs keep
    # a hexagonal packing would reach s0^2 = 2/sqrt(3) / sum(1 / relative^2 per sample); darts reach 70 % of it
    best = math.sqrt(2 / math.sqrt(3) * mask.numel() / len(points)) / float(relative.mean())
    assert spacing > 0.6 * best
    independent = torch.nonzero(random_2d(shape, acceleration, 0.1, density="uniform") - middle(shape, 0.1))
    nearest = cKDTree(independent.numpy()).query(independent.numpy(), 2)[0][:, 1]
    assert nearest.min() == 1  # which independent points do not


def test_the_spacing_of_a_poisson_disc_grows_outwards():
    shape = (128, 128)
    points = torch.nonzero(poisson_disc(shape, 8, 0.05, growth=3.0)).to(torch.float64)
    nearest = torch.from_numpy(cKDTree(points.numpy()).query(points.numpy(), 2)[0][:, 1])
    away = distance_from_middle(points, shape)
    inner, outer = nearest[(away > 0.15) & (away < 0.3)].mean(), nearest[(away > 0.9) & (away < 1.1)].mean()
    assert float(outer / inner) == pytest.approx((1 + 3 * 1.0) / (1 + 3 * 0.225), rel=0.25)


@pytest.mark.parametrize("name", sorted(ACCELERATED))
def test_every_mask_has_a_seed_and_leaves_the_global_generator_alone(name):
    state = torch.get_rng_state()
    masks = [make_mask((name, {"seed": seed}), (48, 40)) for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", sorted(ACCELERATED))
def test_everything_is_measured_without_acceleration(name):
    centre = {"centre_fraction": 0.0}
    assert float(make_mask((name, {"acceleration": 1.0, **centre}), (12, 9)).min()) == 1


def test_an_operator_takes_a_mask_by_name():
    expected = radial((24, 20), 5, seed=2)
    for spec in ("radial:acceleration=5,seed=2", ("radial", {"acceleration": 5, "seed": 2})):
        assert torch.equal(CartesianMRI(spec, shape=(24, 20)).mask, expected)
        maps = torch.ones(2, 24, 20)
        assert torch.equal(CartesianMRI(spec, maps).mask, expected)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        (
            "random_1d",
            ValueError,
            r"mask 'random_1d' does not tell the size of the image: give shape=\(H, W\)",
        ),
        ("randm_1d", FileNotFoundError, "no mask 'randm_1d'; did you mean 'random_1d'?"),
        (("radal", {}), ValueError, "no mask 'radal'; did you mean 'radial'?"),
        (("radial", 5), ValueError, r'"name:argument=value" or \("name", \{arguments\}\)'),
        (("radial", {"rate": 5}), TypeError, "mask radial has no parameter 'rate'"),
        (("radial", {"acceleration": 0.5}), ValueError, "acceleration=0.5 must be >= 1"),
    ],
)
def test_a_name_that_is_none_is_refused(spec, error, said):
    shape = None if spec == "random_1d" else (8, 8)
    with pytest.raises(error, match=said):
        CartesianMRI(spec, shape=shape)


@pytest.mark.parametrize("make", ACCELERATED.values())
def test_shapes_and_seeds_that_are_none_are_refused(make):
    for shape in ((8,), (8, 8, 8), (0, 8), (8.0, 8)):
        with pytest.raises(ValueError, match=r"shape must be \(H, W\) of the k-space"):
            make(shape)
    with pytest.raises(TypeError, match="seed must be a whole number or a torch.Generator, got 1.5"):
        make((8, 8), 2.0, 0.0, seed=1.5)


def test_a_centre_larger_than_the_rate_is_refused():
    for make in (random_2d, poisson_disc, radial):
        with pytest.raises(ValueError, match="centre has 16 points, but acceleration 8 leaves 8 of 64"):
            make((8, 8), 8, 0.5)
    with pytest.raises(ValueError, match="growth must be a number >= 0, got -1"):
        poisson_disc((8, 8), growth=-1)


@given(st.lists(st.integers(2, 12), min_size=2, max_size=3), st.floats(0.51, 1), st.integers(-3, 2))
@settings(max_examples=60, deadline=None)
def test_partial_fourier_measures_the_first_lines_up_to_beyond_the_zero_frequency(shape, fraction, axis):
    axis = max(-len(shape), min(axis, len(shape) - 1))
    side = shape[axis]
    lines = round(side * fraction)
    if lines <= side // 2:
        with pytest.raises(ValueError, match=f"of {side} lines are {lines}, which leave out the zero"):
            partial_fourier(shape, fraction, axis)
        return
    mask = partial_fourier(shape, fraction, axis).movedim(axis, 0)
    assert bool(mask[:lines].all()) and not bool(mask[lines:].any())
    assert mask[side // 2].all()


def test_masks_are_multiplied_by_name():
    product = make_mask("random_1d:acceleration=2,seed=1 * partial_fourier:fraction=0.6", (6, 40))
    assert torch.equal(product, random_1d((6, 40), 2, seed=1) * partial_fourier((6, 40), 0.6))
    spec = "partial_fourier:axis=0*random_1d:acceleration=2"
    assert torch.equal(CartesianMRI(spec, shape=(6, 40)).mask, make_mask(spec, (6, 40)))
    with pytest.raises(ValueError, match="no mask 'radail'; did you mean 'radial'"):
        make_mask("partial_fourier * radail", (8, 8))
    nothing = "partial_fourier:fraction=0.55 * random_1d:acceleration=20,centre_fraction=0,seed=2"
    with pytest.raises(ValueError, match="have no sample in common"):
        make_mask(nothing, (4, 40))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((8,),), r"shape must be \(H, W\) or \(D, H, W\)"),
        (((8, 8), 0.5), "fraction must lie between 0.5 and 1, got 0.5"),
        (((8, 8), 0.6, 2), r"axis must be one of the 2 of shape \(8, 8\), got 2"),
    ],
)
def test_partial_fourier_refuses_what_is_no_part(arguments, said):
    with pytest.raises(ValueError, match=said):
        partial_fourier(*arguments)
