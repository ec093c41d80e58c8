"""The search over scenarios: no swap that helps is overlooked, and steps are applied as they were written down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.kernels.windows.layers import apply_layers
from tests import reference
from tests.kernels.searched import MAX_STEPS, SEEDS, WindowLayer


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
    layer = WindowLayer(seed, distinct=True)
    best = best_value(layer, swaps_of(layer, layer.slots), price)
    assert first_value(layer, price, regrants=False) == pytest.approx(best, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, price=PRICES)
def test_no_regrant_that_helps_a_slowest_rank_is_overlooked(seed, price):
    """The first step is worth at least what any swap is, or any replica more for an expert of a slowest rank."""
    layer = WindowLayer(seed, distinct=True)
    steps = [*swaps_of(layer, layer.slots), *helpful_regrants_of(layer, layer.slots)]
    assert first_value(layer, price, regrants=True) <= best_value(layer, steps, price) + 1e-9


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_the_search_ends_where_no_swap_helps(seed):
    """What bounds rule out without working it out would not have helped: no swap of two slots lowers the time."""
    layer = WindowLayer(seed)
    steps, times, _ = layer.improve()
    assert len(steps) < MAX_STEPS
    slots = reference.after(layer.slots, steps)
    for swap in swaps_of(layer, slots):
        assert layer.time_of(reference.after(slots, [swap])) >= times[-1] * (1 - 1e-9)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, data=st.data())
def test_steps_are_applied_one_after_another(seed, data):
    """`apply_layers` does the first steps, as many as it is told."""
    layer = WindowLayer(seed)
    steps, _, _ = layer.improve()
    taken = data.draw(st.integers(0, len(steps)))
    slots = layer.slots[None].copy()
    apply_layers(0, 1, steps[None].copy(), np.array([taken]), slots)
    np.testing.assert_array_equal(slots[0], reference.after(layer.slots, steps[:taken]))
