"""Who sends what: every need once, from a holder, and the choice of sources as good as an exact solver's."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eplb import PlacementError, Topology
from eplb.migration import assign
from tests import reference_migration as reference

SEEDS = st.integers(0, 2**32 - 1)
TWO_NODES = Topology(num_ranks=4, slots_per_rank=2, num_nodes=2)


def assigned(before, after, topology):
    """Return the assignment of one layer."""
    return assign(np.array([before], dtype=np.int32), np.array([after], dtype=np.int32), topology)


def sources_of(found, needs):
    """Return the source of each need, having checked that each has one, who holds it, and that there are no others."""
    pairs = zip(found.target_rank.tolist(), found.expert.tolist(), strict=True)
    sources = dict(zip(pairs, found.source_rank.tolist(), strict=True))
    assert len(found.row) == len(needs) and set(sources) == {pair for pair, _ in needs}
    assert all(sources[pair] in holders for pair, holders in needs)
    return [sources[pair] for pair, _ in needs]


@settings(max_examples=150)
@given(SEEDS)
@example(167)  # these need each step of the search
@example(270)
@example(674)
@example(819)
@example(1694)
@example(2321)
def test_sources_equal_the_optimum_of_integer_programs(seed):
    """No choice of sources is better, first to last goal: few nodes, many replicas, uneven slots, failed ranks."""
    topology, before, after = reference.random_change(seed, most_ranks=14, most_slots=5)
    needs = reference.needs_of(before, after, topology)
    sources = sources_of(assigned(before, after, topology), needs)
    assert reference.goals_of(needs, sources, topology) == reference.best_by_programs(needs, topology)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_sources_equal_the_optimum_again_and_again(block):
    """The same on many more layers, up to 14 ranks."""
    for seed in range(250 * block, 250 * (block + 1)):
        topology, before, after = reference.random_change(seed, most_ranks=14, most_slots=6)
        needs = reference.needs_of(before, after, topology)
        sources = sources_of(assigned(before, after, topology), needs)
        assert reference.goals_of(needs, sources, topology) == reference.best_by_programs(needs, topology), seed


@settings(max_examples=100)
@given(SEEDS)
def test_sources_equal_the_best_of_all_choices(seed):
    """On tiny layers every choice is tried."""
    topology, before, after = reference.random_change(seed, most_ranks=4, most_slots=2)
    needs = reference.needs_of(before, after, topology)
    sources = sources_of(assigned(before, after, topology), needs)
    assert reference.goals_of(needs, sources, topology) == reference.best_by_trying(needs, topology)


@settings(max_examples=50)
@given(SEEDS)
def test_the_oracles_agree(seed):
    """Integer programs find what trying every choice finds."""
    topology, before, after = reference.random_change(seed, most_ranks=4, most_slots=2)
    needs = reference.needs_of(before, after, topology)
    assert reference.best_by_programs(needs, topology) == reference.best_by_trying(needs, topology)


def test_a_source_on_the_same_node_is_preferred():
    """Rank 3 gets expert 0 from rank 2 beside it, not from rank 0."""
    assert assigned([0, 1, 2, 3, 0, 4, 5, 6], [0, 1, 2, 3, 0, 4, 0, 6], TWO_NODES).source_rank.tolist() == [2]


def test_a_neighbour_stays_the_source_however_busy():
    """Nobody has to send to another node, so nobody does."""
    topology = Topology(num_ranks=4, slots_per_rank=2, num_nodes=[0, 0, 0, 1])
    found = assigned([0, 1, 2, 3, 4, 5, 0, 6], [0, 1, 0, 3, 0, 5, 0, 6], topology)
    assert found.source_rank.tolist() == [0, 0]


def test_an_idle_rank_elsewhere_helps_where_others_send_as_far():
    """Rank 0 has to send expert 1 to the other node; rank 3 may send as much, so rank 0 sends two, not three."""
    topology = Topology(num_ranks=4, slots_per_rank=2, num_nodes=[0, 0, 0, 1])
    found = assigned([0, 1, 2, 3, 4, 5, 0, 6], [0, 1, 0, 3, 0, 5, 0, 1], topology)
    assert sorted(found.source_rank.tolist()) == [0, 0, 3]


def test_others_make_way():
    """Expert 1 can only come from rank 0, so expert 0 comes from rank 1, whatever the order."""
    topology = Topology(num_ranks=4, slots_per_rank=2)
    found = assigned([0, 1, 0, 2, 3, 4, 5, 6], [0, 1, 0, 2, 0, 4, 1, 6], topology)
    assert dict(zip(found.expert.tolist(), found.source_rank.tolist(), strict=True)) == {0: 1, 1: 0}


@given(SEEDS)
def test_slots_are_the_lowest_that_hold_the_expert(seed):
    """The source slot holds the expert before, the target slot after, and no lower one of the rank does."""
    topology, before, after = reference.random_change(seed)
    found = assigned(before, after, topology)
    for ranks, slots, row in (
        (found.source_rank, found.source_slot, before),
        (found.target_rank, found.target_slot, after),
    ):
        for rank, slot, expert in zip(ranks, slots, found.expert, strict=True):
            first, last = topology.slot_offsets[rank : rank + 2]
            assert slot == first + np.argmax(row[first:last] == expert) and row[slot] == expert


def test_an_expert_in_two_slots_of_a_rank_comes_once():
    """The second slot is filled by a copy inside the rank."""
    found = assigned([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 0, 0, 4, 5, 6, 7], TWO_NODES)
    assert (found.expert.tolist(), found.target_slot.tolist()) == ([0], [2])


def test_what_stays_on_its_rank_is_no_transfer():
    """Slots that trade places inside a rank, and slots of failed ranks, send nothing."""
    topology = Topology(num_ranks=3, slots_per_rank=2, failed_ranks=[2])
    found = assigned([0, 1, 2, 3, -1, -1], [1, 0, 3, 3, -1, -1], topology)
    assert (found.row.size, found.num_rounds.tolist()) == (0, [0])


def test_transfers_are_ordered_by_row_round_and_source(rng):
    """An engine can walk through them as they are."""
    changes = [reference.random_row(rng, TWO_NODES, 5) for _ in range(12)]
    found = assign(np.array(changes[:6]), np.array(changes[6:]), TWO_NODES)
    keys = list(zip(found.row.tolist(), found.round.tolist(), found.source_rank.tolist(), strict=True))
    assert keys == sorted(keys) and len(set(found.row.tolist())) > 3


def test_all_threads_find_the_same(rng, monkeypatch):
    """The number of threads changes nothing."""
    topology = Topology(num_ranks=8, slots_per_rank=4, num_nodes=2)
    before, after = (np.array([reference.random_row(rng, topology, 20) for _ in range(40)]) for _ in range(2))
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("EPLB_NUM_THREADS", threads)
        found.append(assign(before, after, topology))
    assert all(np.array_equal(one, three) for one, three in zip(*found, strict=True))


def test_layers_that_are_alike_share_the_work():
    """Where ranks are equally good, layer after layer starts with another one."""
    topology = Topology(num_ranks=4, slots_per_rank=1)
    found = assign(np.tile(np.int32([0, 0, 0, 1]), (30, 1)), np.tile(np.int32([0, 0, 0, 0]), (30, 1)), topology)
    assert np.bincount(found.source_rank).min() >= 7


def test_an_expert_that_nobody_holds_is_named():
    """It cannot be sent."""
    with pytest.raises(PlacementError, match="no rank holds expert 3 of row 0"):
        assigned([0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 1, 2, 0, 1], TWO_NODES)


def test_no_rows_need_nothing():
    """Nothing in, nothing out."""
    nothing = np.empty((0, 8), dtype=np.int32)
    assert all(column.size == 0 for column in assign(nothing, nothing, TWO_NODES))
