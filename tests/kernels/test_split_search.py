"""The search for the weighted split: where it ends."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from tests.kernels.searched import SEEDS, SplitLayer


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
