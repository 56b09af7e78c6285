"""Random column masks: exact rate, full centre, seeds, densities."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators.sampling import random_1d


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
