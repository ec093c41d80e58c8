"""What every plan must be."""

import math

import numpy as np
import pytest

import eplb
from eplb.forecasting import forecaster_named
from eplb.planning.outlook import Assumptions, outlook_of
from tests.reference import expected_time, rank_times


def assert_sound(plan, loads, topology, distinct=True):
    """Every expert placed, ids in range, counts and certificate those of the slots, experts distinct on a rank."""
    slots = plan.placement.physical_to_logical
    again = eplb.Placement(physical_to_logical=slots, topology=topology, num_experts=np.shape(loads)[1])
    np.testing.assert_array_equal(plan.placement.replica_counts, again.replica_counts)
    for layer, load in enumerate(np.asarray(loads, dtype=np.float64)):
        largest = rank_times(slots[layer], load, topology).max()
        assert plan.certificate.per_layer.largest_load[layer] == pytest.approx(largest, rel=1e-9)
        assert plan.certificate.per_layer.lower_bound[layer] <= largest * (1 + 1e-12)
    if distinct:
        assert_experts_distinct_on_ranks(slots, topology, np.shape(loads)[1])


def assert_experts_distinct_on_ranks(slots, topology, num_experts):
    for row in slots:
        for rank in np.flatnonzero(topology.alive):
            here = row[topology.slot_offsets[rank] : topology.slot_offsets[rank + 1]]
            assert len(set(here.tolist())) == min(here.size, num_experts)


def outlook_for(loads, forecast="auto", recency=0.9, cost_per_activated_slot=0.0, horizon=1.0):
    """Return the scenarios that `eplb.plan` makes of `loads` [T, L, E] or [L, E] with the same options."""
    assumptions = Assumptions(recency=recency)
    windows = np.array(loads, dtype=np.float64, ndmin=3)
    return outlook_of(windows, forecaster_named(forecast), assumptions, cost_per_activated_slot, math.ceil(horizon))


def extras_of(outlook, layer):
    """Return what slots cost in each scenario, scaled, [E, S]; None for nothing."""
    return outlook.activated[layer] if outlook.activated.size else None


def expected_loads(placement, outlook):
    """Return the expected largest load of every layer, [L], computed slot by slot by the twin."""
    rows = enumerate(placement.physical_to_logical)
    scaled = [
        expected_time(row, outlook.scenarios[k], outlook.weights, placement.topology, extras_of(outlook, k))
        for k, row in rows
    ]
    return outlook.unscaled(np.array(scaled))


def assert_certified(plan, outlook):
    """The largest load is that of the slots under the scenarios, and the bound is not above it."""
    layers = plan.certificate.per_layer
    expected = expected_loads(plan.placement, outlook)
    np.testing.assert_allclose(layers.largest_load, expected, rtol=1e-9, atol=5e-323)
    assert (layers.lower_bound <= layers.largest_load).all()


def assert_every_expert_placed(placement):
    """What `Placement` checks of what a caller passes: ids in range in all usable slots, a replica of every expert."""
    again = eplb.Placement(
        physical_to_logical=placement.physical_to_logical,
        topology=placement.topology,
        num_experts=placement.num_experts,
    )
    np.testing.assert_array_equal(placement.replica_counts, again.replica_counts)


def assert_within(plan, previous, max_moves=None, max_moves_per_rank=None):
    """The moves are those that `Placement.moves_to` counts, and exceed no limit."""
    moves = previous.moves_to(plan.placement)
    assert plan.moves == len(moves)
    assert max_moves is None or len(moves) <= max_moves
    assert max_moves_per_rank is None or np.bincount(moves[:, 1], minlength=1).max() <= max_moves_per_rank
