"""The search for the weighted split writes down what it does; the twin works out the same from its steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.kernels.split.windows import improve_split_layers, time_split_layers
from tests import reference, reference_split
from tests.kernels.test_window_layers import MAX_STEPS, SEEDS, UNLIMITED, Layer


class SplitLayer(Layer):
    """A random layer, searched for the weighted split."""

    def improve(
        self, price=0.0, max_moves=UNLIMITED, max_received=UNLIMITED, regrants=True, target=0.0, least_gain=0.0
    ):
        limits = np.array([max_moves, max_received, regrants, 1000], dtype=np.int64)
        steps, num_steps = np.zeros((1, MAX_STEPS, 2), dtype=np.int64), np.zeros(1, dtype=np.int64)
        times, moves = np.zeros((1, MAX_STEPS + 1)), np.zeros((1, MAX_STEPS + 1), dtype=np.int64)
        options = (np.array([target]), np.array([price]), np.array([least_gain]), limits, self.slots[None].copy())
        improve_split_layers(0, 1, *self.machine, *options, steps, num_steps, times, moves)
        done = int(num_steps[0])
        return steps[0, :done], times[0, : done + 1], moves[0, : done + 1]

    def time_of(self, slots):
        return reference_split.expected_level(slots, self.loads, self.weights, self.topology, self.extras)


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_what_is_written_down_is_what_the_steps_do(seed):
    """The expected time and the moves after each step are those of the slots that it leaves."""
    layer = SplitLayer(seed)
    steps, times, moves = layer.improve()
    for k in range(len(steps) + 1):
        slots = reference.after(layer.slots, steps[:k])
        assert times[k] == pytest.approx(layer.time_of(slots), rel=1e-12)
        assert moves[k] == sum(layer.received_by(slots))


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_placements_are_timed_as_the_twin_does(seed):
    """`time_split_layers` gives the expected time and what every rank receives."""
    layer = SplitLayer(seed)
    times, moves = np.empty(1), np.empty(1, dtype=np.int64)
    received = np.empty((1, layer.topology.num_ranks), dtype=np.int64)
    time_split_layers(0, 1, *layer.machine, layer.slots[None].copy(), times, moves, received)
    assert times[0] == pytest.approx(layer.time_of(layer.slots), rel=1e-12)
    assert received[0].tolist() == layer.received_by(layer.slots)
    assert moves[0] == received.sum()


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, price=st.sampled_from([0.0, 0.05, 1.0]))
def test_every_step_gains_more_than_its_moves_cost(seed, price):
    """Time and price together fall with every step; without a price, the time does."""
    _, times, moves = SplitLayer(seed).improve(price=price)
    assert (np.diff(times + price * moves) < 0).all()


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, more=st.integers(0, 3), most=st.integers(0, 2))
def test_no_step_exceeds_the_limits(seed, more, most):
    """Moves in all and those to a rank stay within their limits, or at what they were."""
    layer = SplitLayer(seed)
    start = layer.received_by(layer.slots)
    steps, _, moves = layer.improve(max_moves=sum(start) + more, max_received=most)
    assert moves.max() <= sum(start) + more
    for k in range(len(steps) + 1):
        received = layer.received_by(reference.after(layer.slots, steps[:k]))
        assert all(now <= max(most, before) for now, before in zip(received, start, strict=True))


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_no_step_makes_a_rank_hold_an_expert_twice(seed):
    """Experts that are distinct on a rank remain so, and all keep a replica."""
    layer = SplitLayer(seed)
    before = [len(mine) for mine in reference.held_by(layer.slots, layer.topology)]
    steps, _, _ = layer.improve()
    slots = reference.after(layer.slots, steps)
    now = [len(mine) for mine in reference.held_by(slots, layer.topology)]
    assert all(n >= b for n, b in zip(now, before, strict=True))
    assert set(slots.tolist()) == set(range(layer.num_experts))


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_experts_stay_on_their_nodes(seed):
    """An expert whose group has a home goes to no rank elsewhere."""
    layer = SplitLayer(seed)
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
    steps, _, _ = SplitLayer(seed).improve(regrants=False)
    assert (steps >= 0).all()


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, share=st.sampled_from([0.5, 0.9, 1.0]))
def test_the_search_ends_at_its_target(seed, share):
    """No step is made from a time that is good enough."""
    layer = SplitLayer(seed)
    target = share * layer.time_of(layer.slots)
    _, times, _ = layer.improve(target=target)
    assert (times[:-1] > target).all()


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_a_layer_that_cannot_gain_enough_stays_as_it_is(seed):
    """Its target is too near."""
    layer = SplitLayer(seed)
    time = layer.time_of(layer.slots)
    assert len(layer.improve(target=0.5 * time, least_gain=0.6 * time + 1e-9)[0]) == 0


def best_step(layer):
    """Return the least expected time after any swap or re-grant that keeps the experts of ranks distinct."""
    slots, held = layer.slots, reference.held_by(layer.slots, layer.topology)
    rank_of, steps = layer.topology.rank_of_slot, []
    for one, expert in enumerate(slots):
        others = range(layer.num_experts) if (slots == expert).sum() > 1 else []
        steps += [(one, -1 - other) for other in others if other not in held[rank_of[one]]]
        steps += [
            (one, two)
            for two in range(one)
            if slots[two] not in held[rank_of[one]] and expert not in held[rank_of[two]]
        ]
    return min((layer.time_of(reference.after(slots, [step])) for step in steps), default=np.inf)


def test_the_search_mostly_ends_where_no_step_helps():
    """It looks at those alone that let tokens out of the sets that bind; where slots cost nothing, that is enough."""
    ended = 0
    for seed in range(100):
        layer = SplitLayer(seed, distinct=True)
        layer.extras = np.zeros_like(layer.extras)
        steps, times, _ = layer.improve()
        layer.slots = reference.after(layer.slots, steps)
        ended += best_step(layer) >= times[-1] * (1 - 1e-8)
    assert ended >= 97
