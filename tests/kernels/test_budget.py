"""Sharing a budget of moves among layers, against brute force over what each layer could do."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import Topology
from eplb.kernels.windows.budget import share_moves
from tests import reference

UNLIMITED = 2**62
TOPOLOGY = Topology(num_ranks=3, slots_per_rank=2)
NUM_EXPERTS = 6
SEEDS = st.integers(0, 2**32 - 1)


def random_steps(rng, num_steps):
    """Return swaps of slots on two ranks and re-grants, [K, 2]."""
    steps = []
    for _ in range(num_steps):
        slot, other = (int(slot) for slot in rng.choice(TOPOLOGY.num_slots, 2, replace=False))
        steps.append((slot, other if rng.random() < 0.6 else -1 - int(rng.integers(NUM_EXPERTS))))
    return np.array(steps, dtype=np.int64).reshape(-1, 2)


def layers_with_steps(seed, num_layers=3, most_steps=4):
    """Return layers, and for each the steps that it could do with the time and the moves after each."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(TOPOLOGY.num_slots) for _ in range(num_layers)])
    held = [reference.held_by(row, TOPOLOGY) for row in items]
    num_steps = rng.integers(0, most_steps + 1, num_layers)
    steps = np.zeros((num_layers, most_steps, 2), dtype=np.int64)
    moves = np.zeros((num_layers, most_steps + 1), dtype=np.int64)
    for layer, size in enumerate(num_steps):
        steps[layer, :size] = random_steps(rng, size)
        for k in range(size + 1):
            slots = reference.after(items[layer], steps[layer, :k])
            moves[layer, k] = sum(reference.received(slots, TOPOLOGY, held[layer]))
    falls = rng.choice([0.0, 0.1, 0.5, 1.0, -0.2], (num_layers, most_steps), p=[0.1, 0.3, 0.3, 0.2, 0.1])
    times = 10.0 - np.concatenate([np.zeros((num_layers, 1)), falls.cumsum(axis=1)], axis=1)
    return SimpleNamespace(items=items, held=held, steps=steps, num_steps=num_steps, times=times, moves=moves)


def share(layers, max_moves=UNLIMITED, max_received=UNLIMITED, prices=0.0, least_gains=0.0, units=1.0):
    """Return the number of steps taken in each layer, and what each rank receives."""
    num_layers = len(layers.items)
    taken, received = np.zeros(num_layers, dtype=np.int64), np.zeros(TOPOLOGY.num_ranks, dtype=np.int64)
    per_layer = [np.full(num_layers, 1.0) * value for value in (units, prices, least_gains)]
    offsets = TOPOLOGY.slot_offsets.copy()
    found = (layers.steps, layers.num_steps.copy(), layers.times, layers.moves)
    machine = (layers.items, layers.items, offsets, offsets)
    share_moves(0, num_layers, *found, *per_layer, max_moves, max_received, *machine, taken, received)
    return taken, received


def received_after(layers, taken):
    """Return what each rank receives over all layers, [R], by the twin."""
    rows = zip(layers.items, layers.steps, layers.held, taken, strict=True)
    return np.sum([reference.received(reference.after(row, s[:k]), TOPOLOGY, held) for row, s, held, k in rows], axis=0)


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, max_moves=st.integers(0, 6), max_received=st.integers(0, 4))
def test_what_is_taken_stays_within_both_limits(seed, max_moves, max_received):
    """Moves in all and those to each rank, counted anew from the slots."""
    layers = layers_with_steps(seed)
    taken, received = share(layers, max_moves, max_received)
    assert ((taken >= 0) & (taken <= layers.num_steps)).all()
    np.testing.assert_array_equal(received, received_after(layers, taken))
    assert received.sum() <= max_moves
    assert received.max() <= max_received


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_without_limits_every_layer_takes_what_gains_most(seed):
    """Where no step makes a layer slower, its least time is reached."""
    layers = layers_with_steps(seed)
    layers.times = np.minimum.accumulate(layers.times, axis=1)
    taken, _ = share(layers)
    for layer, k in enumerate(taken):
        assert layers.times[layer, k] == layers.times[layer, : layers.num_steps[layer] + 1].min()


def test_the_gain_comes_close_to_the_most_there_is():
    """It never exceeds what brute force over all prefixes finds within the budget, and is most of it on average."""
    shares = []
    for seed in range(200):
        layers = layers_with_steps(seed)
        gains = [layers.times[k, 0] - layers.times[k, : n + 1] for k, n in enumerate(layers.num_steps)]
        moves = [layers.moves[k, : n + 1] for k, n in enumerate(layers.num_steps)]
        taken, _ = share(layers, max_moves=4)
        gain, most = sum(g[k] for g, k in zip(gains, taken, strict=True)), reference.most_gain(gains, moves, 4)
        assert gain <= most + 1e-9
        shares.append(gain / most if most > 0 else 1.0)
    assert np.mean(shares) > 0.9


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, price=st.sampled_from([0.1, 0.3, 0.6]), least=st.sampled_from([0.0, 0.7]))
def test_moves_pay_or_are_left(seed, price, least):
    """A layer that changes gains more than its moves cost, and at least what a change has to."""
    layers = layers_with_steps(seed)
    taken, _ = share(layers, prices=price, least_gains=least)
    for layer in np.flatnonzero(taken):
        gain = layers.times[layer, 0] - layers.times[layer, taken[layer]]
        assert gain > price * layers.moves[layer, taken[layer]]
        assert gain >= least


def test_tokens_decide_which_layer_moves():
    """Layers are compared by what they gain in tokens: the same fall of a busier layer comes first."""
    layers = layers_with_steps(0, num_layers=2, most_steps=1)
    layers.num_steps[:], layers.steps[:, 0], layers.moves[:, 1], layers.times[:, 1] = 1, [0, 2], 2, 9.0
    assert share(layers, max_moves=2, units=np.array([1.0, 2.0]))[0].tolist() == [0, 1]
    assert share(layers, max_moves=2, units=np.array([2.0, 1.0]))[0].tolist() == [1, 0]


def test_equal_gains_prefer_the_rank_that_has_received_least():
    """The first layer loads ranks 0 and 1; of two layers that gain alike, the one that uses rank 2 more is next."""
    layers = layers_with_steps(0, num_layers=3, most_steps=1)
    layers.items[:] = np.arange(6)
    layers.num_steps[:], layers.moves[:, 1], layers.times[:, 1] = 1, [2, 2, 1], [8.0, 9.0, 9.5]
    layers.steps[:, 0] = [[0, 2], [1, 3], [4, -1 - 0]]
    assert share(layers, max_moves=4)[0].tolist() == [1, 0, 1]


def test_a_gain_without_moves_comes_before_any_other():
    """Giving an expert back costs nothing."""
    layers = layers_with_steps(0, num_layers=2, most_steps=1)
    layers.num_steps[:], layers.steps[:, 0], layers.times[:, 1] = 1, [0, 2], [5.0, 9.9]
    layers.moves[:, 1] = [2, 0]
    layers.items[1], layers.steps[1, 0] = [0, 1, 2, 3, 4, 4], [5, -1 - 4]
    assert share(layers, max_moves=0)[0].tolist() == [0, 1]
