"""The compiled loops against their slow twins, on random and hostile inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eplb
from eplb import Topology
from eplb.kernels.arrays import Cell
from eplb.kernels.counts import distinct_slots, highest_averages
from eplb.kernels.known.packing import pack_level, separate_replicas
from eplb.kernels.ordering import order_descending
from tests import reference

HOSTILE = st.one_of(
    st.floats(0, 1e18, allow_subnormal=True),
    st.sampled_from([0.0, 1.0, 2.0, 3.0, 1e18, 5e-324, 1 + 2**-52, 1 - 2**-53]),
    st.integers(0, 6).map(float),
)


def make_cell(loads, slots):
    """Return an empty cell of ranks with so many slots each."""
    num_slots, num_ranks, num_experts = sum(slots), len(slots), loads.size
    return Cell(
        loads=loads,
        offsets=np.concatenate([[0], np.cumsum(slots)]).astype(np.int64),
        costs=np.ones(num_ranks),
        items=np.full(num_slots, -1, np.int64),
        counts=np.ones(num_experts, np.int64),
        shares=loads.copy(),
        times=np.zeros(num_ranks),
        by_load=np.argsort(-loads, kind="stable"),
        sizes=np.zeros(num_slots),
        holds=np.zeros((num_ranks, num_experts), np.bool_),
    )


LOADS = st.lists(HOSTILE, min_size=1, max_size=80)
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")


@settings(deadline=None, max_examples=200)
@given(values=LOADS)
def test_order_descending_is_the_stable_order(compiled, values):
    """Largest first, equal values by index, as a stable sort of the negated values."""
    values = np.array(values)
    order = np.empty(values.size, np.int64)
    compiled(order_descending)(values, order, np.empty_like(order))
    np.testing.assert_array_equal(order, np.argsort(-values, kind="stable"))


@pytest.mark.parametrize(
    "values",
    [
        np.ones(3000),
        np.linspace(1, 1.0001, 3000),
        np.append(np.linspace(1000, 1100, 999), 0.0),
        np.append(np.zeros(500), 5e-324),
        np.arange(1024.0) ** 8,
    ],
    ids=["ties", "crowded", "an outlier below", "denormal", "wide"],
)
def test_order_descending_on_long_arrays(compiled, values):
    """The radix passes and the insertion after them agree with a stable sort where the leading bits tell little."""
    order = np.empty(values.size, np.int64)
    compiled(order_descending)(values, order, np.empty_like(order))
    np.testing.assert_array_equal(order, np.argsort(-values, kind="stable"))


@settings(deadline=None, max_examples=200)
@given(loads=LOADS, spare=st.integers(0, 60), max_count=st.integers(1, 12))
def test_highest_averages_grants_as_the_twin_does(compiled, loads, spare, max_count):
    """Counts equal those of the plain loop, ties and caps included."""
    loads = np.array(loads)
    num_slots = min(loads.size + spare, loads.size * max_count)
    counts = np.empty(loads.size, np.int64)
    order = np.argsort(-loads, kind="stable")
    compiled(highest_averages)(loads, order, num_slots, max_count, np.empty(0, np.int64), counts)
    assert counts.tolist() == reference.highest_averages(loads.tolist(), num_slots, max_count)


@settings(deadline=None, max_examples=150)
@given(
    loads=st.lists(HOSTILE.filter(lambda x: x < 1e15), min_size=1, max_size=40),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_a_fast_plan_is_highest_averages_and_greedy_packing(loads, shape):
    """Where greedy packing can keep replicas apart, effort="fast" gives exactly the twins' counts and ranks."""
    num_ranks, slots_per_rank = shape
    if not len(loads) <= num_ranks * slots_per_rank <= len(loads) * num_ranks or max(loads) == 0:
        return
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank)
    plan = eplb.plan([loads], topology, effort="fast")
    _, exponent = np.frexp(max(loads))
    scaled = np.ldexp(np.array(loads), -exponent).tolist()
    counts = reference.highest_averages(scaled, topology.num_slots, num_ranks)
    try:
        ranks = reference.pack(scaled, counts, num_ranks, slots_per_rank)
    except ValueError:  # no free rank without the expert: the planner swaps, the twin gives up
        return
    assert plan.placement.replica_counts[0].tolist() == counts
    assert plan.placement.physical_to_logical[0].reshape(num_ranks, slots_per_rank).tolist() == ranks


@settings(deadline=None, max_examples=150)
@given(
    slots=st.lists(st.integers(1, 6), min_size=1, max_size=7),
    num_experts=st.integers(6, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_level_packing_keeps_replicas_apart_whenever_that_can_be(compiled, slots, num_experts, seed):
    """Counts granted within the cover are always placed with distinct experts on every rank (Gale and Ryser)."""
    if sum(slots) < num_experts:
        return
    cell = make_cell(np.random.default_rng(seed).pareto(0.7, num_experts), slots)
    cover = compiled(distinct_slots)(cell.offsets, num_experts)
    compiled(highest_averages)(cell.loads, cell.by_load, sum(slots), len(slots), cover, cell.counts)
    np.divide(cell.loads, cell.counts, out=cell.shares)
    compiled(pack_level)(cell, np.argsort(-cell.shares, kind="stable"))
    assert cell.counts.sum() == sum(slots)
    np.testing.assert_array_equal(np.bincount(cell.items, minlength=num_experts), cell.counts)
    for rank, size in enumerate(slots):
        assert len(set(cell.items[cell.offsets[rank] : cell.offsets[rank + 1]].tolist())) == size


def test_separating_replicas_swaps_the_second_one_away(compiled):
    """A rank that holds an expert twice gives one replica away for an expert it lacks."""
    cell = make_cell(np.array([6.0, 4.0, 2.0]), [2, 2, 2])
    cell.items[:], cell.counts[:], cell.shares[:], cell.times[:] = [0, 0, 1, 2, 1, 2], 2, [3, 2, 1], [6, 3, 3]
    assert compiled(separate_replicas)(cell)
    assert [len(set(pair)) for pair in cell.items.reshape(3, 2).tolist()] == [2, 2, 2]
    np.testing.assert_allclose(cell.times, cell.shares[cell.items].reshape(3, 2).sum(axis=1))
