"""Ranks lost for good: what survives, what is loaded again, and where to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eplb
from eplb import InfeasibleError, LoadsError, OptionError, Placement, PlacementError, Topology
from eplb.migration import plan_transfers, recover
from tests import reference_migration as reference

TOPOLOGY = Topology(num_ranks=4, slots_per_rank=2, num_nodes=2)
PLACEMENT = Placement(physical_to_logical=[[0, 1, 1, 2, 2, 3, 2, 4]], topology=TOPOLOGY)


@pytest.fixture(scope="module")
def loss():
    """Return a function that makes a random placement and ranks whose loss leaves slots for all experts."""

    def make(seed):
        rng = np.random.default_rng(seed)
        topology = reference.random_machine(rng)
        num_experts = int(rng.integers(1, topology.num_usable_slots + 1))
        rows = [reference.random_row(rng, topology, num_experts) for _ in range(4)]
        lost = []
        for rank in rng.permutation(np.flatnonzero(topology.alive)):
            dead = [*lost, rank]
            if topology.slot_counts[topology.alive].sum() - topology.slot_counts[dead].sum() >= num_experts:
                lost = dead
        return Placement(physical_to_logical=rows, topology=topology, num_experts=num_experts), lost

    return make


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_expert_is_placed_again_with_as_few_reloads_as_can_be(loss, seed):
    """`Placement` checks coverage; a slot changes only where an expert that nobody holds is loaded."""
    placement, lost_ranks = loss(seed)
    recovery = recover(placement, lost_ranks)
    found, rank_of_slot = recovery.placement, placement.topology.rank_of_slot
    assert not found.topology.alive[lost_ranks].any()
    changed = found.physical_to_logical != placement.physical_to_logical
    changed &= found.physical_to_logical >= 0
    assert sorted([entry.layer, entry.slot] for entry in recovery.reloads) == np.argwhere(changed).tolist()
    assert [[entry.layer, entry.expert] for entry in recovery.reloads] == recovery.lost.tolist()
    for entry in recovery.reloads:
        assert found.physical_to_logical[entry.layer, entry.slot] == entry.expert
        assert rank_of_slot[entry.slot] == entry.rank and found.topology.alive[entry.rank]


@given(seed=st.integers(0, 2**32 - 1))
def test_experts_of_lost_ranks_survive_or_are_lost(loss, seed):
    """The two lists hold each expert that lost a replica once, told by the replicas elsewhere."""
    placement, lost_ranks = loss(seed)
    recovery, rank_of_slot = recover(placement, lost_ranks), placement.topology.rank_of_slot
    for layer, row in enumerate(placement.physical_to_logical):
        gone = np.isin(rank_of_slot, lost_ranks) & (row >= 0)
        hit, left = set(row[gone].tolist()), set(row[~gone & (row >= 0)].tolist())
        assert set(recovery.surviving[recovery.surviving[:, 0] == layer, 1].tolist()) == hit & left
        assert set(recovery.lost[recovery.lost[:, 0] == layer, 1].tolist()) == hit - left


def test_experts_with_most_replicas_give_one_up():
    """Experts 1 and 2 have two replicas left; without loads the lower slot of both goes."""
    recovery = recover(PLACEMENT, [3])
    assert [tuple(entry) for entry in recovery.reloads] == [(0, 4, 0, 1)]
    assert recovery.placement.physical_to_logical.tolist() == [[0, 4, 1, 2, 2, 3, -1, -1]]
    assert (recovery.lost_ranks, recovery.surviving.tolist()) == ((3,), [[0, 2]])


def test_loads_say_whose_replica_is_given_up():
    """Expert 2 has least load for the replica that stays."""
    recovery = recover(PLACEMENT, [3], loads=[[5, 9, 1, 5, 5]])
    assert [tuple(entry) for entry in recovery.reloads] == [(0, 4, 1, 3)]
    assert recover(PLACEMENT, [3], loads=[[[5, 1, 1, 5, 5]], [[0, 8, 0, 0, 0]]]).reloads == recovery.reloads


def test_a_second_copy_on_a_rank_goes_first():
    """Of three replicas, one of the two that stand on one rank is given up."""
    topology = Topology(num_ranks=4, slots_per_rank=2)
    placement = Placement(physical_to_logical=[[0, 1, 2, 0, 0, 0, 3, 4]], topology=topology)
    assert [entry.slot for entry in recover(placement, [3]).reloads] == [4, 0]


def test_reloads_are_spread_over_ranks():
    """Ranks that are equally good load two experts each."""
    topology = Topology(num_ranks=4, slots_per_rank=6)
    row = [*range(6), *range(6), *range(6), *range(6, 12)]
    reloads = recover(Placement(physical_to_logical=[row], topology=topology), [3]).reloads
    assert np.bincount([entry.rank for entry in reloads]).tolist() == [2, 2, 2]


def test_the_callback_gets_each_reload_in_order():
    """Layer, expert and slot, after all is planned."""
    calls = []
    topology = Topology(num_ranks=4, slots_per_rank=1)
    placement = Placement(physical_to_logical=[[0, 1, 2, 0], [2, 0, 0, 1]], topology=topology)
    recovery = recover(placement, {3}, reload=lambda *args: calls.append(args))
    assert calls == [(entry.layer, entry.expert, entry.slot) for entry in recovery.reloads] == [(1, 1, 1)]


def test_what_the_callback_raises_comes_out():
    """A weight file that is missing is the caller's to handle."""

    def fail(layer, expert, slot):
        raise FileNotFoundError(expert)

    with pytest.raises(FileNotFoundError, match="4"):
        recover(PLACEMENT, [3], reload=fail)


def test_too_few_slots_are_refused_before_anything_is_loaded():
    """Five experts do not fit into four slots."""
    calls = []
    with pytest.raises(InfeasibleError, match="2 ranks are left, with 4 slots for 5 experts"):
        recover(PLACEMENT, [0, 3], reload=lambda *args: calls.append(args))
    assert calls == []


def test_ranks_fail_one_after_another():
    """A second loss starts from the first recovery; naming a rank again changes nothing."""
    topology = Topology(num_ranks=6, slots_per_rank=1)
    first = recover(Placement(physical_to_logical=[[0, 1, 0, 1, 2, 0]], topology=topology), [5])
    second = recover(first.placement, [5, 4])
    assert second.placement.topology.failed_ranks == (4, 5)
    assert second.lost.tolist() == [[0, 2]]


def test_no_loss_changes_nothing():
    """An empty list is no error."""
    recovery = recover(PLACEMENT, [])
    assert recovery.placement == PLACEMENT and recovery.reloads == () and recovery.surviving.size == 0


def test_layers_without_loads_count_as_even():
    """All zeros say nothing about who can be spared."""
    assert recover(PLACEMENT, [3], loads=np.zeros((1, 5))).reloads == recover(PLACEMENT, [3]).reloads


def test_a_plan_goes_on_from_a_recovery():
    """The planner evens out the loads, and the transfers to its plan need no reload."""
    loads = np.array([[4.0, 9.0, 6.0, 2.0, 7.0]])
    found = recover(PLACEMENT, [3], loads=loads).placement
    plan = eplb.plan(loads, found.topology, previous=found)
    assert plan.restored.size == 0
    assert len(plan_transfers(found, plan.placement, 1)) == plan.moves


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"placement": 3}, PlacementError, "placement: expected an eplb.Placement, got int"),
        ({"lost_ranks": [4]}, OptionError, "lost_ranks: expected ranks 0 to 3, got 4"),
        ({"lost_ranks": [-1]}, OptionError, "lost_ranks: expected ranks 0 to 3, got -1"),
        ({"lost_ranks": [0.5]}, OptionError, "lost_ranks: expected a list of integers"),
        ({"lost_ranks": 3}, OptionError, "lost_ranks: expected a list of integers"),
        ({"reload": "disk"}, OptionError, "reload: expected a callable or None, got str"),
        ({"loads": [[1, 2]]}, LoadsError, "expected 1 layers x 5 experts"),
        ({"loads": [[1, 2, 3, 4, np.nan]]}, LoadsError, "finite"),
        ({"lost_ranks": [0, 1, 2, 3]}, InfeasibleError, "0 ranks are left"),
    ],
)
def test_what_cannot_be_used_is_named(options, error, message):
    """Each argument has its error."""
    with pytest.raises(error, match=message):
        recover(**{"placement": PLACEMENT, "lost_ranks": [3], **options})
