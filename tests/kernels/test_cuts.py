"""Cuts bound a change from below, exactly if the set that binds is known, and follow the changes that are made."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eplb import Topology
from eplb.kernels.split.board import change_of
from eplb.kernels.split.cuts import add_cut, apply_change, bound_change, no_cuts
from tests import reference_split as split_reference
from tests.reference import after, recency_weights

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def layer_of(compiled):
    """Return a function that makes a random layer on up to five ranks, with scenarios and maybe costs of slots."""

    def make(seed):
        rng = np.random.default_rng(seed)
        num_ranks, num_scenarios = int(rng.integers(2, 6)), int(rng.integers(1, 5))
        topology = Topology(
            num_ranks=num_ranks,
            slots_per_rank=rng.integers(1, 4, num_ranks).tolist(),
            rank_speeds=rng.choice([0.5, 1.0, 2.0], num_ranks),
        )
        num_experts = int(rng.integers(2, topology.num_slots + 1))
        rest = rng.integers(0, num_experts, topology.num_slots - num_experts)
        shape = (num_experts, num_scenarios)
        return SimpleNamespace(
            topology=topology,
            slots=rng.permutation(np.concatenate([np.arange(num_experts), rest])),
            loads=[rng.lognormal(0, 1, shape), rng.integers(0, 4, shape).astype(float)][int(rng.integers(2))],
            extras=rng.choice([0.0, 0.5], shape) if rng.random() < 0.5 else np.zeros((0, 0)),
            weights=recency_weights(num_scenarios, 0.8),
            compiled=compiled,
        )

    return make


def cuts_of(layer, slots, sets, room=None):
    """Return the cuts of `slots` for the set of all ranks and those of `sets`, bits of ranks."""
    num_ranks = layer.topology.num_ranks
    sets = [2**num_ranks - 1, *sets]
    cuts = layer.compiled(no_cuts)(room or len(sets), num_ranks, *layer.loads.shape)
    for chosen in sets:
        add(layer, cuts, slots, chosen)
    return cuts


def add(layer, cuts, slots, chosen):
    topology = layer.topology
    members = chosen >> np.arange(topology.num_ranks) & 1 == 1
    options = (topology.rank_of_slot, layer.loads, layer.extras, topology.speeds.copy())
    layer.compiled(add_cut)(cuts, members, np.array(slots), *options)


def step_of(layer, data):
    """Return a swap of slots of two ranks, or a re-grant of a slot, that makes no rank hold an expert twice."""
    slots, rank_of = layer.slots, layer.topology.rank_of_slot
    one = data.draw(st.integers(0, slots.size - 1))
    here = set(slots[rank_of == rank_of[one]].tolist())
    if data.draw(st.booleans()):
        expert = data.draw(st.integers(0, len(layer.loads) - 1))
        assume(expert not in here and (slots == slots[one]).sum() > 1)
        return one, -1 - expert
    two = data.draw(st.integers(0, slots.size - 1))
    assume(slots[two] not in here and slots[one] not in slots[rank_of == rank_of[two]])
    return one, two


def bounded(layer, cuts, step):
    """Return the bounds of all scenarios after `step`, [S], and their mean."""
    bounds = np.full(layer.weights.size, np.nan)
    change = layer.compiled(change_of)(layer.slots, layer.topology.rank_of_slot, *step)
    known = (cuts.member, cuts.per_speed, cuts.outside, cuts.amounts, int(cuts.size[0]))
    mean = layer.compiled(bound_change)(*known, layer.weights, layer.loads, layer.extras, change, bounds)
    return bounds, mean


def levels_of(layer, slots):
    """Return the least largest time of every scenario, [S]."""
    costs = split_reference.slot_costs(slots, layer.extras, layer.topology) if layer.extras.size else None
    return split_reference.level(slots, layer.loads, layer.topology, costs)


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, data=st.data())
def test_known_cuts_bound_what_a_change_can_reach(layer_of, seed, data):
    """Whatever sets are known, no scenario splits better after the change than the bound says."""
    layer = layer_of(seed)
    sets = data.draw(st.sets(st.integers(1, 2**layer.topology.num_ranks - 2), max_size=6))
    step = step_of(layer, data)
    bounds, mean = bounded(layer, cuts_of(layer, layer.slots, sorted(sets)), step)
    assert (bounds <= levels_of(layer, after(layer.slots, [step])) * (1 + 1e-12)).all()
    assert mean == pytest.approx(bounds @ layer.weights)


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, data=st.data())
def test_the_bound_is_exact_if_the_set_that_binds_is_known(layer_of, seed, data):
    """With all sets, it is the exact split after the change, in every scenario."""
    layer = layer_of(seed)
    step = step_of(layer, data)
    bounds, mean = bounded(layer, cuts_of(layer, layer.slots, range(1, 2**layer.topology.num_ranks - 1)), step)
    levels = levels_of(layer, after(layer.slots, [step]))
    np.testing.assert_allclose(bounds, levels, rtol=1e-12, atol=1e-12)
    assert mean == pytest.approx(levels @ layer.weights, rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, data=st.data())
def test_cuts_follow_a_change(layer_of, seed, data):
    """As if they were built anew for the placement after it."""
    layer = layer_of(seed)
    sets = range(1, 2**layer.topology.num_ranks - 1)
    step, cuts = step_of(layer, data), cuts_of(layer, layer.slots, sets)
    change = layer.compiled(change_of)(layer.slots, layer.topology.rank_of_slot, *step)
    layer.compiled(apply_change)(cuts, layer.loads, layer.extras, change)
    anew = cuts_of(layer, after(layer.slots, [step]), sets)
    np.testing.assert_array_equal(cuts.outside, anew.outside)
    np.testing.assert_allclose(cuts.amounts, anew.amounts, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_a_cut_knows_what_cannot_leave_it(layer_of, seed):
    """Tokens, what slots cost, and speed, set by set."""
    layer = layer_of(seed)
    topology, num_ranks = layer.topology, layer.topology.num_ranks
    cuts = cuts_of(layer, layer.slots, range(1, 2**num_ranks - 1))
    costs = split_reference.slot_costs(layer.slots, layer.extras, topology) if layer.extras.size else None
    amounts = split_reference.confined(layer.slots, layer.loads, topology, costs)
    bits = cuts.member @ (1 << np.arange(num_ranks))
    np.testing.assert_allclose(cuts.amounts, amounts[bits], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(1 / cuts.per_speed, split_reference.speeds_of_sets(topology)[bits], rtol=1e-14)


def test_a_set_that_is_known_is_not_added_again(layer_of):
    """It counts as one that has just bound."""
    layer = layer_of(1)
    cuts = cuts_of(layer, layer.slots, [1, 2], room=5)
    cuts.clock[0] = 7
    add(layer, cuts, layer.slots, 1)
    assert (cuts.size[0], cuts.used[:3].tolist()) == (3, [0, 7, 0])


def test_the_set_that_has_not_bound_for_longest_makes_way(layer_of):
    """Where there is no room; but never the set of all ranks."""
    layer = layer_of(4)
    assert layer.topology.num_ranks > 2
    cuts = cuts_of(layer, layer.slots, [1, 2], room=3)
    cuts.used[:], cuts.clock[0] = [0, 9, 3], 10
    add(layer, cuts, layer.slots, 3)
    assert cuts.member[0].all()
    assert (cuts.member @ (1 << np.arange(cuts.member.shape[1])))[1:].tolist() == [1, 3]
    anew = cuts_of(layer, layer.slots, [1, 3])
    np.testing.assert_array_equal(cuts.amounts, anew.amounts)
    np.testing.assert_array_equal(cuts.outside, anew.outside)
