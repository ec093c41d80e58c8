"""Replica choice for routed tokens: count the tokens of each expert, then hand its replicas out, one after another.

T tokens with k ids each lie flat in `ids` [T * k]; `replicas` [E, X] holds the slots of each expert, then -1. An id
outside 0 .. E-1 is padding, and gets -1. The loops over ids do one load and one store for each: a count shares a word
with the token that was counted last, and what a replica may still take shares a word with its slot.
"""

import numpy as np

from eplb.kernels.arrays import Ints
from eplb.kernels.compiling import kernel, part

SHARE_BITS = 40
"""Cumulative shares are in units of 2**-40."""
KNUTH = np.int64(2654435769)
HIGH = np.int64(32)
LOW = np.int64(0xFFFFFFFF)
ONE = np.int64(1 << 32)
MOST = np.int64(0x7FFFFFFF)


@kernel
def route_even(
    first: int, last: int, ids: Ints, width: int, replicas: Ints, counts: Ints, checked: bool, out: Ints
) -> bool:
    """Give each id the replica that the hash of its token names; return whether the ids are sound, if `checked`."""
    sound = True
    for _ in range(first, last):
        if checked:
            sound = _tally(ids, width, np.zeros(counts.size + 2, dtype=np.int64))
        _hash_out(ids, width, replicas, counts, out)
    return sound


@kernel
def route_weighted(
    first: int,
    last: int,
    ids: Ints,
    width: int,
    replicas: Ints,
    shares: Ints,
    remainders: Ints,
    checked: bool,
    out: Ints,
) -> bool:
    """Hand out by floor(tokens * share + remainder), `shares` [E, X] and `remainders` [E]; return as `route_even`."""
    sound = True
    for _ in range(first, last):
        tally = np.zeros(replicas.shape[0] + 2, dtype=np.int64)
        if checked:
            sound = _tally(ids, width, tally)
        else:
            _count(ids, tally)
        cumulative = np.empty(replicas.shape, dtype=np.int64)
        for expert in range(replicas.shape[0]):
            tokens = tally[expert + 1] & LOW
            for j in range(replicas.shape[1]):
                cumulative[expert, j] = (tokens * shares[expert, j] + remainders[expert]) >> SHARE_BITS
        _hand_out(ids, replicas, cumulative, out)
    return sound


@kernel
def route_quotas(
    first: int, last: int, ids: Ints, width: int, replicas: Ints, cumulative: Ints, checked: bool, out: Ints
) -> bool:
    """Give the i-th id of each expert the first replica with i < `cumulative` [E, X]; return as `route_even`.

    Ids beyond all quotas get the last replica.
    """
    sound = True
    for _ in range(first, last):
        if checked:
            sound = _tally(ids, width, np.zeros(replicas.shape[0] + 2, dtype=np.int64))
        _hand_out(ids, replicas, cumulative, out)
    return sound


@kernel
def count_ids(first: int, last: int, ids: Ints, width: int, counts: Ints) -> bool:
    """Write how often each expert occurs to `counts` [E]; return whether the ids are sound."""
    sound = True
    for _ in range(first, last):
        tally = np.zeros(counts.size + 2, dtype=np.int64)
        sound = _tally(ids, width, tally)
        for expert in range(counts.size):
            counts[expert] = tally[expert + 1] & LOW
    return sound


@part
def _bucket(expert: int, beyond: np.uint64) -> np.uint64:
    """Return where an id is counted: -1 at 0, expert e at e + 1, all others at `beyond`, E + 1."""
    return min(np.uint64(np.int64(expert) + 1), beyond)


@part
def _count(ids: Ints, tally: Ints) -> None:
    beyond = np.uint64(tally.size - 1)
    for i in range(ids.size):
        tally[_bucket(ids[i], beyond)] += 1


@part
def _tally(ids: Ints, width: int, tally: Ints) -> bool:
    """Count the ids; return whether all are in -1 .. E-1, and those of a token that are no padding differ.

    The low half of an entry counts; the high half is the token, from 1 on, in which its id came last.
    """
    beyond = np.uint64(tally.size - 1)
    distinct = np.int64(-1)  # stays negative as long as each entry is older than its token
    token = np.int64(0)
    for start in range(0, ids.size, max(width, 1)):
        token += ONE
        for i in range(start, start + width):
            bucket = _bucket(ids[i], beyond)
            entry = tally[bucket]
            distinct &= entry - token
            tally[bucket] = (entry & LOW) + token + 1
    if tally[beyond] > 0:
        return False
    return distinct < 0 or _is_distinct(ids, width, tally.size)


@part
def _is_distinct(ids: Ints, width: int, num_buckets: int) -> bool:
    """Look again at sound ids of which one came twice in a token: was it only padding?"""
    seen = np.zeros(num_buckets, dtype=np.int64)
    for start in range(0, ids.size, max(width, 1)):
        for i in range(start, start + width):
            if ids[i] >= 0:
                if seen[ids[i]] > start:
                    return False
                seen[ids[i]] = start + 1
    return True


@part
def _hash_out(ids: Ints, width: int, replicas: Ints, counts: Ints, out: Ints) -> None:
    """Take (token * KNUTH mod 2**32) mod count, in floats, as a division of integers takes three times as long.

    The half keeps the quotient away from whole numbers by more than the rounding, so that it is exact.
    """
    sizes, inverses = np.empty(counts.size, dtype=np.int64), np.empty(counts.size)
    for expert in range(counts.size):
        sizes[expert] = min(max(counts[expert], 1), replicas.shape[1])
        inverses[expert] = 1.0 / sizes[expert]
    hashed = np.int64(0)
    for start in range(0, ids.size, max(width, 1)):
        middle = np.float64(hashed) + 0.5
        for i in range(start, start + width):
            expert = np.uint64(ids[i])
            if expert < np.uint64(counts.size):
                j = hashed - np.int64(middle * inverses[expert]) * sizes[expert]
                out[i] = replicas[expert, np.uint64(j)]
            else:
                out[i] = -1
        hashed = (hashed + KNUTH) & LOW


@part
def _hand_out(ids: Ints, replicas: Ints, cumulative: Ints, out: Ints) -> None:
    """Walk through the ids; the high half of a purse is what its replica may still take, the low half is its slot."""
    num_experts, width = replicas.shape
    beyond = np.uint64(num_experts + 1)
    purses = np.zeros(num_experts + 2, dtype=np.int64)
    chosen = np.full(num_experts, -1, dtype=np.int64)
    for i in range(ids.size):
        bucket = _bucket(ids[i], beyond)
        purse = purses[bucket]
        if purse < ONE:  # on to the next replica with a quota, or the last one, which takes all that comes
            expert = np.int64(bucket) - 1
            left, slot = MOST, LOW
            if 0 <= expert < num_experts:
                j = chosen[expert]
                spent = cumulative[expert, j] if j >= 0 else np.int64(0)
                while j + 1 < width and replicas[expert, j + 1] >= 0:
                    j += 1
                    if cumulative[expert, j] > spent:
                        left = min(cumulative[expert, j] - spent, MOST)
                        break
                chosen[expert] = j
                if j >= 0:
                    slot = np.int64(replicas[expert, j])
            purse = (left << HIGH) | slot
        purses[bucket] = purse - ONE
        out[i] = np.int32(purse)
