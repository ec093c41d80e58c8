"""The flow of the exact split: who holds what, where all tokens are, and what is known of the level beforehand."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import Topology
from eplb.kernels.split.holders import find_holders, no_holders
from eplb.kernels.split.levelling import level_ranks
from tests import reference_split as reference

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def layer_of(compiled):
    """Return a function that makes a random layer: loads, costs, slots on a machine, and their graph."""

    def make(seed, whole=False):
        rng = np.random.default_rng(seed)
        num_ranks = int(rng.integers(1, 8))
        speeds = rng.choice([0.5, 1.0, 2.0, 3.0], num_ranks) if rng.random() < 0.5 else np.ones(num_ranks)
        topology = Topology(
            num_ranks=num_ranks, slots_per_rank=rng.integers(1, 5, num_ranks).tolist(), rank_speeds=speeds
        )
        num_experts = int(rng.integers(1, topology.num_slots + 1))
        rest = rng.integers(0, num_experts, topology.num_slots - num_experts)
        slots = rng.permutation(np.concatenate([np.arange(num_experts), rest]))
        loads = rng.integers(0, 9, num_experts).astype(float) if whole else rng.lognormal(0, 1, num_experts)
        fixed = rng.integers(0, 5, num_ranks).astype(float) * (rng.random() < 0.5)
        holders = compiled(no_holders)(num_experts, topology.num_slots, num_ranks)
        compiled(find_holders)(slots, topology.slot_offsets.copy(), holders)
        return SimpleNamespace(
            topology=topology, slots=slots, loads=loads, fixed=fixed, whole=whole, holders=holders, compiled=compiled
        )

    return make


def levelled(layer, least=0.0):
    """Return the level, the tokens of each edge, and the ranks that prove it."""
    flow, tight = np.full(layer.slots.size, np.nan), np.zeros(layer.topology.num_ranks, dtype=np.bool_)
    speeds = layer.topology.speeds.copy()
    args = (layer.loads, layer.fixed, speeds, layer.holders, layer.whole, least, flow, tight)
    level = layer.compiled(level_ranks)(*args)
    return level, flow[: layer.holders.starts[-1]], tight


def times_of(layer, flow):
    """Return the times of the ranks, [R]."""
    num_edges, num_ranks = flow.size, layer.topology.num_ranks
    tokens = np.bincount(layer.holders.rank_of[:num_edges], flow, minlength=num_ranks)
    return (tokens + layer.fixed) / layer.topology.speeds


def slots_of(layer, rank):
    first, last = layer.topology.slot_offsets[rank : rank + 2]
    return range(first, last)


# ---- who holds what


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_an_edge_is_a_rank_that_holds_an_expert(layer_of, seed):
    """Expert after expert, ranks ascending, however often one holds it; every slot knows its edge."""
    layer = layer_of(seed)
    holders, rank_of = layer.holders, layer.topology.rank_of_slot
    for expert in range(layer.loads.size):
        mine = slice(holders.starts[expert], holders.starts[expert + 1])
        assert holders.rank_of[mine].tolist() == reference.ranks_with(expert, layer.slots, layer.topology)
        assert (holders.expert_of[mine] == expert).all()
    edges = holders.edge_of_slot
    np.testing.assert_array_equal(holders.expert_of[edges], layer.slots)
    np.testing.assert_array_equal(holders.rank_of[edges], rank_of)
    num_edges = holders.starts[-1]
    np.testing.assert_array_equal(holders.copies[:num_edges], np.bincount(edges, minlength=num_edges))


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_ranks_list_the_experts_that_they_share(layer_of, seed):
    """Those that another rank holds, too; each once."""
    layer = layer_of(seed)
    holders = layer.holders
    shared = [e for e in range(layer.loads.size) if len(reference.ranks_with(e, layer.slots, layer.topology)) > 1]
    assert holders.shared[: holders.sizes[0]].tolist() == shared
    for rank in range(layer.topology.num_ranks):
        edges = holders.rank_edges[holders.rank_starts[rank] : holders.rank_starts[rank + 1]]
        here = {int(layer.slots[slot]) for slot in slots_of(layer, rank)}
        assert sorted(holders.expert_of[edges].tolist()) == sorted(here & set(shared))
        assert (holders.rank_of[edges] == rank).all()


# ---- the flow


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, whole=st.booleans())
def test_all_tokens_are_somewhere_and_no_rank_is_above_the_level(layer_of, seed, whole):
    """Each expert's are on its edges; whole ones are whole."""
    layer = layer_of(seed, whole)
    level, flow, _ = levelled(layer)
    placed = np.bincount(layer.holders.expert_of[: flow.size], flow)
    np.testing.assert_allclose(placed, layer.loads, rtol=0 if whole else 1e-14)
    assert flow.min() >= 0
    assert times_of(layer, flow).max() <= level * (1 + 1e-13)
    assert not whole or (flow == np.floor(flow)).all()


# ---- what is known beforehand


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, share=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_a_bound_that_holds_changes_no_level(layer_of, seed, share):
    """Search may begin at anything up to the optimum; the tight ranks prove it where the bound is less."""
    layer = layer_of(seed)
    best = reference.level(layer.slots, layer.loads, layer.topology, layer.fixed)
    level, _, tight = levelled(layer, least=share * best)
    assert level == pytest.approx(best, rel=1e-13)
    if share < 1:
        needed = reference.level_of_set(tight, layer.slots, layer.loads, layer.topology, layer.fixed)
        assert needed == pytest.approx(best, rel=1e-13)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_above_the_optimum_the_level_stays_where_it_is(layer_of, seed):
    """There is a split at any level above it."""
    layer = layer_of(seed)
    above = 1.25 * reference.level(layer.slots, layer.loads, layer.topology, layer.fixed)
    level, flow, _ = levelled(layer, least=above)
    assert level == above
    assert times_of(layer, flow).max() <= above * (1 + 1e-13)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_the_level_does_not_depend_on_what_was_there_before(layer_of, seed):
    """Room that is used again gives the same bits."""
    layer = layer_of(seed)
    first = levelled(layer)
    for found, again in zip(first, levelled(layer), strict=True):
        np.testing.assert_array_equal(found, again)
