"""The compiled routes and their composition in torch, against slow twins and one another."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.dispatch import composition, remainders, routing
from eplb.dispatch.tables import Tables
from tests import reference_dispatch as twins
from tests.dispatch.tokens import DTYPES, KINDS, SEEDS, case, padded

HOSTILE = [-(2**31), -2, 2**31 - 1, 100, -1]
TWICE = [[0, 1], [2, 2]]
CASES = {"seed": SEEDS, "kind": st.sampled_from(KINDS), "dtype": st.sampled_from(DTYPES)}


def tables_of(drawn):
    return Tables(drawn.placement, drawn.weights, None).arrays(1)


def in_torch(route, *arrays):
    """Return what the composition makes of arrays, on CPU tensors."""
    return route(*(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arrays)).numpy()


def assert_all_alike(ids, twin, kernel, composed):
    """The kernel and the composition do what the twin does, in the dtype of the ids."""
    wanted = np.array(twin, dtype=ids.dtype).reshape(ids.shape)
    for found in (kernel, composed):
        assert found.dtype == ids.dtype
        np.testing.assert_array_equal(found, wanted)


@settings(deadline=None, max_examples=150)
@given(**CASES)
def test_even_is_the_hash_of_the_token(seed, kind, dtype):
    """As vLLM does: the number of the token times Knuth's constant, modulo 2**32, modulo the replicas."""
    drawn = case(seed, kind, dtype)
    tables = tables_of(drawn)
    kernel, _ = routing.even(drawn.ids, tables.replicas, tables.counts)
    composed = in_torch(composition.even, drawn.ids, tables.replicas, tables.counts)
    assert_all_alike(drawn.ids, twins.even(drawn.ids, drawn.slots_of), kernel, composed)


@settings(deadline=None, max_examples=150)
@given(**CASES, step=st.integers(-(2**62), 2**62), source=st.integers(0, 1000))
def test_weighted_hands_out_rounded_shares(seed, kind, dtype, step, source):
    """Quotas from exact fractions, and tokens served one by one."""
    drawn = case(seed, kind, dtype)
    tables, num_experts = tables_of(drawn), drawn.placement.num_experts
    quotas = [
        twins.weighted(count, weights, twins.remainder(expert, step, source))
        for expert, (count, weights) in enumerate(
            zip(twins.counts(drawn.ids, num_experts), drawn.weights_of, strict=True)
        )
    ]
    added = remainders(num_experts, step, source)
    kernel, _ = routing.weighted(drawn.ids, tables.replicas, tables.shares, added)
    now = torch.tensor([step])
    composed = in_torch(composition.weighted, drawn.ids, tables.replicas, tables.shares, now, source)
    assert_all_alike(drawn.ids, twins.by_quotas(drawn.ids, drawn.slots_of, quotas), kernel, composed)


@settings(deadline=None, max_examples=150)
@given(**CASES)
def test_quotas_are_kept(seed, kind, dtype):
    """The first replica with a quota left serves; the last takes what is beyond all, and zeros are passed by."""
    drawn = case(seed, kind, dtype)
    tables = tables_of(drawn)
    quotas = [drawn.rng.choice([0, 0, 1, 2, 5, 2**41], len(slots)) for slots in drawn.slots_of]
    cumulative = padded([np.cumsum(row) for row in quotas], tables.replicas.shape[1], 0)
    cumulative = np.maximum.accumulate(cumulative, axis=1)
    kernel, _ = routing.quotas(drawn.ids, tables.replicas, cumulative)
    composed = in_torch(composition.quotas, drawn.ids, tables.replicas, cumulative)
    assert_all_alike(drawn.ids, twins.by_quotas(drawn.ids, drawn.slots_of, quotas), kernel, composed)


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, kind=st.sampled_from(KINDS), dtype=st.sampled_from(DTYPES), spoil=st.integers(0, 3))
def test_unsound_ids_are_seen(seed, kind, dtype, spoil):
    """Ids out of range, and experts twice in a token; every route sees them, and counting too."""
    drawn = case(seed, kind, dtype)
    for _ in range(spoil if drawn.ids.size else 0):
        drawn.ids.flat[drawn.rng.integers(drawn.ids.size)] = drawn.rng.choice(
            [*HOSTILE, 0, drawn.placement.num_experts]
        )
    tables, num_experts = tables_of(drawn), drawn.placement.num_experts
    wanted = twins.soundness(drawn.ids, num_experts)
    counts, sound = routing.count(drawn.ids, num_experts)
    assert counts.tolist() == twins.counts(drawn.ids, num_experts)
    assert sound == wanted
    assert routing.even(drawn.ids, tables.replicas, tables.counts, True)[1] == wanted
    assert routing.weighted(drawn.ids, tables.replicas, tables.shares, remainders(num_experts), True)[1] == wanted
    assert routing.quotas(drawn.ids, tables.replicas, tables.shares, True)[1] == wanted


@pytest.mark.parametrize("dtype", DTYPES)
def test_ids_that_are_no_experts_get_padding(dtype):
    """Unchecked routes reach for nothing outside the tables, whatever the ids."""
    drawn = case(3, num_experts=4)
    tables = tables_of(drawn)
    hostile = [HOSTILE, [np.iinfo(dtype).min, np.iinfo(dtype).max, 4, 5, 6]]
    ids = np.array(hostile, dtype=dtype)
    for kernel, composed, rest in (
        (routing.even, composition.even, [tables.counts]),
        (routing.quotas, composition.quotas, [tables.shares]),
    ):
        assert (kernel(ids, tables.replicas, *rest)[0] == -1).all()
        assert (in_torch(composed, ids, tables.replicas, *rest) == -1).all()
    assert (routing.weighted(ids, tables.replicas, tables.shares, remainders(4))[0] == -1).all()
    assert (in_torch(composition.weighted, ids, tables.replicas, tables.shares, torch.tensor([0]), 0) == -1).all()


def test_ids_may_lie_anyhow():
    """Transposed, sliced and read-only ids are routed like copies of them."""
    drawn = case(5, num_experts=6)
    tables = tables_of(drawn)
    ids = np.argsort(drawn.rng.random((40, 6)), axis=1)
    views = [ids[::2], ids[:, ::-1], np.asfortranarray(ids), np.broadcast_to(ids[:1], (7, 6))]
    for view in views:
        found, _ = routing.quotas(view, tables.replicas, tables.shares)
        np.testing.assert_array_equal(found, routing.quotas(view.copy(), tables.replicas, tables.shares)[0])


def test_a_large_batch_of_one_expert():
    """Millions of tokens: sums of 63 bits, and nothing is lost."""
    replicas, counts = np.array([[0, 1, 2]], dtype=np.int32), 2**21
    shares = np.array([[2**39, 2**39, 2**40]])
    slots, sound = routing.weighted(np.zeros((counts, 1), dtype=np.int64), replicas, shares, remainders(1), True)
    assert sound
    assert np.bincount(slots.ravel(), minlength=3).tolist() == [counts // 2, 0, counts // 2]
