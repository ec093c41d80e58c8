"""Renaming ranks and slots of a new plan, against trying all permutations."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.kernels.windows.overlap import assign, rename_layers, settle_layers
from tests import reference

COSTS = st.one_of(st.integers(-4, 4).map(float), st.floats(-1e6, 1e6))
SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), size=st.integers(1, 6))
def test_an_assignment_costs_the_least(compiled, data, size):
    """Every row gets a column of its own, at the least total cost of all permutations."""
    costs = np.array(data.draw(st.lists(COSTS, min_size=size * size, max_size=size * size))).reshape(size, size)
    place = compiled(assign)(costs)
    assert sorted(place.tolist()) == list(range(size))
    least = reference.best_assignment(costs)
    assert costs[np.arange(size), place].sum() <= least + 1e-9 * max(1.0, abs(costs).max())


def kept(held, items, num_ranks):
    """Return how many of the experts of each rank it held before, over all ranks."""
    pairs = zip(np.split(held, num_ranks), np.split(items, num_ranks), strict=True)
    return sum(len(set(old.tolist()) & set(new.tolist())) for old, new in pairs)


def random_layer(rng, num_ranks, slots_per_rank):
    """Return slots [P] with distinct experts on every rank."""
    return np.concatenate([rng.permutation(2 * slots_per_rank)[:slots_per_rank] for _ in range(num_ranks)])


def renamed(held, items, kinds, slots_per_rank):
    offsets = np.arange(len(kinds) + 1) * slots_per_rank
    items = items[None].copy()
    rename_layers(0, 1, held[None].copy(), offsets, offsets, np.array(kinds), items)
    return items[0]


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, num_ranks=st.integers(1, 5))
def test_renamed_ranks_keep_the_most_experts(seed, num_ranks):
    """No other order of the ranks would leave more experts in place."""
    rng = np.random.default_rng(seed)
    held, items = random_layer(rng, num_ranks, 3), random_layer(rng, num_ranks, 3)
    result = renamed(held, items, [0] * num_ranks, 3)
    overlaps = [[-kept(old, new, 1) for old in np.split(held, num_ranks)] for new in np.split(items, num_ranks)]
    assert kept(held, result, num_ranks) == -reference.best_assignment(overlaps)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_only_ranks_of_one_kind_trade_places(seed):
    """Ranks of another kind keep what they have; the others hold the same experts in another order."""
    rng = np.random.default_rng(seed)
    held, items, kinds = random_layer(rng, 5, 2), random_layer(rng, 5, 2), [0, 1, 0, 2, 0]
    result = renamed(held, items, kinds, 2).reshape(5, 2).tolist()
    items = items.reshape(5, 2).tolist()
    assert (result[1], result[3]) == (items[1], items[3])
    assert sorted(result[r] for r in (0, 2, 4)) == sorted(items[r] for r in (0, 2, 4))


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS)
def test_experts_that_stay_go_back_to_their_slot(seed):
    """A rank holds the same experts after it; each that it held before is in one of the slots that held it."""
    rng = np.random.default_rng(seed)
    sizes, old_sizes = rng.integers(1, 5, 3), rng.integers(0, 5, 3)
    offsets, held_offsets = (np.concatenate([[0], np.cumsum(s)]) for s in (sizes, old_sizes))
    items, held = rng.integers(0, 5, offsets[-1]), rng.integers(-1, 5, held_offsets[-1])
    settled = items[None].copy()
    settle_layers(0, 1, held[None].copy(), held_offsets, offsets, settled)
    for r in range(3):
        mine = settled[0, offsets[r] : offsets[r + 1]].tolist()
        old = held[held_offsets[r] : held_offsets[r + 1]].tolist()
        assert sorted(mine) == sorted(items[offsets[r] : offsets[r + 1]].tolist())
        for expert in set(mine) & set(old[: len(mine)]):
            assert any(k < len(mine) and mine[k] == expert for k, before in enumerate(old) if before == expert)
