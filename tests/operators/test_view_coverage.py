"""Views that repeat: each stands for its part of what one of them would."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recon_operators.view_coverage import view_weights

import recon


@given(st.integers(2, 40), st.integers(1, 15), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_shares_add_up_and_repetitions_share(views, times, start):
    angles = tuple(start + math.pi * np.tile(np.arange(views) / views, times))
    weights = view_weights(angles)
    assert np.isclose(weights.sum(), math.pi)
    assert np.allclose(weights, math.pi / views / times)


def test_a_view_at_both_ends_of_the_period_is_one():
    angles = (0.0, 0.5, 1.0, 2.0, math.pi)
    assert np.isclose(view_weights(angles).sum(), math.pi)
    assert np.isclose(view_weights(angles)[0], view_weights(angles)[-1])


@pytest.mark.parametrize("turns", [1, 2, 12])
def test_scans_of_several_turns_keep_the_value_of_the_image(turns):
    angles = [math.pi * view / 60 for view in range(60)] * turns
    ct = recon.operator("ct_parallel", shape=(32, 32), angles=angles)
    rows, columns = torch.meshgrid(*2 * [torch.arange(32) - 15.5], indexing="ij")
    disc = (rows**2 + columns**2 < 12**2).float()
    image = ct.pinv(ct(disc))
    # inside the disc, away from its edge
    assert float(image[10:22, 10:22].mean()) == pytest.approx(1.0, abs=0.01)
