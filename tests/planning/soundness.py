"""What every plan must be."""

import numpy as np
import pytest

import eplb
from tests.reference import rank_times


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
