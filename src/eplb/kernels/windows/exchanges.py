"""What a swap or a re-grant does to the expected largest time; the inner loops of the search over scenarios.

They get single arrays: a board handed on would cost more than the work.
"""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part


@part
def swap_hopes(tops: Ints, slow: Floats, weights: Floats, here: int, there: int, rest: Floats, hopes: Floats) -> float:
    """Fill `rest` [S], the largest time of the ranks other than two, and `hopes` [S + 1]; return ``hopes[0]``.

    ``hopes[s]`` is what a change of these two ranks can gain at most in scenario s and later.
    """
    hopes[weights.size] = 0.0
    for s in range(weights.size - 1, -1, -1):
        k = 0
        while k < 2 and (tops[k, s] == here or tops[k, s] == there):
            k += 1
        rest[s] = slow[k, s]
        hopes[s] = hopes[s + 1] + weights[s] * (slow[0, s] - slow[k, s])
    return hopes[0]


@part
def swap_change(
    sizes: Floats,
    times: Floats,
    weights: Floats,
    slow: Floats,
    costs: Floats,
    here: int,
    there: int,
    given: int,
    taken: int,
    rest: Floats,
    hopes: Floats,
    limit: float,
) -> float:
    """Return by how much the expected time changes if `here` gives an expert to `there` for another one.

    inf as soon as it cannot end below `limit`.
    """
    cost_here, cost_there = costs[here], costs[there]
    total = 0.0
    for s in range(weights.size):
        change = sizes[given, s] - sizes[taken, s]
        largest = max(times[here, s] - change * cost_here, times[there, s] + change * cost_there)
        total += weights[s] * (max(largest, rest[s]) - slow[0, s])
        if total - hopes[s + 1] >= limit:
            return np.inf
    return total


@part
def touch(copies: Ints, rank: int, donor: int, expert: int, touched: Ints) -> int:
    """Fill `touched` with the ranks whose time changes when a slot of `rank` goes from one expert to another."""
    size = 0
    for other in range(copies.shape[1]):
        if other == rank or copies[donor, other] > 0 or copies[expert, other] > 0:
            touched[size] = other
            size += 1
    return size


@part
def regrant_change(
    loads: Floats,
    extras: Floats,
    counts: Ints,
    copies: Ints,
    times: Floats,
    weights: Floats,
    tops: Ints,
    slow: Floats,
    costs: Floats,
    rank: int,
    donor: int,
    expert: int,
    touched: Ints,
) -> float:
    """Return by how much the expected time changes if a slot of `rank` goes to another expert.

    `touched` [R] is overwritten.
    """
    num_left, num_now = counts[donor] - 1, counts[expert] + 1
    rise, fall = 1.0 / num_left - 1.0 / (num_left + 1), 1.0 / (num_now - 1) - 1.0 / num_now
    num_touched = touch(copies, rank, donor, expert, touched)
    total = 0.0
    for s in range(weights.size):
        risen, fallen = loads[donor, s] * rise, loads[expert, s] * fall
        largest = 0.0
        for i in range(num_touched):
            other = touched[i]
            change = copies[donor, other] * risen - copies[expert, other] * fallen
            if other == rank:
                change += loads[expert, s] / num_now + extras[expert, s]
                change -= loads[donor, s] / num_left + extras[donor, s]
            largest = max(largest, times[other, s] + change * costs[other])
        k = 0
        while k < 3 and tops[k, s] >= 0 and _among(touched, num_touched, tops[k, s]):
            k += 1
        if k < 3:
            largest = max(largest, slow[k, s])
        else:
            for other in range(costs.size):
                if not _among(touched, num_touched, other):
                    largest = max(largest, times[other, s])
        total += weights[s] * (largest - slow[0, s])
    return total


@part
def _among(touched: Ints, size: int, rank: int) -> bool:
    for i in range(size):
        if touched[i] == rank:
            return True
    return False
