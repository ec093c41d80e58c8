"""How many replicas each expert gets: highest averages (Jefferson, D'Hondt)."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.heap import sift_down, sift_up


@part
def highest_averages(loads: Floats, order: Ints, num_slots: int, max_count: int, cover: Ints, counts: Ints) -> None:
    """Fill `counts` [E] so that the largest load per replica is least.

    `order` holds the experts by falling load (`counts` of experts that are not in it stay). Each further replica goes
    to the largest ``loads / counts``, the lowest id among equals. No expert gets more than `max_count`; a non-empty
    `cover` [E + 1] also demands that the k largest counts sum to at most ``cover[k]`` (see `distinct_slots`).
    O(P log E) without `cover`.
    """
    num_experts = order.size
    for expert in order:
        counts[expert] = 1
    heap = np.empty(num_experts, np.int64)
    negated = np.empty(counts.size)  # averages with their sign turned: the heap yields its smallest key
    size = 0
    fresh = 0
    left = num_slots - num_experts
    while left > 0 and (size > 0 or fresh < num_experts):
        take_fresh = fresh < num_experts
        if take_fresh and size > 0:
            top, new = heap[0], order[fresh]
            take_fresh = loads[new] > -negated[top] or (loads[new] == -negated[top] and new < top)
        expert = order[fresh] if take_fresh else heap[0]
        blocked = counts[expert] >= max_count or (cover.size > 0 and not _may_grow(counts, expert, cover))
        if not blocked:
            counts[expert] += 1
            negated[expert] = -loads[expert] / counts[expert]
            left -= 1
        if take_fresh:
            fresh += 1
            if not blocked:
                heap[size] = expert
                sift_up(heap, negated, size)
                size += 1
        elif blocked:
            size -= 1
            heap[0] = heap[size]
            sift_down(heap, negated, size)
        else:
            sift_down(heap, negated, size)


@part
def largest_average(loads: Floats, counts: Ints) -> float:
    """Return the largest ``loads / counts``."""
    largest = 0.0
    for expert in range(counts.size):
        average = loads[expert] / counts[expert]
        if average > largest:
            largest = average
    return largest


@part
def distinct_slots(offsets: Ints, num_experts: int) -> Ints:
    """Return `cover` [E + 1]: the slots that k experts can fill when no rank holds one of them twice.

    Counts can be placed without two replicas of an expert on a rank exactly if, for every k, the k largest sum to at
    most ``cover[k]`` (Gale and Ryser).
    """
    cover = np.zeros(num_experts + 1, np.int64)
    for k in range(num_experts + 1):
        for rank in range(offsets.size - 1):
            cover[k] += min(offsets[rank + 1] - offsets[rank], k)
    return cover


@part
def _may_grow(counts: Ints, expert: int, cover: Ints) -> bool:
    """Whether one more replica of `expert` keeps the counts within `cover`."""
    most = 0
    for count in counts:
        most = max(most, count)
    tally = np.zeros(most + 2, np.int64)
    for e in range(counts.size):
        tally[counts[e] + (1 if e == expert else 0)] += 1
    total = 0
    k = 0
    for count in range(tally.size - 1, 0, -1):
        for _ in range(tally[count]):
            total += count
            k += 1
            if total > cover[k]:
                return False
    return True
