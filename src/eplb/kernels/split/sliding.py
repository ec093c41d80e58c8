"""A placement for the weighted split of loads that are known: the sliding window over experts sorted by load.

With equal slots and speeds and E + R - 1 slots it balances perfectly (Golubchik et al., "Approximation algorithms for
data placement on parallel disks", doi:10.1145/1597036.1597037; Shachnai and Tamir, doi:10.1007/s004530010057).
"""

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.ordering import order_descending
from eplb.kernels.totals import among

ENOUGH = 1 - 1e-12  # of what a rank should take: the rest is rounding
NOTHING = 1e-12  # of it: a rest of an expert below that is rounding


@kernel
def slide_layers(
    first: int,
    last: int,
    loads: Floats,
    offsets: Ints,
    costs: Floats,
    nodes: Ints,
    homes: Ints,
    items: Ints,
    placed: Bools,
) -> None:
    """Fill `items` [L, P] for `loads` [L, E], node by node where `homes` [L, G] has a node for the expert groups.

    `placed` [L] tells where all experts found a slot; elsewhere there were too few for this way to place them.
    """
    num_experts = loads.shape[1]
    for layer in range(first, last):
        num_nodes = nodes.max() + 1 if homes[layer, 0] >= 0 else 1
        placed[layer] = True
        items[layer] = -1
        for node in range(num_nodes):
            mine = np.empty(num_experts, np.int64)
            size = 0
            for expert in range(num_experts):
                home = homes[layer, expert * homes.shape[1] // num_experts]
                if home < 0 or home == node:
                    mine[size] = expert
                    size += 1
            ranks = np.empty(costs.size, np.int64)
            num_ranks = 0
            for rank in range(costs.size):
                if homes[layer, 0] < 0 or nodes[rank] == node:
                    ranks[num_ranks] = rank
                    num_ranks += 1
            placed[layer] &= _slide(loads[layer], mine[:size], ranks[:num_ranks], offsets, costs, items[layer])


@part
def _slide(loads: Floats, experts: Ints, ranks: Ints, offsets: Ints, costs: Floats, items: Ints) -> bool:
    """Place `experts` on `ranks`, those with least to take a slot first; return whether all found a place."""
    size = experts.size
    rest, queue = np.empty(size), np.empty(size, np.int64)  # by rising load
    order, scratch = np.empty(size, np.int64), np.empty(size, np.int64)
    total, speed = 0.0, 0.0
    for i in range(size):
        rest[i] = loads[experts[i]]
        total += rest[i]
    order_descending(rest, order, scratch)
    for i in range(size):
        queue[i] = experts[order[size - 1 - i]]
        rest[i] = loads[queue[i]]
    per_slot = np.empty(ranks.size)
    by_need = np.empty(ranks.size, np.int64)
    for k in range(ranks.size):
        speed += 1 / costs[ranks[k]]
        per_slot[k] = 1 / costs[ranks[k]] / (offsets[ranks[k] + 1] - offsets[ranks[k]])
    order_descending(per_slot, by_need, np.empty(ranks.size, np.int64))
    for k in range(ranks.size - 1, -1, -1):
        rank = ranks[by_need[k]]
        size = _fill_rank(rest, queue, size, total / speed / costs[rank], offsets[rank], offsets[rank + 1], items)
    _fill_spare(loads, experts, ranks, offsets, items)
    return size == 0


@part
def _fill_rank(rest: Floats, queue: Ints, size: int, wanted: float, start: int, stop: int, items: Ints) -> int:
    """Give a rank the first window of experts, as `queue` has them by rising load, that comes to what is wanted.

    What the last of them has beyond goes back into the queue. Return how many are left in it.
    """
    low, high, load = 0, 0, 0.0
    while high < size and load < wanted * ENOUGH:
        if high - low == stop - start:
            load -= rest[low]
            low += 1
        load += rest[high]
        high += 1
    for i in range(low, high):
        items[start + i - low] = queue[i]
    beyond, expert = load - wanted, queue[max(high - 1, 0)]
    back = high > low and beyond > wanted * NOTHING
    for i in range(high, size):
        rest[i - high + low], queue[i - high + low] = rest[i], queue[i]
    size -= high - low
    if back:
        k = size
        while k > 0 and rest[k - 1] > beyond:
            rest[k], queue[k] = rest[k - 1], queue[k - 1]
            k -= 1
        rest[k], queue[k] = beyond, expert
        size += 1
    return size


@part
def _fill_spare(loads: Floats, experts: Ints, ranks: Ints, offsets: Ints, items: Ints) -> None:
    """Give slots that are left to the experts with most load a replica; to the lightest where a rank has all."""
    counts = np.zeros(loads.size, np.int64)
    for rank in ranks:
        for slot in range(offsets[rank], offsets[rank + 1]):
            if items[slot] >= 0:
                counts[items[slot]] += 1
    for rank in ranks:
        for slot in range(offsets[rank], offsets[rank + 1]):
            if items[slot] >= 0:
                continue
            best, lightest = -1, experts[0]
            for expert in experts:
                if loads[expert] < loads[lightest]:
                    lightest = expert
                if among(items, offsets[rank], offsets[rank + 1], expert):
                    continue
                if best < 0 or loads[expert] * max(counts[best], 1) > loads[best] * max(counts[expert], 1):
                    best = expert
            items[slot] = best if best >= 0 else lightest
            counts[items[slot]] += 1
