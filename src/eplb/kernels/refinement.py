"""Local search on a packed cell: swaps and re-grants that bring the largest rank time down.

Every accepted step leaves the ranks it touches below the largest time before it, so the sorted times fall and the
search ends by itself; `max_steps` bounds it all the same. Cells are numbered as in `packing`; the slots of a rank are
kept by rising share.
"""

import numpy as np

from eplb.kernels.compiling import kernel
from eplb.kernels.ordering import order_descending

MAX_PAIR_SLOTS = 24  # ranks with more slots have single swaps enough; pairs grow with the square
CLEARLY = 1 - 1e-12  # a step must gain more than rounding


@kernel
def refine(loads, counts, shares, offsets, costs, items, times, holds, target, max_steps):  # type: ignore[no-untyped-def]
    """Improve `items`, `counts`, `shares`, `times`, `holds` in place until no rank is above `target`; return the steps.

    `holds` [R, E] says which rank has which expert; ranks hold distinct experts before and after.
    """
    num_ranks = times.size
    for rank in range(num_ranks):
        _settle(shares, offsets, costs, items, times, rank)
    widest = 0
    for rank in range(num_ranks):
        widest = max(widest, offsets[rank + 1] - offsets[rank])
    pairs = widest * (widest - 1) // 2 if widest <= MAX_PAIR_SLOTS else 0
    here = (np.empty(pairs), np.empty(pairs, np.int64), np.empty(pairs, np.int64))
    there = (np.empty(pairs), np.empty(pairs, np.int64), np.empty(pairs, np.int64))
    for step in range(max_steps):
        top = np.argmax(times)
        if times[top] <= target:
            return step
        if _swap_one(shares, offsets, costs, items, times, holds, target, top):
            continue
        if pairs > 0 and _swap_two(shares, offsets, costs, items, times, holds, target, top, here, there):
            continue
        if not _regrant(loads, counts, shares, offsets, costs, items, times, holds, top):
            return step
    return max_steps


@kernel
def _settle(shares, offsets, costs, items, times, rank):  # type: ignore[no-untyped-def]
    """Sort the slots of `rank` by rising share (ids among equals) and sum its time anew, in that order."""
    start, stop = offsets[rank], offsets[rank + 1]
    total = 0.0
    for i in range(start + 1, stop):
        expert = items[i]
        share = shares[expert]
        j = i - 1
        while j >= start and (shares[items[j]] > share or (shares[items[j]] == share and items[j] > expert)):
            items[j + 1] = items[j]
            j -= 1
        items[j + 1] = expert
    for i in range(start, stop):
        total += shares[items[i]]
    times[rank] = total * costs[rank]


@kernel
def _hopeless(times, costs, top, other, best):  # type: ignore[no-untyped-def]
    """Whether even a perfect levelling of two ranks would not get below `best`."""
    level = (times[top] / costs[top] + times[other] / costs[other]) / (1 / costs[top] + 1 / costs[other])
    return level >= best


@kernel
def _swap_one(shares, offsets, costs, items, times, holds, target, top):  # type: ignore[no-untyped-def]
    """Swap one slot of `top` with one of another rank so that the slower of the two is fastest; whether it helped."""
    best = times[top] * CLEARLY
    best_mine, best_theirs, best_rank = -1, -1, -1
    num_ranks = times.size
    lightest = np.argmin(times)
    for turn in range(-1, num_ranks):
        other = lightest if turn < 0 else turn
        if other == top or (turn == lightest) or _hopeless(times, costs, top, other, best):
            continue
        cost_here, cost_there = costs[top], costs[other]
        wanted = (times[top] - times[other]) / (cost_here + cost_there)
        start, stop = offsets[other], offsets[other + 1]
        near = start
        for mine in range(offsets[top], offsets[top + 1]):
            expert = items[mine]
            share = shares[expert]
            while near < stop and shares[items[near]] < share - wanted:
                near += 1
            if holds[other, expert]:
                continue
            for direction in (-1, 1):
                theirs = near - 1 if direction < 0 else near
                while start <= theirs < stop:
                    change = share - shares[items[theirs]]
                    worse = max(times[top] - change * cost_here, times[other] + change * cost_there)
                    if worse >= best:
                        break
                    if not holds[top, items[theirs]]:
                        best, best_mine, best_theirs, best_rank = worse, mine, theirs, other
                        break
                    theirs += direction
        if best <= target:
            break
    if best_rank < 0:
        return False
    _exchange(items, holds, top, best_rank, best_mine, best_theirs)
    _settle(shares, offsets, costs, items, times, top)
    _settle(shares, offsets, costs, items, times, best_rank)
    return True


@kernel
def _exchange(items, holds, rank, other, mine, theirs):  # type: ignore[no-untyped-def]
    given, taken = items[mine], items[theirs]
    items[mine], items[theirs] = taken, given
    holds[rank, given] = False
    holds[other, given] = True
    holds[other, taken] = False
    holds[rank, taken] = True


@kernel
def _pairs_rising(shares, offsets, items, rank, pairs):  # type: ignore[no-untyped-def]
    """Fill `pairs` (sums, first slots, second slots) with all pairs of slots of `rank`, by rising sum."""
    start, stop = offsets[rank], offsets[rank + 1]
    num = (stop - start) * (stop - start - 1) // 2
    falling = np.empty(num)
    first = np.empty(num, np.int64)
    second = np.empty(num, np.int64)
    k = 0
    for i in range(start, stop):
        for j in range(i + 1, stop):
            falling[k] = -(shares[items[i]] + shares[items[j]])
            first[k], second[k] = i, j
            k += 1
    order = np.empty(num, np.int64)
    order_descending(falling, order, np.empty(num, np.int64))
    sums, firsts, seconds = pairs
    for k in range(num):
        sums[k], firsts[k], seconds[k] = -falling[order[k]], first[order[k]], second[order[k]]
    return num


@kernel
def _swap_two(shares, offsets, costs, items, times, holds, target, top, here, there):  # type: ignore[no-untyped-def]
    """Swap two slots of `top` with two of another rank, as `_swap_one` does with one."""
    best = times[top] * CLEARLY
    best_rank = -1
    mine, theirs = (-1, -1), (-1, -1)
    num_here = _pairs_rising(shares, offsets, items, top, here)
    for other in range(times.size):
        if other == top or _hopeless(times, costs, top, other, best):
            continue
        num_there = _pairs_rising(shares, offsets, items, other, there)
        wanted = (times[top] - times[other]) / (costs[top] + costs[other])
        near = 0
        for k in range(num_here):
            while near < num_there and there[0][near] < here[0][k] - wanted:
                near += 1
            if holds[other, items[here[1][k]]] or holds[other, items[here[2][k]]]:
                continue
            for direction in (-1, 1):
                m = near - 1 if direction < 0 else near
                while 0 <= m < num_there:
                    change = here[0][k] - there[0][m]
                    worse = max(times[top] - change * costs[top], times[other] + change * costs[other])
                    if worse >= best:
                        break
                    if not (holds[top, items[there[1][m]]] or holds[top, items[there[2][m]]]):
                        best, best_rank = worse, other
                        mine, theirs = (here[1][k], here[2][k]), (there[1][m], there[2][m])
                        break
                    m += direction
        if best <= target:
            break
    if best_rank < 0:
        return False
    _exchange(items, holds, top, best_rank, mine[0], theirs[0])
    _exchange(items, holds, top, best_rank, mine[1], theirs[1])
    _settle(shares, offsets, costs, items, times, top)
    _settle(shares, offsets, costs, items, times, best_rank)
    return True


@kernel
def _regrant(loads, counts, shares, offsets, costs, items, times, holds, top):  # type: ignore[no-untyped-def]
    """Give the slot of an expert with several replicas to another one, so that `top` gets less; whether it helped.

    The fix-up of the counts with the largest rank time as its objective: either an expert of `top` gets a replica
    elsewhere, or a slot of `top` itself goes to a lighter expert. The best of all such changes is taken.
    """
    num_ranks = times.size
    best = times[top] * CLEARLY
    best_slot, best_expert, best_rank = -1, -1, -1
    for rank in range(num_ranks):
        for slot in range(offsets[rank], offsets[rank + 1]):
            donor = items[slot]
            if counts[donor] < 2:
                continue
            if rank == top:
                for expert in range(counts.size):
                    worst = _after_regrant(loads, counts, shares, costs, times, holds, rank, donor, expert, best)
                    if worst < best:
                        best, best_slot, best_expert, best_rank = worst, slot, expert, rank
                continue
            for mine in range(offsets[top], offsets[top + 1]):
                worst = _after_regrant(loads, counts, shares, costs, times, holds, rank, donor, items[mine], best)
                if worst < best:
                    best, best_slot, best_expert, best_rank = worst, slot, items[mine], rank
    if best_slot < 0:
        return False
    regrant(loads, counts, shares, offsets, costs, items, times, holds, best_rank, best_slot, best_expert)
    return True


@kernel
def _after_regrant(loads, counts, shares, costs, times, holds, rank, donor, expert, best):  # type: ignore[no-untyped-def]
    """Largest time of the ranks touched when `rank` gives its slot of `donor` to `expert`; inf if it is not below `best`."""
    if holds[rank, expert]:
        return np.inf
    rise = loads[donor] / (counts[donor] - 1) - shares[donor]
    new_share = loads[expert] / (counts[expert] + 1)
    fall = shares[expert] - new_share
    worst = times[rank] + (new_share - shares[donor]) * costs[rank]
    if worst >= best:
        return np.inf
    for other in range(times.size):
        if other == rank or not (holds[other, donor] or holds[other, expert]):
            continue
        change = (rise if holds[other, donor] else 0.0) - (fall if holds[other, expert] else 0.0)
        time = times[other] + change * costs[other]
        if time >= best and change > 0.0:
            return np.inf
        worst = max(worst, time)
    return worst if worst < best else np.inf


@kernel
def regrant(loads, counts, shares, offsets, costs, items, times, holds, rank, slot, expert):  # type: ignore[no-untyped-def]
    """Replace the expert in `slot` of `rank` by `expert` and bring everything up to date."""
    donor = items[slot]
    items[slot] = expert
    holds[rank, donor] = False
    holds[rank, expert] = True
    counts[donor] -= 1
    counts[expert] += 1
    shares[donor] = loads[donor] / counts[donor]
    shares[expert] = loads[expert] / counts[expert]
    for other in range(times.size):
        if other == rank or holds[other, donor] or holds[other, expert]:
            _settle(shares, offsets, costs, items, times, other)
