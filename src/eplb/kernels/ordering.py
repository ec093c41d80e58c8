"""Sorting by load with ids breaking ties: the same order on every processor."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part

SMALL = 32
RADIX_BITS = 16


@part
def order_descending(values: Floats, order: Ints, scratch: Ints) -> None:
    """Fill `order` [n] with the indices of `values` [n] (>= +0.0), largest first, equal values by index.

    Two radix passes over the leading bits of the floats, which are ordered as integers are; then insertion for what
    these bits cannot tell apart. `scratch` [n] int64 is overwritten. O(n) unless many loads lie close together and
    one far below them.
    """
    n = order.size
    if n > SMALL:
        _radix_passes(values.view(np.int64), order, scratch)
    else:
        for i in range(n):
            order[i] = i
    for k in range(1, n):
        item = order[k]
        value = values[item]
        j = k - 1
        while j >= 0 and values[order[j]] < value:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = item


@part
def _radix_passes(bits: Ints, order: Ints, scratch: Ints) -> None:
    n = order.size
    high = bits[0]
    for b in bits:
        high = max(high, b)
    low = high
    for b in bits:
        low = min(low, b if b > 0 else high)  # zeros come last in any case, and must not stretch the range
    shift = 0
    while (high - low) >> shift >= 1 << RADIX_BITS:
        shift += 1
    half = RADIX_BITS // 2
    mask = (1 << half) - 1
    minor = np.zeros(mask + 2, np.int64)
    major = np.zeros(mask + 2, np.int64)
    keys = np.empty(n, np.int64)
    for i in range(n):
        key = min((high - bits[i]) >> shift, (1 << RADIX_BITS) - 1)
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
