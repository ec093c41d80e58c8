"""What every plan for the weighted split must be; sets of ranks are tried one by one, so ranks must be few."""

import math
from dataclasses import replace

import numpy as np

from eplb.forecasting import forecaster_named
from eplb.planning.outlook import ASSUMED, outlook_of
from tests import reference_split
from tests.planning.soundness import assert_every_expert_placed, extras_of


def outlook_for(loads, forecast="auto", recency=0.9, cost_per_activated_slot=0.0, horizon=1.0):
    """Return the scenarios that `eplb.plan` makes of `loads` [T, L, E] or [L, E] for the weighted split."""
    windows, assumptions = np.array(loads, dtype=np.float64, ndmin=3), replace(ASSUMED["weighted"], recency=recency)
    return outlook_of(windows, forecaster_named(forecast), assumptions, cost_per_activated_slot, math.ceil(horizon))


def expected_levels(placement, outlook):
    """Return the expected largest load of every layer under the exact split, [L], by trying all sets of ranks."""
    scaled = [
        reference_split.expected_level(
            row, outlook.scenarios[k], outlook.weights, placement.topology, extras_of(outlook, k)
        )
        for k, row in enumerate(placement.physical_to_logical)
    ]
    return outlook.unscaled(np.array(scaled))


def assert_certified(plan, outlook):
    """Every expert is placed; the largest load is that of the exact split, and the bound is not above it."""
    assert_every_expert_placed(plan.placement)
    layers = plan.certificate.per_layer
    np.testing.assert_allclose(layers.largest_load, expected_levels(plan.placement, outlook), rtol=1e-11, atol=5e-323)
    assert (layers.lower_bound <= layers.largest_load).all()
