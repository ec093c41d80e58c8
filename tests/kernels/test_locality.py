"""Local splits against a linear program: as fast as the split that they start from, and fewest tokens leave."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.kernels.split.holders import find_holders, no_holders
from eplb.kernels.split.layers import split_layers
from eplb.kernels.split.locality import localise_layers, place_shared
from eplb.kernels.split.ways import find_homes, no_ways
from tests.reference_locality import fewest_leaving, leaving_of, rank_times

SEEDS = st.integers(0, 2**32 - 1)


def sources_of(rng, shape):
    """Return tokens [N, E] of one of several kinds: smooth, skewed, with gaps, tied, from one node."""
    kind = rng.integers(6)
    if kind == 0:
        return rng.random(shape)
    if kind == 1:
        return rng.lognormal(0, 3, shape)
    if kind == 2:
        return rng.random(shape) * (rng.random(shape) < 0.3)
    if kind == 3:
        return rng.integers(0, 4, shape).astype(float)
    if kind == 4:
        return np.full(shape, float(rng.integers(1, 5)))
    return rng.integers(0, 100, shape) * (np.arange(shape[0]) == rng.integers(shape[0]))[:, None].astype(float)


def layer_of(seed, whole=False, num_nodes=None):
    """Return a layer on uneven ranks, in nodes of any order (some without a rank), with speeds and fixed costs."""
    rng = np.random.default_rng(seed)
    num_ranks = int(rng.integers(1, 9))
    speeds = rng.choice([0.5, 1.0, 2.0, 3.0], num_ranks) if rng.random() < 0.5 else np.ones(num_ranks)
    offsets = np.concatenate([[0], rng.integers(1, 5, num_ranks).cumsum()])
    num_nodes = num_nodes or int(rng.integers(1, num_ranks + 2))
    num_experts = int(rng.integers(1, offsets[-1] + 1))
    items = rng.permutation(np.concatenate([np.arange(num_experts), rng.integers(0, num_experts, offsets[-1])]))
    items = np.concatenate([np.arange(num_experts), items])[: offsets[-1]]
    sources = sources_of(rng, (num_nodes, num_experts))
    sources = np.floor(sources * 10) if whole else sources
    fixed = np.floor(rng.random(num_ranks) * sources.sum()) if rng.random() < 0.3 else np.zeros(num_ranks)
    return SimpleNamespace(
        items=rng.permutation(items),
        offsets=offsets,
        speeds=speeds,
        nodes=rng.integers(0, num_nodes, num_ranks),
        fixed=fixed,
        sources=sources,
        loads=sources.sum(axis=0),
        whole=whole,
    )


def split(layer):
    """Return what `split_layers` gives the slots of a layer, and its level."""
    shares, levels = np.empty((1, 1, layer.items.size)), np.empty((1, 1))
    tight = np.empty((1, 1, layer.speeds.size), dtype=np.bool_)
    split_layers(0, 1, *machine_of(layer), layer.whole, shares, levels, tight)
    return shares[0, 0], levels[0, 0]


def localise(layer, shares):
    """Return the local split that starts from `shares`, and the tokens that leave."""
    shares, leaving = shares[None, None].copy(), np.empty((1, 1))
    sources = layer.sources[None, None].copy()
    localise_layers(0, 1, *machine_of(layer), layer.whole, layer.nodes, sources, shares, leaving)
    return shares[0, 0], leaving[0, 0]


def machine_of(layer):
    return layer.loads[None, None], layer.fixed[None, None], layer.speeds, layer.offsets, layer.items[None]


def tokens_of(layer, shares):
    return shares if layer.whole else shares * layer.loads[layer.items]


def even(layer):
    """Return equal shares of the slots of each expert."""
    return 1.0 / np.bincount(layer.items)[layer.items]


def assert_all_placed(layer, shares):
    placed = np.bincount(layer.items, tokens_of(layer, shares), minlength=layer.loads.size)
    np.testing.assert_allclose(placed, layer.loads, rtol=0 if layer.whole else 1e-14)
    assert shares.min() >= 0
    assert not layer.whole or (shares == np.floor(shares)).all()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("block", range(5))
def test_the_fewest_tokens_leave_at_the_least_largest_load(whole, block):
    """A linear program over (node, slot) agrees; with whole tokens, too, as its corners are whole."""
    for seed in range(60 * block, 60 * (block + 1)):
        layer = layer_of(seed, whole)
        start, level = split(layer)
        shares, leaving = localise(layer, start)
        assert_all_placed(layer, shares)
        assert rank_times(layer, tokens_of(layer, shares)).max() <= level * (1 + 1e-12), seed
        fewest = fewest_leaving(layer, level)
        np.testing.assert_allclose(leaving, fewest, rtol=1e-7, atol=1e-9 * layer.loads.sum(), err_msg=str(seed))


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, whole=st.booleans())
def test_what_leaves_is_counted(seed, whole):
    """The count is that of the split which is returned."""
    layer = layer_of(seed, whole)
    shares, leaving = localise(layer, split(layer)[0])
    np.testing.assert_allclose(leaving, leaving_of(layer, tokens_of(layer, shares)), atol=1e-13 * layer.loads.sum())


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_any_split_can_be_where_it_starts(seed):
    """From an even split: all is placed, no rank takes longer than the slowest did, and no more tokens leave."""
    layer = layer_of(seed)
    before = tokens_of(layer, even(layer))
    shares, leaving = localise(layer, even(layer))
    assert_all_placed(layer, shares)
    assert rank_times(layer, tokens_of(layer, shares)).max() <= rank_times(layer, before).max() * (1 + 1e-12)
    assert leaving <= leaving_of(layer, before) * (1 + 1e-12) + 1e-13 * layer.loads.sum()


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, whole=st.booleans())
def test_on_one_node_nothing_leaves_and_nothing_changes(seed, whole):
    """Exactly."""
    layer = layer_of(seed, whole, num_nodes=1)
    start, _ = split(layer)
    shares, leaving = localise(layer, start)
    assert leaving == 0
    np.testing.assert_array_equal(shares, start)


def test_tokens_without_a_replica_on_their_node_leave():
    """Whatever the split: those of node 2, which has no rank, and those of node 1, which has not the expert."""
    layer = layer_of(0)
    layer.items, layer.offsets, layer.speeds = np.array([0, 0, 1]), np.array([0, 1, 2, 3]), np.ones(3)
    layer.nodes, layer.fixed, layer.sources = np.array([0, 0, 1]), np.zeros(3), np.array([[5.0, 0], [3, 2], [1, 0]])
    layer.loads = layer.sources.sum(axis=0)
    assert localise(layer, split(layer)[0])[1] == 4.0


def test_a_lighter_rank_does_not_draw_tokens_abroad():
    """Expert 1 makes rank 2 the slowest; expert 0 could be shared evenly, but each node keeps its own tokens."""
    layer = layer_of(0)
    layer.items, layer.offsets, layer.speeds = np.array([0, 0, 1]), np.array([0, 1, 2, 3]), np.ones(3)
    layer.nodes, layer.fixed, layer.sources = np.array([0, 1, 1]), np.zeros(3), np.array([[8.0, 0], [2, 9]])
    layer.loads = layer.sources.sum(axis=0)
    shares, leaving = localise(layer, split(layer)[0])
    assert (shares.tolist(), leaving) == ([0.8, 0.2, 1.0], 0.0)


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, exponent=st.sampled_from([-900, -60, 60, 900]))
def test_powers_of_two_change_nothing(seed, exponent):
    """Loads are scaled before anything is compared."""
    layer, scaled = layer_of(seed), layer_of(seed)
    for name in ("sources", "loads", "fixed"):
        setattr(scaled, name, np.ldexp(getattr(layer, name), exponent))
    shares, leaving = localise(layer, split(layer)[0])
    others, more = localise(scaled, split(scaled)[0])
    np.testing.assert_array_equal(shares, others)
    assert np.ldexp(leaving, exponent) == more


@pytest.mark.parametrize("whole", [False, True])
def test_windows_and_layers_are_split_on_their_own(whole):
    """Two of each, from one call, are as from four."""
    rng, base = np.random.default_rng(5), layer_of(7, whole)
    shape = (2, 2, *base.sources.shape)
    sources = rng.integers(0, 50, shape).astype(float)
    layers = [
        SimpleNamespace(**{**vars(base), "sources": s, "loads": s.sum(axis=0)}) for s in sources.reshape(4, *shape[2:])
    ]
    starts = [split(layer)[0] for layer in layers]
    shares, leaving = np.reshape(starts, (2, 2, -1)).copy(), np.empty((2, 2))
    machine = (base.fixed[None, None], base.speeds, base.offsets, np.stack([base.items] * 2))
    localise_layers(0, 2, sources.sum(axis=2), *machine, whole, base.nodes, sources, shares, leaving)
    for k, (layer, start) in enumerate(zip(layers, starts, strict=True)):
        alone, left = localise(layer, start)
        np.testing.assert_array_equal(shares.reshape(4, -1)[k], alone)
        assert leaving.reshape(4)[k] == left


def test_without_room_the_split_stays():
    """Half of the tokens are nowhere: as there is no room for them, nothing changes, and what leaves is counted."""
    layer = layer_of(0)
    layer.items, layer.offsets, layer.speeds = np.array([0, 0]), np.array([0, 1, 2]), np.ones(2)
    layer.nodes, layer.fixed, layer.sources = np.array([0, 1]), np.zeros(2), np.array([[1.0], [7.0]])
    layer.loads = layer.sources.sum(axis=0)
    shares, leaving = localise(layer, np.array([0.25, 0.25]))
    assert (shares.tolist(), leaving) == ([0.25, 0.25], 1.0)


def test_too_little_room_is_found_out(compiled):
    """All ranks are filled to the brim, and what is left waits."""
    items, offsets, nodes = np.array([0, 1, 0, 1]), np.array([0, 2, 4]), np.array([0, 1])
    holders, ways = compiled(no_holders)(2, 4, 2), compiled(no_ways)(2, 4, 2)
    compiled(find_holders)(items, offsets, holders)
    compiled(find_homes)(nodes, 2, holders, ways.home)
    for room, enough in ((3.0, False), (5.0, True)):
        ways.slack[:], ways.spare[:] = room, 0.0
        ways.spare[:4] = [4.0, 1.0, 3.0, 2.0]
        assert compiled(place_shared)(np.array([5.0, 5.0]), False, holders, ways) is enough
        assert ways.slack.tolist() == [0.0, 0.0]
        assert ways.waiting.sum() == 10.0 - 2 * room
