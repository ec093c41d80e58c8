"""Splits that know where tokens come from: what they keep, what they count, and what they refuse."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import LoadTrace, Placement, Topology, split
from eplb.dispatch.splitting import solve_split
from eplb.errors import LoadsError
from tests.reference_locality import fewest_leaving, leaving_of, rank_times

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def pair():
    """Return two nodes of one rank each, which share expert 0 of 3."""
    topology = Topology(num_ranks=2, slots_per_rank=2, num_nodes=2)
    return Placement(physical_to_logical=[[0, 1, 2, 0]], topology=topology)


@pytest.fixture
def roomy():
    """Return two nodes that share expert 0 of 2, and a rank of expert 1 that has most to do."""
    topology = Topology(num_ranks=3, slots_per_rank=1, num_nodes=[0, 1, 1])
    return Placement(physical_to_logical=[[0, 0, 1]], topology=topology)


def random_case(seed, num_nodes=3):
    """Return a placement of two layers with a failed rank, and sources [2 windows, 2 layers, N, 6 experts]."""
    rng = np.random.default_rng(seed)
    nodes = rng.permutation([*range(num_nodes), *rng.integers(0, num_nodes, 5 - num_nodes)])
    slots, speeds = [3, 2, 3, 4, 2], rng.choice([1.0, 2.0], 5)
    topology = Topology(num_ranks=5, slots_per_rank=slots, num_nodes=nodes, rank_speeds=speeds, failed_ranks=[1])
    items = np.full((2, 14), -1)
    for row in items:
        row[topology.alive[topology.rank_of_slot]] = rng.permutation([*range(6), *rng.integers(0, 6, 6)])
    sources = rng.integers(0, 9, (2, 2, num_nodes, 6)) * (rng.random((2, 2, 1, 6)) < 0.8)
    return Placement(physical_to_logical=items, topology=topology), sources.astype(float)


def layer_of(placement, layer, sources):
    """Return what `reference_locality` wants to know of a layer: ranks that work alone."""
    topology = placement.topology
    used = topology.alive[topology.rank_of_slot]
    return SimpleNamespace(
        items=placement.physical_to_logical[layer, used],
        offsets=np.concatenate([[0], topology.slot_counts[topology.alive].cumsum()]),
        speeds=topology.speeds[topology.alive],
        nodes=topology.node_of_rank[topology.alive],
        fixed=np.zeros(topology.alive.sum()),
        sources=sources,
        loads=sources.sum(axis=0),
        whole=False,
    ), used


def test_tokens_stay_where_that_makes_no_rank_slower(roomy):
    """Each node keeps its own tokens of expert 0, though it could be shared evenly."""
    sources = np.array([[[8, 0], [2, 9]]])
    assert split(roomy, sources.sum(axis=1)).tolist() == [[0.5, 0.5, 1.0]]
    assert split(roomy, sources.sum(axis=1), source_loads=sources).tolist() == [[0.8, 0.2, 1.0]]


def test_tokens_leave_where_else_a_rank_were_slower(pair):
    """Node 0 has 8 of expert 0, of which its rank has time for 6.5."""
    found = solve_split(pair, [[8, 1, 6]], source_loads=[[[8, 1, 0], [0, 0, 6]]])
    assert (found.largest_loads.tolist(), found.leaving_tokens.tolist()) == ([7.5], [1.5])
    assert found.weights.tolist() == [[6.5 / 8, 1.0, 1.0, 1.5 / 8]]


def test_what_leaves_is_told_where_sources_are(roomy):
    """Read-only, an entry a layer; None without sources."""
    found = solve_split(roomy, [[10, 9]], source_loads=[[[8, 4], [2, 5]]])
    assert found.leaving_tokens.tolist() == [4.0]
    assert not found.leaving_tokens.flags.writeable
    assert solve_split(roomy, [[10, 9]]).leaving_tokens is None


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_fewest_leave_and_no_rank_is_slower(seed):
    """On every window and layer, with a failed rank, uneven slots and nodes, and experts without tokens."""
    placement, sources = random_case(seed)
    loads = sources.sum(axis=2)
    found = solve_split(placement, loads, source_loads=sources)
    np.testing.assert_array_equal(found.largest_loads, solve_split(placement, loads).largest_loads)
    for t, n in np.ndindex(2, 2):
        layer, used = layer_of(placement, n, sources[t, n])
        weights, level = found.weights[t, n], found.largest_loads[t, n]
        np.testing.assert_allclose(np.bincount(layer.items, weights[used]), 1.0, rtol=1e-14)
        assert weights.min() >= 0
        assert not weights[~used].any()
        tokens = weights[used] * layer.loads[layer.items]
        assert rank_times(layer, tokens).max() <= level * (1 + 1e-12)
        np.testing.assert_allclose(found.leaving_tokens[t, n], leaving_of(layer, tokens), atol=1e-11)
        np.testing.assert_allclose(found.leaving_tokens[t, n], fewest_leaving(layer, level), rtol=1e-7, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_whole_tokens_stay_whole(seed):
    """And as many are there as before; a count of those that leave is whole, too."""
    placement, sources = random_case(seed)
    loads = sources[0].sum(axis=1)
    found = solve_split(placement, loads, source_loads=sources[0], whole_tokens=True)
    assert (found.leaving_tokens == np.floor(found.leaving_tokens)).all()
    np.testing.assert_array_equal(found.largest_loads, solve_split(placement, loads, whole_tokens=True).largest_loads)
    for n in range(2):
        layer, used = layer_of(placement, n, sources[0, n])
        np.testing.assert_array_equal(np.bincount(layer.items, found.tokens[n, used]), layer.loads)
        assert leaving_of(layer, found.tokens[n, used]) == found.leaving_tokens[n]


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_on_one_node_nothing_leaves(seed):
    """Exactly, and the split is that without sources."""
    placement, sources = random_case(seed, num_nodes=1)
    found = solve_split(placement, sources.sum(axis=2), source_loads=sources)
    assert not found.leaving_tokens.any()
    np.testing.assert_array_equal(found.weights, split(placement, sources.sum(axis=2)))


def test_without_tokens_none_leave(pair):
    """And weights are even."""
    found = solve_split(pair, np.zeros((1, 3)), source_loads=np.zeros((1, 2, 3)))
    assert (found.weights.tolist(), found.leaving_tokens.tolist()) == ([[0.5, 1.0, 1.0, 0.5]], [0.0])


def test_windows_of_a_trace_and_one_layer_of_a_placement():
    """Axes are those of the loads; one layer comes as [1, N, E]."""
    placement, sources = random_case(3)
    found = solve_split(placement, LoadTrace(loads=sources.sum(axis=2)), source_loads=sources)
    assert found.leaving_tokens.shape == (2, 2)
    alone = solve_split(placement, sources[0, 1:].sum(axis=1), layer=1, source_loads=sources[0, 1:])
    np.testing.assert_array_equal(alone.weights[0], found.weights[0, 1])
    assert alone.leaving_tokens == found.leaving_tokens[0, 1:]


@pytest.mark.parametrize("error", [-5e-10, 5e-10])
def test_sums_may_differ_by_rounding(roomy, error):
    """Up to 1e-9 of a load; nothing leaves where nothing has to."""
    found = solve_split(roomy, np.array([[10, 9]]) * (1 + error), source_loads=[[[8, 0], [2, 9]]])
    assert found.leaving_tokens.tolist() == [0.0]
    np.testing.assert_allclose(found.weights, [[0.8, 0.2, 1.0]], rtol=1e-8)


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ([[[2, 9, 0]]], r"expected \[1 layers, 2 nodes, 3 experts\], got shape \(1, 1, 3\)"),
        ([[[[2, 9, 0], [2, 0, 7]]]], r"got shape \(1, 1, 2, 3\)"),
        ([[[True] * 3] * 2], "of dtype bool"),
        ([[[2, 9, 0], [2, 0]]], "source_loads: expected"),
        ([[[2, 9, 0], [2, np.nan, 7]]], r"got nan at \[0, 1, 1\]"),
        ([[[2, 9, 0], [2, np.inf, 7]]], r"got inf at \[0, 1, 1\]"),
        ([[[5, 9, 0], [-1, 0, 7]]], r"got -1 at \[0, 1, 0\]"),
        ([[[2, 9, 0], [2, 1, 7]]], r"a sum of 10.0 for a load of 9.0 at \[0, 1\]"),
        ([[[2, 9, 0], [2, 0, 7.0001]]], r"at \[0, 2\]"),
    ],
)
def test_unsound_sources_are_refused(pair, sources, complaint):
    """With what was expected, and the first bad index."""
    with pytest.raises(LoadsError, match=complaint):
        split(pair, [[4, 9, 7]], source_loads=sources)


def test_unsound_windows_are_refused(pair):
    """Indices have axis T where the loads have it."""
    loads, sources = np.full((2, 1, 3), 4.0), np.full((2, 1, 2, 3), 2.0)
    sources[1, 0, 1, 2] = 3.0
    with pytest.raises(LoadsError, match=r"at \[1, 0, 2\]"):
        split(pair, loads, source_loads=sources)
    with pytest.raises(
        LoadsError, match=r"expected \[2 windows, 1 layers, 2 nodes, 3 experts\], got shape \(1, 2, 3\)"
    ):
        split(pair, loads, source_loads=sources[0])


def test_whole_tokens_come_from_whole_tokens(pair):
    """Halves of tokens are refused, and so are sums that are only near."""
    with pytest.raises(LoadsError, match=r"expected whole tokens, got 2.5 at \[0, 0, 0\]"):
        solve_split(pair, [[4, 9, 7]], source_loads=[[[2.5, 9, 0], [1.5, 0, 7]]], whole_tokens=True)
    with pytest.raises(LoadsError, match=r"at \[0, 1\] of the loads"):
        loads, sources = [[4, 2**36, 7]], [[[2, 2**36 - 1, 0], [2, 0, 7]]]
        solve_split(pair, loads, source_loads=sources, whole_tokens=True)
