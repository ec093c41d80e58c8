"""The scenarios that a plan is made for, and the bound over them, against their twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import Topology
from eplb.forecasting import Exponential, forecaster_named
from eplb.kernels.windows.bounds import bound_layers
from eplb.kernels.windows.scenarios import scale_windows
from eplb.planning.layout import layout_of
from eplb.planning.outlook import ALL_ZERO, Assumptions, outlook_of
from tests import reference

HOSTILE = st.one_of(
    st.floats(0, 1.7e308, allow_subnormal=True), st.sampled_from([0.0, 1.0, 5e-324, 1e-300, 1e300, 2.0**-1022])
)


@settings(deadline=None, max_examples=200)
@given(row=st.lists(HOSTILE, min_size=4, max_size=4))
def test_layers_are_scaled_by_a_power_of_two(row):
    """The largest load becomes 0.5 to 1; what is not lost below the floats comes back; zeros become ones."""
    windows, exponents = np.array(row).reshape(2, 1, 2), np.empty(1, dtype=np.int64)
    scaled = np.empty_like(windows)
    scale_windows(0, 1, windows, scaled, exponents)
    if not windows.any():
        assert (scaled == 1).all()
        assert exponents[0] == ALL_ZERO
        return
    assert 0.5 <= scaled.max() < 1
    kept = windows > windows.max() * 2.0**-1000
    np.testing.assert_array_equal(np.ldexp(scaled[kept], exponents[0]), windows[kept])


@pytest.fixture
def windows(rng):
    """Five windows of two layers; the largest load of each layer is below 1, as scaling leaves it."""
    loads = rng.lognormal(0, 1, (5, 2, 6))
    return loads / 2 ** np.ceil(np.log2(loads.max(axis=(0, 2)) * 1.001))[None, :, None]


@pytest.mark.parametrize("ahead", [1, 2, 4, 9])
@pytest.mark.parametrize("options", [{}, {"spread": 0.0}, {"spread": 2.0}, {"together": False}], ids=str)
def test_scenarios_are_those_of_the_twin(windows, options, ahead):
    """The windows, and the forecast with the errors of forecasts made up to so many windows before."""
    outlook = outlook_of(windows, Exponential(), Assumptions(recency=0.8, **options), 0.0, ahead)
    twin = reference.scenarios(windows, reference.discounted(windows, 0.5, 0.0), 0.8, ahead, **options)
    np.testing.assert_allclose(outlook.scenarios, twin, rtol=1e-12, atol=1e-14)


def test_weights_favour_the_recent(windows):
    """In the windows and around the forecast, each weighs 0.8 of the next; all sum to 1 and make up the means."""
    assumptions = Assumptions(recency=0.8, recorded_share=0.3, forecast_share=0.1)
    outlook, recent = outlook_of(windows, Exponential(), assumptions, 0.0), reference.recency_weights(5, 0.8)
    np.testing.assert_allclose(outlook.weights, np.concatenate([0.3 * recent, 0.6 * recent, [0.1]]), rtol=1e-12)
    np.testing.assert_allclose(outlook.means, outlook.scenarios @ outlook.weights, rtol=1e-12)


def test_windows_that_weigh_next_to_nothing_are_left_out(windows):
    """With a recency of 0.05, the last three windows are all that weigh a thousandth; the forecaster sees all five."""
    outlook = outlook_of(windows, Exponential(), Assumptions(recency=0.05), 0.25)
    twin = reference.scenarios(windows[2:], reference.discounted(windows, 0.5, 0.0)[2:], 0.05)
    np.testing.assert_allclose(outlook.scenarios, twin, rtol=1e-12, atol=1e-14)
    assert outlook.activated.shape == twin.shape
    assert outlook.weights.sum() == pytest.approx(1)


def test_scenarios_around_the_forecast_average_to_it(windows):
    """Errors are centred: as long as no load is cut off at zero, their weighted mean is the forecast."""
    steady = 0.5 + 0.1 * windows
    outlook = outlook_of(steady, Exponential(), Assumptions(recency=0.8), 0.0)
    coming = outlook.scenarios[:, :, 5:10] @ reference.recency_weights(5, 0.8)
    np.testing.assert_allclose(coming, outlook.scenarios[:, :, 10], rtol=1e-12)


def test_errors_of_experts_stay_together(windows):
    """What two experts do at once in the windows, they do at once in the scenarios: the same window errs for both."""
    windows[:, :, 1] = windows[:, :, 0]
    outlook = outlook_of(windows, forecaster_named("auto"), Assumptions(), 0.0)
    np.testing.assert_array_equal(outlook.scenarios[:, 0], outlook.scenarios[:, 1])


def test_one_window_is_its_own_only_scenario(windows):
    """Nothing is forecast from it."""
    outlook = outlook_of(windows[:1].copy(), Exponential(), Assumptions(), 0.0)
    np.testing.assert_array_equal(outlook.scenarios[:, :, 0], outlook.means)
    np.testing.assert_array_equal(np.ldexp(outlook.means, outlook.exponents[:, None]), windows[0])
    assert outlook.weights.tolist() == [1.0]


def test_experts_without_tokens_cost_no_slot(windows):
    """`activated` is the cost, in the unit of the layer, where the window of the scenario (or the last) has tokens."""
    windows[[2, 4], 0, 3] = 0.0
    outlook = outlook_of(windows, Exponential(), Assumptions(), 0.25)
    cost = outlook.scaled(0.25)
    expected = np.broadcast_to(cost[:, None, None], (2, 6, 11)).copy()
    expected[0, 3, [2, 4, 7, 9, 10]] = 0.0
    np.testing.assert_array_equal(outlook.activated, expected)


@pytest.mark.parametrize("seed", range(30))
def test_the_bound_of_each_scenario_is_below_its_optimum(seed):
    """Brute force over the placements of one scenario at a time; the bound averages over scenarios."""
    rng = np.random.default_rng(seed)
    slots = rng.integers(1, 4, 3).tolist()
    num_experts = int(rng.integers(max(slots), min(5, sum(slots)) + 1))
    topology = Topology(num_ranks=3, slots_per_rank=slots, rank_speeds=rng.choice([0.5, 1.0, 2.0], 3))
    loads, weights = rng.pareto(1, (num_experts, 4)), reference.recency_weights(4, 0.7)
    layout, means, bounds = layout_of(topology, 1), np.empty(1), np.empty(1)
    bound_layers(0, 1, loads[None], np.zeros((1, 0, 0)), weights, layout.offsets, layout.costs, means, bounds)
    best = sum(w * reference.optimum(loads[:, s], topology) for s, w in enumerate(weights))
    assert means[0] == pytest.approx(loads.sum(axis=0) @ weights / topology.speeds.sum())
    assert means[0] * (1 - 1e-12) <= bounds[0] <= best * (1 + 1e-9)
