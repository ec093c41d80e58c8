"""The search over scenarios writes down what it does; the twins work out the same from its steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import Topology
from eplb.kernels.windows.layers import apply_layers, improve_layers, time_layers
from tests import reference

UNLIMITED = 2**62
MAX_STEPS = 60


def distinct_slots(rng, num_experts, slots):
    """Return slots in which every expert is placed and no rank holds one twice."""
    while True:
        row = np.concatenate([rng.choice(num_experts, size, replace=False) for size in slots])
        if len(set(row.tolist())) == num_experts:
            return row


class Layer:
    """One random layer on a random machine: its scenarios, what ranks hold and held, and the arguments of the kernels.

    With `distinct`, ranks hold an expert once and start with what they held, as plans on one machine do.
    """

    def __init__(self, seed, distinct=False):
        rng = np.random.default_rng(seed)
        num_ranks, num_scenarios = int(rng.integers(2, 6)), int(rng.integers(1, 5))
        slots = rng.integers(1, 4, num_ranks).tolist()
        speeds = rng.choice([0.5, 1.0, 2.0], num_ranks).tolist()
        self.topology = Topology(num_ranks=num_ranks, slots_per_rank=slots, rank_speeds=speeds, num_nodes=2)
        self.num_experts = int(rng.integers(max(slots), self.topology.num_slots + 1))
        shape = (self.num_experts, num_scenarios)
        self.loads = [rng.lognormal(0, 1, shape), rng.integers(0, 4, shape).astype(float)][int(rng.integers(2))]
        self.extras = rng.choice([0.0, 0.5], shape)
        self.weights = reference.recency_weights(num_scenarios, 0.8)
        spare = rng.integers(0, self.num_experts, self.topology.num_slots - self.num_experts)
        self.slots = rng.permutation(np.concatenate([np.arange(self.num_experts), spare]))
        self.held = rng.integers(-1, self.num_experts, self.topology.num_slots)
        if distinct:
            self.slots = self.held = distinct_slots(rng, self.num_experts, slots)
        self.homes = np.full((1, 1), -1)

    @property
    def machine(self):
        topology = self.topology
        held = (self.homes, self.held[None], topology.slot_offsets.copy())
        scenarios = (self.loads[None], self.extras[None], self.weights)
        return (*scenarios, topology.slot_offsets.copy(), 1 / topology.speeds, topology.node_of_rank.copy(), *held)

    def improve(self, price=0.0, max_moves=UNLIMITED, max_received=UNLIMITED, regrants=True):
        """Return the steps of the search, and the expected time and the moves before and after each of them."""
        limits = np.array([max_moves, max_received, regrants, 1000], dtype=np.int64)
        steps, num_steps = np.zeros((1, MAX_STEPS, 2), dtype=np.int64), np.zeros(1, dtype=np.int64)
        times, moves = np.zeros((1, MAX_STEPS + 1)), np.zeros((1, MAX_STEPS + 1), dtype=np.int64)
        options = (np.zeros(1), np.array([price]), limits, self.slots[None].copy())
        improve_layers(0, 1, *self.machine, *options, steps, num_steps, times, moves)
        done = int(num_steps[0])
        return steps[0, :done], times[0, : done + 1], moves[0, : done + 1]

    def times_of(self, slots, s):
        extras = reference.slot_costs(slots, self.extras[:, s], self.topology)
        return reference.rank_times(slots, self.loads[:, s], self.topology) + extras

    def time_of(self, slots):
        return reference.expected_time(slots, self.loads, self.weights, self.topology, self.extras)

    def received_by(self, slots):
        return reference.received(slots, self.topology, reference.held_by(self.held, self.topology))


SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_what_is_written_down_is_what_the_steps_do(seed):
    """The expected time and the moves after each step are those of the slots that it leaves."""
    layer = Layer(seed)
    steps, times, moves = layer.improve()
    for k in range(len(steps) + 1):
        slots = reference.after(layer.slots, steps[:k])
        assert times[k] == pytest.approx(layer.time_of(slots), rel=1e-12)
        assert moves[k] == sum(layer.received_by(slots))


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_placements_are_timed_as_the_twin_does(seed):
    """`time_layers` gives the expected time and what every rank receives."""
    layer = Layer(seed)
    times, moves = np.empty(1), np.empty(1, dtype=np.int64)
    received = np.empty((1, layer.topology.num_ranks), dtype=np.int64)
    time_layers(0, 1, *layer.machine, layer.slots[None].copy(), times, moves, received)
    assert times[0] == pytest.approx(layer.time_of(layer.slots), rel=1e-12)
    assert received[0].tolist() == layer.received_by(layer.slots)
    assert moves[0] == received.sum()


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, price=st.sampled_from([0.0, 0.05, 1.0]))
def test_every_step_gains_more_than_its_moves_cost(seed, price):
    """Time and price together fall with every step; without a price, the time does."""
    _, times, moves = Layer(seed).improve(price=price)
    assert (np.diff(times + price * moves) < 0).all()


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, more=st.integers(0, 3), most=st.integers(0, 2))
def test_no_step_exceeds_the_limits(seed, more, most):
    """Moves in all and those to a rank stay within their limits, or at what they were."""
    layer = Layer(seed)
    start = layer.received_by(layer.slots)
    steps, _, moves = layer.improve(max_moves=sum(start) + more, max_received=most)
    assert moves.max() <= sum(start) + more
    for k in range(len(steps) + 1):
        received = layer.received_by(reference.after(layer.slots, steps[:k]))
        assert all(now <= max(most, before) for now, before in zip(received, start, strict=True))


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_no_step_makes_a_rank_hold_an_expert_twice(seed):
    """Experts that are distinct on a rank remain so, and all keep a replica."""
    layer = Layer(seed)
    before = [len(mine) for mine in reference.held_by(layer.slots, layer.topology)]
    steps, _, _ = layer.improve()
    slots = reference.after(layer.slots, steps)
    now = [len(mine) for mine in reference.held_by(slots, layer.topology)]
    assert all(n >= b for n, b in zip(now, before, strict=True))
    assert set(slots.tolist()) == set(range(layer.num_experts))


def swaps_of(layer, slots):
    """Yield all swaps that keep the experts of both ranks distinct."""
    rank_of, held = layer.topology.rank_of_slot, reference.held_by(slots, layer.topology)
    for one, two in zip(*np.triu_indices(slots.size, 1), strict=True):
        if slots[one] not in held[rank_of[two]] and slots[two] not in held[rank_of[one]]:
            yield one, two


def helpful_regrants_of(layer, slots):
    """Yield all re-grants of a spare replica's slot to an expert with load on the slowest rank of some scenario."""
    rank_of, held = layer.topology.rank_of_slot, reference.held_by(slots, layer.topology)
    slowest = [held[int(np.argmax(layer.times_of(slots, s)))] for s in range(layer.weights.size)]
    hot = {expert for s, mine in enumerate(slowest) for expert in mine if layer.loads[expert, s] > 0}
    for slot, donor in enumerate(slots):
        for expert in hot - held[rank_of[slot]]:
            if (slots == donor).sum() > 1:
                yield slot, -1 - expert


def best_value(layer, steps, price):
    """Return the least change of the expected time and the price of moves together; 0 where nothing gains."""
    before, least = sum(layer.received_by(layer.slots)), 0.0
    for step in steps:
        slots = reference.after(layer.slots, [step])
        moves = sum(layer.received_by(slots)) - before
        least = min(least, layer.time_of(slots) - layer.time_of(layer.slots) + price * moves)
    return least


def first_value(layer, price, regrants):
    """Return what the first step of the search is worth; 0 where there is none."""
    _, times, moves = layer.improve(price=price, regrants=regrants)
    return times[1] - times[0] + price * (moves[1] - moves[0]) if len(times) > 1 else 0.0


PRICES = st.sampled_from([0.0, 0.05, 0.5])


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, price=PRICES)
def test_the_first_swap_is_the_best_there_is(seed, price):
    """What bounds rule out without working it out is never the best swap."""
    layer = Layer(seed, distinct=True)
    best = best_value(layer, swaps_of(layer, layer.slots), price)
    assert first_value(layer, price, regrants=False) == pytest.approx(best, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, price=PRICES)
def test_no_regrant_that_helps_a_slowest_rank_is_overlooked(seed, price):
    """The first step is worth at least what any swap is, or any replica more for an expert of a slowest rank."""
    layer = Layer(seed, distinct=True)
    steps = [*swaps_of(layer, layer.slots), *helpful_regrants_of(layer, layer.slots)]
    assert first_value(layer, price, regrants=True) <= best_value(layer, steps, price) + 1e-9


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_the_search_ends_where_no_swap_helps(seed):
    """What bounds rule out without working it out would not have helped: no swap of two slots lowers the time."""
    layer = Layer(seed)
    steps, times, _ = layer.improve()
    assert len(steps) < MAX_STEPS
    slots = reference.after(layer.slots, steps)
    for swap in swaps_of(layer, slots):
        assert layer.time_of(reference.after(slots, [swap])) >= times[-1] * (1 - 1e-9)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_experts_stay_on_their_nodes(seed):
    """An expert whose group has a home goes to no rank elsewhere."""
    layer = Layer(seed)
    layer.homes = np.arange(layer.num_experts)[None] % 3 - 1
    steps, _, _ = layer.improve()
    before = reference.held_by(layer.slots, layer.topology)
    now = reference.held_by(reference.after(layer.slots, steps), layer.topology)
    for rank, node in enumerate(layer.topology.node_of_rank):
        for expert in now[rank] - before[rank]:
            assert layer.homes[0, expert] in (-1, node)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_without_regrants_all_replica_counts_stay(seed):
    """Swaps alone change no counts."""
    layer = Layer(seed)
    steps, _, _ = layer.improve(regrants=False)
    assert (steps >= 0).all()


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, data=st.data())
def test_steps_are_applied_one_after_another(seed, data):
    """`apply_layers` does the first steps, as many as it is told."""
    layer = Layer(seed)
    steps, _, _ = layer.improve()
    taken = data.draw(st.integers(0, len(steps)))
    slots = layer.slots[None].copy()
    apply_layers(0, 1, steps[None].copy(), np.array([taken]), slots)
    np.testing.assert_array_equal(slots[0], reference.after(layer.slots, steps[:taken]))
