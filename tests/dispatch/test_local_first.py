"""Near replicas first: quotas are kept exactly, and no other way keeps more tokens near."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.dispatch import local_first_quotas, matching, weighted_quotas
from tests import reference_dispatch as twins
from tests.dispatch.tokens import SEEDS


def group_of(seed, most_ranks=5, most_tokens=6):
    """Return source counts [R, E], cumulative quotas [E, X], ranks of replicas [E, X] and nodes [R]."""
    rng = np.random.default_rng(seed)
    num_ranks, num_experts = int(rng.integers(1, most_ranks + 1)), int(rng.integers(1, 4))
    width = int(rng.integers(1, 5))
    ranks = np.sort(rng.integers(0, num_ranks, (num_experts, width)), axis=1)
    ranks[np.arange(width) >= rng.integers(1, width + 1, (num_experts, 1))] = -1
    counts = rng.integers(0, most_tokens + 1, (num_ranks, num_experts)) * (rng.random((num_ranks, 1)) < 0.8)
    weights = np.where(ranks >= 0, rng.exponential(size=ranks.shape) + 1e-3, 0).cumsum(axis=1)
    shares = np.rint(weights / weights[:, -1:] * 2**40).astype(np.int64)
    nodes = rng.permutation(np.arange(num_ranks) % int(rng.integers(1, num_ranks + 1)))
    return counts, weighted_quotas(counts.sum(axis=0), shares, int(rng.integers(9))), ranks, nodes


def sent_by_all(route, counts, cumulative, ranks, nodes):
    """Return what every source sends to every replica, [R, E, X]."""
    rows = [route(counts, cumulative, ranks, nodes, source) for source in range(len(counts))]
    return np.diff(np.stack([np.asarray(row) for row in rows]), axis=2, prepend=0)


def of_expert(expert, counts, cumulative, ranks, nodes):
    """Return one expert's counts, quotas and ranks as lists, without what pads."""
    held = int((ranks[expert] >= 0).sum())
    each = np.diff(cumulative[expert], prepend=0)[:held]
    return counts[:, expert].tolist(), each.tolist(), ranks[expert, :held].tolist(), nodes.tolist()


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS)
def test_quotas_are_kept_to_the_token(seed):
    """Sources send all they have, and replicas get exactly their quotas."""
    group = group_of(seed, most_tokens=1000)
    sent = sent_by_all(local_first_quotas, *group)
    assert (sent >= 0).all()
    np.testing.assert_array_equal(sent.sum(axis=2), group[0])
    np.testing.assert_array_equal(sent.sum(axis=0), np.diff(group[1], axis=1, prepend=0))
    assert (sent.sum(axis=0)[group[2] < 0] == 0).all()


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS)
def test_kernel_and_composition_are_the_twin(seed):
    """Own rank, own node, anywhere, a token at a time."""
    group = group_of(seed)
    kernel = sent_by_all(local_first_quotas, *group)
    tensors = [torch.from_numpy(np.ascontiguousarray(part)) for part in group]
    for route in (local_first_quotas, matching.local_first):
        np.testing.assert_array_equal(sent_by_all(route, *tensors), kernel)
    for expert in range(group[0].shape[1]):
        counts, quotas, ranks, nodes = of_expert(expert, *group)
        twin = twins.local_first(counts, quotas, ranks, nodes)
        np.testing.assert_array_equal(kernel[:, expert, : len(quotas)], twin)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_no_way_keeps_more_tokens_near(seed):
    """Of all ways to keep the quotas, by brute force."""
    group = group_of(seed, most_ranks=3, most_tokens=2)
    sent = sent_by_all(local_first_quotas, *group)
    for expert in range(group[0].shape[1]):
        counts, quotas, ranks, nodes = of_expert(expert, *group)
        mine = sent[:, expert, : len(quotas)]
        on_rank = sum(mine[rank, j] for j, rank in enumerate(ranks))
        on_node = sum(mine[r, j] for j, rank in enumerate(ranks) for r in range(len(nodes)) if nodes[r] == nodes[rank])
        assert (on_rank, on_node) == twins.most_local(counts, quotas, ranks, nodes)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_counts_may_be_int32(dtype):
    """As engines count."""
    counts, *rest = group_of(11)
    assert (local_first_quotas(counts.astype(dtype), *rest, 0) == local_first_quotas(counts, *rest, 0)).all()


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, source=st.integers(0, 4))
def test_nearest_replica_alone_loses_what_quotas_keep(seed, source):
    """A source with all the tokens sends them by the quotas, though it has a replica itself."""
    nodes, ranks = np.array([0, 0, 1, 1, 1]), np.array([[0, 1, 2, 3, 4]])
    counts = np.zeros((5, 1), dtype=np.int64)
    counts[source] = 1000 + seed % 7
    shares = np.arange(1, 6)[None] * 2**40 // 5
    cumulative = weighted_quotas(counts.sum(axis=0), shares, seed % 100)
    taken = sent_by_all(local_first_quotas, counts, cumulative, ranks, nodes).sum(axis=(0, 1))
    assert taken.max() <= -(-counts[source, 0] // 5)
