"""Greedy packing: the heaviest replica first, each to the lightest rank with room that lacks its expert."""

import numpy as np

from eplb.kernels.arrays import Cell, Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.known.tournament import OUT, begin, replay, seats
from eplb.kernels.ordering import order_descending


@part
def pack(cell: Cell, order: Ints) -> bool:
    """Fill items and times of a cell whose counts and shares are known; return whether ranks hold distinct experts.

    `order` [E] holds the experts by falling share. The replicas of an expert go to different ranks as long as enough
    ranks have room.
    """
    offsets, costs, items, times = cell.offsets, cell.costs, cell.items, cell.times
    num_ranks = times.size
    keys = np.empty(seats(num_ranks), np.int64)
    for seat in range(keys.size):
        keys[seat] = 0 if seat < num_ranks else OUT
    tree = np.empty(2 * keys.size, np.int64)
    bits = times.view(np.int64)
    free = np.empty(num_ranks, np.int64)
    even = True
    for rank in range(num_ranks):
        times[rank] = 0.0
        free[rank] = offsets[rank]
        even = even and costs[rank] == costs[0]
    begin(keys, tree)
    aside = np.empty(num_ranks, np.int64)
    distinct = True
    for expert in order:
        share = cell.shares[expert]
        if cell.counts[expert] == 1 and even:
            rank = tree[1]
            _put(expert, share * costs[rank], rank, items, times, free)
            replay(keys, tree, rank, bits[rank] if free[rank] < offsets[rank + 1] else OUT)
            continue
        left = cell.counts[expert]
        while left > 0:
            num_aside = 0
            while left > 0:
                rank = tree[1] if even else _soonest(keys, times, costs, share)
                if keys[rank] == OUT:
                    distinct = False
                    break
                _put(expert, share * costs[rank], rank, items, times, free)
                replay(keys, tree, rank, OUT)
                aside[num_aside] = rank
                num_aside += 1
                left -= 1
            for k in range(num_aside):
                rank = aside[k]
                if free[rank] < offsets[rank + 1]:
                    replay(keys, tree, rank, bits[rank])
    return distinct


@part
def _put(expert: int, time: float, rank: int, items: Ints, times: Floats, free: Ints) -> None:
    items[free[rank]] = expert
    free[rank] += 1
    times[rank] += time


@part
def _soonest(keys: Ints, times: Floats, costs: Floats, share: float) -> int:
    """Return the rank not out that would finish soonest with `share` more; the lowest id among equals."""
    best, soonest = 0, np.inf
    for rank in range(times.size):
        soon = times[rank] + share * costs[rank]
        if keys[rank] != OUT and soon < soonest:
            best, soonest = rank, soon
    return best


@part
def pack_level(cell: Cell, order: Ints) -> None:
    """Fill items and times as `pack` does, each expert to the ranks with most room left, the lightest among equals.

    Any counts that distinct ranks can hold at all are placed on distinct ranks (Gale and Ryser's construction).
    """
    offsets, costs, items, times = cell.offsets, cell.costs, cell.items, cell.times
    num_ranks = times.size
    room = np.empty(num_ranks, np.int64)
    for rank in range(num_ranks):
        room[rank] = offsets[rank + 1] - offsets[rank]
        times[rank] = 0.0
    for expert in order:
        used = np.zeros(num_ranks, np.bool_)
        for _ in range(cell.counts[expert]):
            best = -1
            for rank in range(num_ranks):
                if room[rank] == 0 or used[rank]:
                    continue
                if best < 0 or room[rank] > room[best] or (room[rank] == room[best] and times[rank] < times[best]):
                    best = rank
            used[best] = True
            items[offsets[best + 1] - room[best]] = expert
            room[best] -= 1
            times[best] += cell.shares[expert] * costs[best]


@part
def separate_replicas(cell: Cell) -> bool:
    """Swap away second replicas of an expert on a rank, keeping times low; return whether none is left."""
    offsets, costs, items, times, shares = cell.offsets, cell.costs, cell.items, cell.times, cell.shares
    num_ranks = times.size
    for rank in range(num_ranks):
        for slot in range(offsets[rank], offsets[rank + 1]):
            expert = items[slot]
            if not _holds(items, offsets[rank], slot, expert):
                continue
            best_slot, best_rank, best = -1, -1, np.inf
            for other in range(num_ranks):
                if _holds(items, offsets[other], offsets[other + 1], expert):
                    continue
                for candidate in range(offsets[other], offsets[other + 1]):
                    given = items[candidate]
                    if _holds(items, offsets[rank], offsets[rank + 1], given):
                        continue
                    change = shares[given] - shares[expert]
                    worse = max(times[rank] + change * costs[rank], times[other] - change * costs[other])
                    if worse < best:
                        best_slot, best_rank, best = candidate, other, worse
            if best_slot < 0:
                return False
            change = shares[items[best_slot]] - shares[expert]
            items[slot], items[best_slot] = items[best_slot], expert
            times[rank] += change * costs[rank]
            times[best_rank] -= change * costs[best_rank]
    return True


@part
def _holds(items: Ints, start: int, stop: int, expert: int) -> bool:
    for slot in range(start, stop):
        if items[slot] == expert:
            return True
    return False


@part
def order_by_share(cell: Cell, order: Ints) -> None:
    """Fill the shares of a cell and `order` [E], the experts by falling share, ids breaking ties.

    Experts with one replica are in order already, by load; only the others are sorted, and merged in.
    """
    loads, counts, shares, by_load = cell.loads, cell.counts, cell.shares, cell.by_load
    num_experts = order.size
    several = np.empty(num_experts, np.int64)
    num_several = 0
    for expert in range(num_experts):
        shares[expert] = loads[expert]
        if counts[expert] > 1:
            shares[expert] /= counts[expert]
            several[num_several] = expert
            num_several += 1
    keys = np.empty(num_several)
    for k in range(num_several):
        keys[k] = shares[several[k]]
    ranked = np.empty(num_several, np.int64)
    order_descending(keys, ranked, np.empty(num_several, np.int64))
    k = 0
    out = 0
    for single in by_load:
        if counts[single] > 1:
            continue
        while k < num_several:
            expert = several[ranked[k]]
            if shares[expert] < shares[single] or (shares[expert] == shares[single] and expert > single):
                break
            order[out] = expert
            out += 1
            k += 1
        order[out] = single
        out += 1
    while k < num_several:
        order[out] = several[ranked[k]]
        out += 1
        k += 1
