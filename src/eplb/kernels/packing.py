"""Greedy packing: the heaviest replica first, each to the lightest rank with room that lacks its expert.

A cell is a set of ranks and the experts that live on them. Its slots are numbered rank after rank: rank r has the slots
``offsets[r]`` to ``offsets[r + 1] - 1`` and ``items`` holds the expert of each slot.
"""

import numpy as np

from eplb.kernels.compiling import kernel
from eplb.kernels.heap import sift_down, sift_up
from eplb.kernels.ordering import order_descending


@kernel
def pack(shares, counts, order, offsets, costs, items, times):  # type: ignore[no-untyped-def]
    """Fill `items` [P] and `times` [R]; return whether every rank holds distinct experts.

    `shares` [E] is the load of one replica, `order` [E] the experts by falling share, `costs` [R] the time of a rank
    for one token (1 / speed). All replicas of an expert are placed in one go, on ranks that are distinct as long as
    enough ranks have room.
    """
    num_ranks = times.size
    filled = np.zeros(num_ranks, np.int64)
    times[:] = 0.0
    heap = np.arange(num_ranks)
    taken = np.empty(num_ranks, np.int64)
    size = num_ranks
    distinct = True
    even = True
    for rank in range(1, num_ranks):
        even = even and costs[rank] == costs[0]
    for expert in order:
        share, left = shares[expert], counts[expert]
        if left == 1 and even:
            rank = heap[0]
            items[offsets[rank] + filled[rank]] = expert
            filled[rank] += 1
            times[rank] += share * costs[rank]
            if filled[rank] == offsets[rank + 1] - offsets[rank]:
                size -= 1
                heap[0] = heap[size]
            sift_down(heap, times, size)
            continue
        while left > 0:
            num_taken = min(left, size)
            for k in range(num_taken):
                if even:
                    taken[k] = heap[0]
                    size -= 1
                    heap[0] = heap[size]
                    sift_down(heap, times, size)
                else:
                    size -= 1
                    taken[k] = _take_soonest(heap, times, costs, share, size + 1)
            for k in range(num_taken):
                rank = taken[k]
                items[offsets[rank] + filled[rank]] = expert
                filled[rank] += 1
                times[rank] += share * costs[rank]
                if filled[rank] < offsets[rank + 1] - offsets[rank]:
                    heap[size] = rank
                    size += 1
                    if even:
                        sift_up(heap, times, size - 1)
            left -= num_taken
            distinct = distinct and left == 0
    return distinct


@kernel
def pack_level(shares, counts, order, offsets, costs, items, times):  # type: ignore[no-untyped-def]
    """Fill `items` and `times` as `pack` does, each expert to the ranks with most room left, the lightest among equals.

    Any counts that distinct ranks can hold at all are placed on distinct ranks (Gale and Ryser's construction).
    """
    num_ranks = times.size
    room = offsets[1:] - offsets[:-1]
    times[:] = 0.0
    for expert in order:
        used = np.zeros(num_ranks, np.bool_)
        for _ in range(counts[expert]):
            best = -1
            for rank in range(num_ranks):
                if room[rank] == 0 or used[rank]:
                    continue
                if best < 0 or room[rank] > room[best] or (room[rank] == room[best] and times[rank] < times[best]):
                    best = rank
            used[best] = True
            items[offsets[best + 1] - room[best]] = expert
            room[best] -= 1
            times[best] += shares[expert] * costs[best]


@kernel
def separate_replicas(shares, offsets, costs, items, times):  # type: ignore[no-untyped-def]
    """Swap away second replicas of an expert on a rank, keeping times low; return whether none is left."""
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


@kernel
def _holds(items, start, stop, expert):  # type: ignore[no-untyped-def]
    for slot in range(start, stop):
        if items[slot] == expert:
            return True
    return False


@kernel
def order_by_share(loads, counts, by_load, shares, order):  # type: ignore[no-untyped-def]
    """Fill `shares` [E] = loads / counts and `order` [E], the experts by falling share, ids breaking ties.

    `by_load` [E] holds them by falling load: experts with one replica are in order already and only the others are
    sorted and merged in.
    """
    num_experts = order.size
    several = np.empty(num_experts, np.int64)
    num_several = 0
    for expert in range(num_experts):
        shares[expert] = loads[expert] / counts[expert]
        if counts[expert] > 1:
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


@kernel
def _take_soonest(heap, times, costs, share, size):  # type: ignore[no-untyped-def]
    """Remove and return the rank that would finish soonest with `share` more; lowest id among equals."""
    best = 0
    for k in range(1, size):
        rank, leader = heap[k], heap[best]
        soon = times[rank] + share * costs[rank]
        soonest = times[leader] + share * costs[leader]
        if soon < soonest or (soon == soonest and rank < leader):
            best = k
    rank = heap[best]
    heap[best] = heap[size - 1]
    return rank
