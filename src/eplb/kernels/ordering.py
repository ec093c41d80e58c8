"""Sorting by load with ids breaking ties: the same order on every processor."""

import numpy as np

from eplb.kernels.compiling import kernel

RUN = 8


@kernel
def order_descending(values, order, scratch):  # type: ignore[no-untyped-def]
    """Fill `order` [n] with indices of `values` [n], largest first, equal values by index: a merge sort.

    `scratch` [n] int64 is overwritten.
    """
    n = order.size
    for start in range(0, n, RUN):
        stop = min(start + RUN, n)
        order[start] = start
        for i in range(start + 1, stop):
            value = values[i]
            j = i - 1
            while j >= start and values[order[j]] < value:
                order[j + 1] = order[j]
                j -= 1
            order[j + 1] = i
    source, target, in_scratch = order, scratch, False
    width = RUN
    while width < n:
        for start in range(0, n, 2 * width):
            _merge(values, source, target, start, min(start + width, n), min(start + 2 * width, n))
        source, target, in_scratch = target, source, not in_scratch
        width *= 2
    if in_scratch:
        order[:] = scratch[:n]


@kernel
def _merge(values, source, target, start, middle, stop):  # type: ignore[no-untyped-def]
    left, right = start, middle
    for k in range(start, stop):
        if left < middle and (right >= stop or values[source[left]] >= values[source[right]]):
            target[k] = source[left]
            left += 1
        else:
            target[k] = source[right]
            right += 1
