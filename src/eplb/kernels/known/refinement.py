"""Local search on a packed cell: swaps and re-grants that bring the largest rank time down.

Every accepted step leaves the ranks it touches below the largest time before it, so the sorted times fall and the
search ends by itself; `max_steps` bounds it all the same. The slots of a rank are kept by rising share.
"""

import numpy as np

from eplb.kernels.arrays import Cell, Ints, Pairs
from eplb.kernels.compiling import part
from eplb.kernels.ordering import order_descending
from eplb.kernels.totals import NONE, first_largest

MAX_PAIR_SLOTS = 24  # ranks with more slots have single swaps enough; pairs grow with the square
FRESH = 8  # steps after which the ranks are put in order again, so that the lightest are tried first
CLEARLY = 1 - 1e-12  # a step must gain more than rounding


@part
def refine(cell: Cell, target: float, max_steps: int) -> int:
    """Improve a plan in place until no rank is above `target`; return the steps.

    Ranks hold distinct experts before and after, as `cell.holds` says.
    """
    widest = 0
    for rank in range(cell.times.size):
        _settle(cell, rank)
        widest = max(widest, cell.offsets[rank + 1] - cell.offsets[rank])
    pairs = widest * (widest - 1) // 2 if widest <= MAX_PAIR_SLOTS else 0
    here = (np.empty(pairs), np.empty(pairs, np.int64), np.empty(pairs, np.int64))
    there = (np.empty(pairs), np.empty(pairs, np.int64), np.empty(pairs, np.int64))
    heavy_first = np.empty(cell.times.size, np.int64)
    scratch = np.empty(cell.times.size, np.int64)
    for step in range(max_steps):
        if step % FRESH == 0:
            order_descending(cell.times, heavy_first, scratch)
        top = first_largest(cell.times)
        if cell.times[top] <= target:
            return step
        if _swap_one(cell, heavy_first, target, top):
            continue
        if pairs > 0 and _swap_two(cell, heavy_first, target, top, here, there):
            continue
        if not _regrant(cell, top):
            return step
    return max_steps


@part
def _settle(cell: Cell, rank: int) -> None:
    """Sort the slots of `rank` by rising share (ids among equals) and sum its time anew, in that order."""
    items, sizes = cell.items, cell.sizes
    start, stop = cell.offsets[rank], cell.offsets[rank + 1]
    for i in range(start, stop):
        expert = items[i]
        share = cell.shares[expert]
        j = i - 1
        while j >= start and (sizes[j] > share or (sizes[j] == share and items[j] > expert)):
            items[j + 1], sizes[j + 1] = items[j], sizes[j]
            j -= 1
        items[j + 1], sizes[j + 1] = expert, share
    total = 0.0
    for i in range(start, stop):
        total += sizes[i]
    cell.times[rank] = total * cell.costs[rank]


@part
def _hopeless(cell: Cell, top: int, other: int, best: float) -> bool:
    """Whether even a perfect levelling of two ranks would not get below `best`."""
    return (cell.times[other] - best) * cell.costs[top] >= (best - cell.times[top]) * cell.costs[other]


@part
def _best_swap(cell: Cell, top: int, other: int, best: float) -> tuple[float, int, int]:
    """Return the larger time after the best swap of a slot of `top` with one of `other`, and the two slots.

    Slots are in order of share, so the partner that levels best is found by walking along both ranks once.
    """
    items, sizes, times, holds = cell.items, cell.sizes, cell.times, cell.holds
    best_mine, best_theirs = NONE, NONE
    cost_here, cost_there = cell.costs[top], cell.costs[other]
    wanted = (times[top] - times[other]) / (cost_here + cost_there)
    start, stop = cell.offsets[other], cell.offsets[other + 1]
    near = start
    for mine in range(cell.offsets[top], cell.offsets[top + 1]):
        share = sizes[mine]
        while near < stop and sizes[near] < share - wanted:
            near += 1
        if holds[other, items[mine]]:
            continue
        for direction in (-1, 1):
            theirs = near - 1 if direction < 0 else near
            while start <= theirs < stop:
                change = share - sizes[theirs]
                worse = max(times[top] - change * cost_here, times[other] + change * cost_there)
                if worse >= best:
                    break
                if not holds[top, items[theirs]]:
                    best, best_mine, best_theirs = worse, mine, theirs
                    break
                theirs += direction
    return best, best_mine, best_theirs


@part
def _swap_one(cell: Cell, heavy_first: Ints, target: float, top: int) -> bool:
    """Swap one slot of `top` with one of another rank so that the slower of the two is fastest; whether it helped."""
    best = cell.times[top] * CLEARLY
    mine, theirs, best_rank = NONE, NONE, NONE
    for k in range(heavy_first.size - 1, -1, -1):
        other = heavy_first[k]
        if other == top or _hopeless(cell, top, other, best):
            continue
        worse, here, there = _best_swap(cell, top, other, best)
        if worse < best:
            best, mine, theirs, best_rank = worse, here, there, other
        if best <= target:
            break
    if best_rank < 0:
        return False
    exchange(cell, top, best_rank, mine, theirs)
    _settle(cell, top)
    _settle(cell, best_rank)
    return True


@part
def exchange(cell: Cell, rank: int, other: int, mine: int, theirs: int) -> None:
    """Swap slot `mine` of `rank` with slot `theirs` of `other`; sizes and times are left to `_settle`."""
    given, taken = cell.items[mine], cell.items[theirs]
    cell.items[mine], cell.items[theirs] = taken, given
    cell.holds[rank, given] = False
    cell.holds[other, given] = True
    cell.holds[other, taken] = False
    cell.holds[rank, taken] = True


@part
def _pairs_rising(cell: Cell, rank: int, pairs: Pairs) -> int:
    """Fill `pairs` with all pairs of slots of `rank`, by rising sum; return their number."""
    start, stop = cell.offsets[rank], cell.offsets[rank + 1]
    num = (stop - start) * (stop - start - 1) // 2
    unsorted = np.empty(num)
    first = np.empty(num, np.int64)
    second = np.empty(num, np.int64)
    k = 0
    for i in range(start, stop):
        for j in range(i + 1, stop):
            unsorted[k] = cell.sizes[i] + cell.sizes[j]
            first[k], second[k] = i, j
            k += 1
    order = np.empty(num, np.int64)
    order_descending(unsorted, order, np.empty(num, np.int64))
    sums, firsts, seconds = pairs
    for k in range(num):
        pair = order[num - 1 - k]
        sums[k], firsts[k], seconds[k] = unsorted[pair], first[pair], second[pair]
    return num


@part
def _swap_two(cell: Cell, heavy_first: Ints, target: float, top: int, here: Pairs, there: Pairs) -> bool:
    """Swap two slots of `top` with two of another rank, as `_swap_one` does with one."""
    items, times, costs, holds = cell.items, cell.times, cell.costs, cell.holds
    best = times[top] * CLEARLY
    best_rank = NONE
    mine, theirs = (NONE, NONE), (NONE, NONE)
    num_here = _pairs_rising(cell, top, here)
    for turn in range(heavy_first.size - 1, -1, -1):
        other = heavy_first[turn]
        if other == top or _hopeless(cell, top, other, best):
            continue
        num_there = _pairs_rising(cell, other, there)
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
    exchange(cell, top, best_rank, mine[0], theirs[0])
    exchange(cell, top, best_rank, mine[1], theirs[1])
    _settle(cell, top)
    _settle(cell, best_rank)
    return True


@part
def _regrant(cell: Cell, top: int) -> bool:
    """Give the slot of an expert with several replicas to another one, so that `top` gets less; whether it helped.

    The fix-up of the counts with the largest rank time as its objective: either an expert of `top` gets a replica
    elsewhere, or a slot of `top` itself goes to a lighter expert.
    """
    loads, counts, shares, times, costs, holds = (
        cell.loads,
        cell.counts,
        cell.shares,
        cell.times,
        cell.costs,
        cell.holds,
    )
    best = times[top] * CLEARLY
    best_slot, best_expert, best_rank = NONE, NONE, NONE
    lightest = _lightest_newcomer(cell, top)
    for rank in range(times.size):
        for slot in range(cell.offsets[rank], cell.offsets[rank + 1]):
            donor = cell.items[slot]
            if counts[donor] < 2:
                continue
            rise = loads[donor] / (counts[donor] - 1) - shares[donor]
            if rank != top and times[rank] - shares[donor] * costs[rank] >= best:
                continue
            others = _slowest_holder(cell, donor, rank, top, rise)
            if others >= best:
                continue
            if rank == top:
                expert = lightest
                if expert >= 0:
                    newcomer = loads[expert] / (counts[expert] + 1)
                    worst = max(others, times[top] + (newcomer - shares[donor]) * costs[top])
                    if worst < best:
                        best, best_slot, best_expert, best_rank = worst, slot, expert, rank
                continue
            for mine in range(cell.offsets[top], cell.offsets[top + 1]):
                expert = cell.items[mine]
                newcomer = loads[expert] / (counts[expert] + 1)
                here = times[rank] + (newcomer - shares[donor]) * costs[rank]
                there = times[top] + (newcomer - shares[expert] + (rise if holds[top, donor] else 0.0)) * costs[top]
                worst = max(others, here, there)
                if worst < best and not holds[rank, expert]:
                    best, best_slot, best_expert, best_rank = worst, slot, expert, rank
    if best_slot < 0:
        return False
    regrant(cell, best_rank, best_slot, best_expert)
    return True


@part
def _slowest_holder(cell: Cell, expert: int, rank: int, top: int, rise: float) -> float:
    """Largest time of the ranks that hold `expert`, other than `rank` and `top`, after its share has risen."""
    slowest = 0.0
    for other in range(cell.times.size):
        if cell.holds[other, expert] and other != rank and other != top:
            slowest = max(slowest, cell.times[other] + rise * cell.costs[other])
    return slowest


@part
def _lightest_newcomer(cell: Cell, rank: int) -> int:
    """Expert not on `rank` whose share is least once it has a replica more; -1 if `rank` holds them all."""
    best, lightest = NONE, np.inf
    for expert in range(cell.counts.size):
        share = cell.loads[expert] / (cell.counts[expert] + 1)
        if not cell.holds[rank, expert] and share < lightest:
            best, lightest = expert, share
    return best


@part
def regrant(cell: Cell, rank: int, slot: int, expert: int) -> None:
    """Replace the expert in `slot` of `rank` by `expert` and bring everything up to date."""
    donor = cell.items[slot]
    cell.items[slot] = expert
    cell.holds[rank, donor] = False
    cell.holds[rank, expert] = True
    cell.counts[donor] -= 1
    cell.counts[expert] += 1
    cell.shares[donor] = cell.loads[donor] / cell.counts[donor]
    cell.shares[expert] = cell.loads[expert] / cell.counts[expert]
    for other in range(cell.times.size):
        if other == rank or cell.holds[other, donor] or cell.holds[other, expert]:
            _settle(cell, other)
