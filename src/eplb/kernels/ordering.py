"""Sorting by load with ids breaking ties: the same order on every processor."""

import numpy as np

from eplb.kernels.compiling import part

SMALL = 32
RUN = 8
RADIX_BITS = 16
PATIENCE = 8  # shifts per entry after which the last pass gives up


@part
def order_descending(values, order, scratch):  # type: ignore[no-untyped-def]
    """Fill `order` [n] with the indices of `values` [n] (>= +0.0), largest first, equal values by index.

    Two radix passes over the leading bits, then insertion for what they cannot tell apart; a merge sort where that is
    too much. `scratch` [n] int64 is overwritten. O(n) on usual loads, O(n log n) at worst.
    """
    n = order.size
    if n <= SMALL:
        for i in range(n):
            order[i] = i
        _insert(values, order, 0, n, n * n)
        return
    _radix_passes(values.view(np.int64), order, scratch)
    if not _insert(values, order, 0, n, PATIENCE * n):
        _merge_sort(values, order, scratch)


@part
def _radix_passes(bits, order, scratch):  # type: ignore[no-untyped-def]
    n = order.size
    low, high = bits[0], bits[0]
    for b in bits:
        low, high = min(low, b), max(high, b)
    shift = 0
    while (high - low) >> shift >= 1 << RADIX_BITS:
        shift += 1
    half = RADIX_BITS // 2
    mask = (1 << half) - 1
    minor = np.zeros(mask + 2, np.int64)
    major = np.zeros(mask + 2, np.int64)
    keys = np.empty(n, np.int64)
    for i in range(n):
        key = (high - bits[i]) >> shift
        keys[i] = key
        minor[(key & mask) + 1] += 1
        major[(key >> half) + 1] += 1
    for digit in range(mask):
        minor[digit + 1] += minor[digit]
        major[digit + 1] += major[digit]
    for i in range(n):
        digit = keys[i] & mask
        scratch[minor[digit]] = i
        minor[digit] += 1
    for k in range(n):
        i = scratch[k]
        digit = keys[i] >> half
        order[major[digit]] = i
        major[digit] += 1


@part
def _insert(values, order, start, stop, patience):  # type: ignore[no-untyped-def]
    """Insertion sort of ``order[start:stop]``; return False when it takes more than `patience` shifts."""
    for k in range(start + 1, stop):
        item = order[k]
        value = values[item]
        j = k - 1
        while j >= start and values[order[j]] < value:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = item
        patience -= k - 1 - j
        if patience < 0:
            return False
    return True


@part
def _merge_sort(values, order, scratch):  # type: ignore[no-untyped-def]
    n = order.size
    for i in range(n):
        order[i] = i
    for start in range(0, n, RUN):
        _insert(values, order, start, min(start + RUN, n), RUN * RUN)
    source, target = order, scratch
    width = RUN
    while width < n:
        for start in range(0, n, 2 * width):
            _merge(values, source, target, start, min(start + width, n), min(start + 2 * width, n))
        source, target = target, source
        width *= 2
    for k in range(n):
        order[k] = source[k]


@part
def _merge(values, source, target, start, middle, stop):  # type: ignore[no-untyped-def]
    left, right = start, middle
    for k in range(start, stop):
        if left < middle and (right >= stop or values[source[left]] >= values[source[right]]):
            target[k] = source[left]
            left += 1
        else:
            target[k] = source[right]
            right += 1
