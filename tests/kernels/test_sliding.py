"""The sliding window balances known loads perfectly where there are slots enough, and says where it found none."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eplb import Topology
from eplb.kernels.split.sliding import slide_layers
from tests import reference_split as reference
from tests.reference import held_by

LOADS = {
    "lognormal": lambda rng, size: rng.lognormal(0, 1, size),
    "wide": lambda rng, size: rng.lognormal(0, 5, size),
    "zipf": lambda rng, size: rng.permutation(1 / np.arange(1.0, size + 1)),
    "dirichlet": lambda rng, size: rng.dirichlet(np.full(size, 0.3)),
    "one hot expert": lambda rng, size: np.where(np.arange(size) == rng.integers(size), 1e6, 1.0),
    "one expert alone": lambda rng, size: np.where(np.arange(size) == rng.integers(size), 1.0, 0.0),
    "all equal": lambda rng, size: np.ones(size),
    "few values": lambda rng, size: rng.integers(0, 4, size).astype(float),
    "many zeros": lambda rng, size: rng.random(size) * (rng.random(size) < 0.3),
}
SEEDS = st.integers(0, 2**32 - 1)


def slid(loads, topology, homes=None):
    """Return slots [P] and whether all experts found a place, for loads [E]; `homes` [G] are nodes of the groups."""
    slots, placed = np.full((1, topology.num_slots), -5), np.zeros(1, dtype=np.bool_)
    machine = (topology.slot_offsets.copy(), 1 / topology.speeds, topology.node_of_rank.copy())
    slide_layers(0, 1, loads[None].copy(), *machine, np.array([homes or [-1]]), slots, placed)
    return slots[0], bool(placed[0])


def assert_placed(slots, topology, num_experts):
    """Every expert has a slot, and no rank holds one twice unless it has room for more than all."""
    assert set(slots.tolist()) == set(range(num_experts))
    for mine, size in zip(held_by(slots, topology), topology.slot_counts, strict=True):
        assert len(mine) == min(size, num_experts)


@pytest.mark.parametrize("kind", LOADS)
@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_with_slots_enough_all_ranks_get_the_same(kind, seed):
    """With E + R - 1 slots, equal ones, the largest load is the mean (Golubchik et al.; Shachnai and Tamir)."""
    rng = np.random.default_rng(seed)
    num_ranks, num_experts = int(rng.integers(1, 8)), int(rng.integers(1, 30))
    slots_per_rank = -(-(num_experts + num_ranks - 1) // num_ranks)
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank)
    loads = LOADS[kind](rng, num_experts)
    assume(loads.any())
    slots, placed = slid(loads, topology)
    assert placed
    assert_placed(slots, topology, num_experts)
    assert reference.level(slots, loads, topology) == pytest.approx(loads.sum() / num_ranks, rel=1e-11, abs=1e-300)


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, kind=st.sampled_from([*LOADS]))
def test_what_it_says_is_placed_is_placed(seed, kind):
    """On uneven slots and speeds, with however many slots to spare."""
    rng = np.random.default_rng(seed)
    num_ranks = int(rng.integers(1, 8))
    slots_per_rank = rng.integers(1, 6, num_ranks).tolist()
    speeds = rng.choice([0.5, 1.0, 3.0], num_ranks)
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank, rank_speeds=speeds)
    num_experts = int(rng.integers(1, topology.num_slots + 1))
    slots, placed = slid(LOADS[kind](rng, num_experts), topology)
    assert slots.min() >= 0 and slots.max() < num_experts
    if placed:
        assert_placed(slots, topology, num_experts)


def test_where_slots_run_out_it_says_so():
    """The window of two experts that fills the first rank is not the only way to place four on four slots."""
    slots, placed = slid(np.array([1.0, 1.0, 1.0, 9.0]), Topology(num_ranks=2, slots_per_rank=2))
    assert not placed
    assert set(slots.tolist()) != {0, 1, 2, 3}


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, kind=st.sampled_from([*LOADS]))
def test_groups_slide_on_their_own_nodes(seed, kind):
    """Each node as if it were alone; with slots enough, its ranks get the same."""
    rng = np.random.default_rng(seed)
    topology = Topology(num_ranks=6, slots_per_rank=4, num_nodes=[0, 1, 1, 0, 1, 0])
    loads, homes = LOADS[kind](rng, 20), [1, 0, 0, 1]
    assume(loads[5:15].any() and (loads[:5].any() or loads[15:].any()))
    slots, placed = slid(loads, topology, homes)
    assert placed
    nodes = topology.node_of_rank[topology.rank_of_slot]
    np.testing.assert_array_equal(nodes, np.array(homes)[slots // 5])
    level = max(loads[5:15].sum(), loads[:5].sum() + loads[15:].sum()) / 3
    assert reference.level(slots, loads, topology) == pytest.approx(level, rel=1e-11, abs=1e-300)


def test_spare_slots_go_to_the_experts_with_most_load():
    """One rank is full with the light ones; the other, with the heavy one, has three slots for the next heaviest."""
    topology = Topology(num_ranks=2, slots_per_rank=4)
    slots, _ = slid(np.array([8.0, 4.0, 2.0, 1.5, 0.5]), topology)
    assert sorted(map(sorted, held_by(slots, topology))) == [[0, 1, 2, 3], [1, 2, 3, 4]]


def test_without_load_nothing_is_placed():
    """There is no window to fill, so it is left to the packing."""
    assert not slid(np.zeros(4), Topology(num_ranks=2, slots_per_rank=4))[1]


def test_layers_slide_on_their_own(rng):
    """Three at once are as one by one."""
    topology, loads = Topology(num_ranks=4, slots_per_rank=4), rng.lognormal(0, 1, (3, 12))
    slots, placed = np.full((3, 16), -1), np.zeros(3, dtype=np.bool_)
    machine = (topology.slot_offsets.copy(), 1 / topology.speeds, topology.node_of_rank.copy())
    slide_layers(0, 3, loads, *machine, np.full((3, 1), -1), slots, placed)
    for layer, row in enumerate(loads):
        np.testing.assert_array_equal(slots[layer], slid(row, topology)[0])
