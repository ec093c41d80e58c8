"""Whole-token quotas: never a token off, for a batch or for a group, and fair over steps, sources and experts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.dispatch import cumulative_shares, quotas, remainders, source_quotas, weighted_quotas
from tests import reference_dispatch as twins
from tests.dispatch.tokens import SEEDS, case

STEPS = st.integers(-(2**62), 2**62)
BATCHES = {
    "bursts": [1000, 0, 0, 3, 999],
    "one token": [0, 1, 0, 0, 0],
    "one expert": [0, 0, 4096, 0, 0],
    "empty": [0, 0, 0, 0, 0],
    "decode": [1, 1, 2, 1, 3],
    "large": [2**23 - 1, 2**22 + 1, 1, 0, 12345],
}
WEIGHTS = np.array([[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0.9, 0.05, 0.05], [0, 1, 0], [0.1, 0.2, 0.7]])
SHARES = np.rint(WEIGHTS.cumsum(axis=1) * 2**40).astype(np.int64)


def each(cumulative):
    """Return the quotas themselves, [E, X]."""
    return np.diff(cumulative, axis=1, prepend=0)


def assert_within_a_token(taken, counts, weights):
    """Every replica takes its share, to a token (and 2**-40 of the tokens, which is what shares are rounded to)."""
    np.testing.assert_array_equal(taken.sum(axis=1), counts)
    assert (np.abs(taken - np.asarray(counts)[:, None] * weights) < 1 + np.max(counts) * 2.0**-39).all()


@pytest.mark.parametrize("counts", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("source", [0, 1, 63])
def test_no_replica_is_a_token_off(counts, source):
    """For any batch of one source, at any step."""
    for step in range(50):
        taken = each(weighted_quotas(np.array(counts), SHARES, step, source))
        assert_within_a_token(taken, counts, WEIGHTS)
        assert (taken[WEIGHTS == 0] == 0).all()


@pytest.mark.parametrize("counts", BATCHES.values(), ids=BATCHES.keys())
def test_no_replica_is_a_token_off_over_a_group(counts, rng):
    """With the counts of all sources, what they send together is a token off at most, not each of them."""
    owners = rng.multinomial(np.array(counts), np.full(16, 1 / 16)).T
    owners[5] += owners[2]
    owners[2] = 0  # a rank without tokens
    for step in range(20):
        group = weighted_quotas(owners.sum(axis=0), SHARES, step)
        sent = sum(each(source_quotas(owners[g], owners[:g].sum(axis=0), group)) for g in range(16))
        assert_within_a_token(sent, counts, WEIGHTS)


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, step=STEPS, source=st.integers(0, 10_000))
def test_quotas_are_those_of_exact_fractions(seed, step, source):
    """Shares of the tables and integers of 64 bits lose nothing."""
    drawn = case(seed)
    counts = drawn.rng.integers(0, 10_000, drawn.placement.num_experts)
    shares = cumulative_shares(drawn.placement, drawn.weights)[1]
    taken = each(weighted_quotas(counts, shares, step, source))
    for expert, weights in enumerate(drawn.weights_of):
        rest = twins.remainder(expert, step, source)
        assert taken[expert, : len(weights)].tolist() == twins.weighted(int(counts[expert]), weights, rest)


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS)
def test_sources_share_what_the_group_may_send(seed):
    """In order, without a gap: the twin hands out token by token."""
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, 6, (int(rng.integers(1, 5)), 5))
    group = weighted_quotas(owners.sum(axis=0), SHARES, int(rng.integers(100)))
    sent = [each(source_quotas(row, owners[:g].sum(axis=0), group)) for g, row in enumerate(owners)]
    for expert in range(5):
        twin = twins.source_parts(owners[:, expert].tolist(), each(group)[expert].tolist())
        np.testing.assert_array_equal([part[expert] for part in sent], twin)


@settings(deadline=None, max_examples=50)
@given(step=STEPS, source=st.integers(0, 10_000))
def test_tensors_come_to_the_same_numbers(step, source):
    """Numpy, torch with an int and torch with a tensor agree in every bit."""
    counts = np.array(BATCHES["large"])
    wanted = weighted_quotas(counts, SHARES, step, source)
    tensors = torch.from_numpy(counts), torch.from_numpy(SHARES)
    for now in (step, np.int64(step), torch.tensor([step]), torch.tensor(step)):
        found = weighted_quotas(*tensors, now, source)
        np.testing.assert_array_equal(found.numpy(), wanted)
    split = source_quotas(tensors[0] // 2, tensors[0] // 4, found).numpy()
    np.testing.assert_array_equal(split, source_quotas(counts // 2, counts // 4, wanted))


@pytest.mark.parametrize("vary", ["step", "source_rank"])
def test_single_tokens_find_all_replicas(vary):
    """Of 200 batches of one token, each replica gets its share, to a few: they don't all favour the same one."""
    taken = sum(each(weighted_quotas(np.ones(5, dtype=int), SHARES, **{vary: n})) for n in range(200))
    assert np.abs(taken - 200 * WEIGHTS).max() <= 4


def test_experts_round_differently():
    """Of 200 experts with a token each and two equal replicas, half go to the first."""
    shares = np.tile([2**39, 2**40], (200, 1))
    for step in range(20):
        assert abs(weighted_quotas(np.ones(200, dtype=int), shares, step)[:, 0].sum() - 100) <= 4


def test_remainders_are_fractions():
    """They stay below one and at 0 or above, in numpy and torch, and repeat."""
    for step in (0, 1, -1, 10**18):
        for found in (remainders(300, step, 7), remainders(300, torch.tensor([step]), 7).numpy()):
            assert found.dtype == np.int64
            assert ((found >= 0) & (found < quotas.ONE)).all()
            np.testing.assert_array_equal(found, remainders(300, step, 7))


def test_kernels_use_the_same_unit():
    """The number of bits stands in two files, as kernels import no others."""
    from eplb.kernels.routing.tokens import SHARE_BITS

    assert SHARE_BITS == quotas.SHARE_BITS
