"""The forecasts against twins that work out each entry from the windows before it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.forecasting import Auto, DriftAware, Exponential
from eplb.forecasting.auto import CANDIDATES, FORGETTING
from tests import reference

LOAD = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5, 1e-300]))


@st.composite
def windows(draw):
    """Draw loads [T, 2, 3] as scaling leaves them."""
    num_windows = draw(st.integers(1, 7))
    return np.array(draw(st.lists(LOAD, min_size=6 * num_windows, max_size=6 * num_windows))).reshape(-1, 2, 3)


@settings(deadline=None, max_examples=150)
@given(loads=windows(), decay=st.sampled_from([0.0, 0.3, 0.9, 1.0]), pull=st.sampled_from([0.0, 0.4, 1.0]))
def test_discounted_means_are_those_of_the_twin(loads, decay, pull):
    """Running means equal the weighted sums over all windows so far."""
    expected = reference.discounted(loads, decay, pull)
    np.testing.assert_allclose(Exponential(decay=decay, pull=pull).forecast(loads), expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=150)
@given(loads=windows(), slowest=st.sampled_from([0.2, 0.5, 1.0]))
def test_the_drifting_level_is_that_of_the_twin(loads, slowest):
    """A level, its smoothed errors and their absolute values, layer by layer."""
    expected = reference.drifting(loads, slowest)
    np.testing.assert_allclose(DriftAware(slowest=slowest).forecast(loads), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_auto_chooses_as_a_backtest_does(seed):
    """At each window and layer, the candidate with the least discounted squared error so far."""
    rng = np.random.default_rng(seed)
    loads = rng.lognormal(0, 0.5, (12, 3, 5)) * (1 + rng.random((3, 5)) * np.arange(12)[:, None, None])
    candidates = [reference.discounted(loads, decay, pull) for decay, pull in CANDIDATES]
    candidates = np.stack([*candidates, reference.drifting(loads, DriftAware().slowest)])
    forecasts, chosen = Auto().forecast_and_choice(loads)
    errors = reference.squared_errors(loads, candidates, FORGETTING)
    of_chosen = np.take_along_axis(errors, chosen[None], axis=0)[0]
    np.testing.assert_allclose(of_chosen, errors.min(axis=0), rtol=1e-9, atol=1e-12)
    expected = np.take_along_axis(candidates, chosen[None, :, :, None], axis=0)[0]
    np.testing.assert_allclose(forecasts, expected, rtol=1e-9)
