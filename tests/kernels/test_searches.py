"""Both searches of the planner write down what they do; the twins work out the same from their steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tests.kernels.searched import SEEDS, SplitLayer, WindowLayer

both = pytest.mark.parametrize("kind", [WindowLayer, SplitLayer], ids=["even", "weighted"])


@both
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_what_is_written_down_is_what_the_steps_do(kind, seed):
    """The expected time and the moves after each step are those of the slots that it leaves."""
    layer = kind(seed)
    steps, times, moves = layer.improve()
    for k in range(len(steps) + 1):
        slots = reference.after(layer.slots, steps[:k])
        assert times[k] == pytest.approx(layer.time_of(slots), rel=1e-12)
        assert moves[k] == sum(layer.received_by(slots))


@both
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_placements_are_timed_as_the_twin_does(kind, seed):
    """Timing a placement gives the expected time, the moves, and what every rank receives."""
    layer = kind(seed)
    time, moves, received = layer.timed()
    assert time == pytest.approx(layer.time_of(layer.slots), rel=1e-12)
    assert received == layer.received_by(layer.slots)
    assert moves == sum(received)


@both
@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, price=st.sampled_from([0.0, 0.05, 1.0]))
def test_every_step_gains_more_than_its_moves_cost(kind, seed, price):
    """Time and price together fall with every step; without a price, the time does."""
    _, times, moves = kind(seed).improve(price=price)
    assert (np.diff(times + price * moves) < 0).all()


@both
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, more=st.integers(0, 3), most=st.integers(0, 2))
def test_no_step_exceeds_the_limits(kind, seed, more, most):
    """Moves in all and those to a rank stay within their limits, or at what they were."""
    layer = kind(seed)
    start = layer.received_by(layer.slots)
    steps, _, moves = layer.improve(max_moves=sum(start) + more, max_received=most)
    assert moves.max() <= sum(start) + more
    for k in range(len(steps) + 1):
        received = layer.received_by(reference.after(layer.slots, steps[:k]))
        assert all(now <= max(most, before) for now, before in zip(received, start, strict=True))


@both
@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_no_step_makes_a_rank_hold_an_expert_twice(kind, seed):
    """Experts that are distinct on a rank remain so, and all keep a replica."""
    layer = kind(seed)
    before = [len(mine) for mine in reference.held_by(layer.slots, layer.topology)]
    steps, _, _ = layer.improve()
    slots = reference.after(layer.slots, steps)
    now = [len(mine) for mine in reference.held_by(slots, layer.topology)]
    assert all(n >= b for n, b in zip(now, before, strict=True))
    assert set(slots.tolist()) == set(range(layer.num_experts))


@both
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_experts_stay_on_their_nodes(kind, seed):
    """An expert whose group has a home goes to no rank elsewhere."""
    layer = kind(seed)
    layer.homes = np.arange(layer.num_experts)[None] % 3 - 1
    steps, _, _ = layer.improve()
    before = reference.held_by(layer.slots, layer.topology)
    now = reference.held_by(reference.after(layer.slots, steps), layer.topology)
    for rank, node in enumerate(layer.topology.node_of_rank):
        for expert in now[rank] - before[rank]:
            assert layer.homes[0, expert] in (-1, node)


@both
@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_without_regrants_all_replica_counts_stay(kind, seed):
    """Swaps alone change no counts."""
    steps, _, _ = kind(seed).improve(regrants=False)
    assert (steps >= 0).all()
