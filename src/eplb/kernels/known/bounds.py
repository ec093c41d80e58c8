"""Lower bounds on the largest rank time of a cell (a set of ranks and the experts that live on them).

They hold for the even split of any placement that fills every slot and keeps the replicas of an expert on distinct
ranks. All of them are computed from the loads; of a plan, at most a time that it reaches is used, as the upper end of
a search.
"""

import math

import numpy as np

from eplb.kernels.arrays import Cell, Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.ordering import order_descending
from eplb.kernels.totals import largest_of, speed_of, total_of

GRID = 24
BISECTIONS = 50
PRICES = 8


@part
def level_bound(loads: Floats, by_load: Ints, offsets: Ints, costs: Floats) -> float:
    """Time when the load is levelled over the ranks, none taking more than its slots can: even halves of the hottest.

    Rank r takes at most the sum of its S_r largest loads. The least T with sum_r min(T * speed_r, most_r) >= W.
    """
    num_ranks = costs.size
    most = np.empty(num_ranks)
    total = total_of(loads)
    for rank in range(num_ranks):
        most[rank] = 0.0
        for k in range(min(offsets[rank + 1] - offsets[rank], loads.size)):
            most[rank] += loads[by_load[k]]
    full = np.zeros(num_ranks, np.bool_)
    while True:
        rest, speed = total, 0.0
        for rank in range(num_ranks):
            if full[rank]:
                rest -= most[rank]
            else:
                speed += 1 / costs[rank]
        if speed == 0.0:  # by rounding alone: all slots together hold all loads
            return total / speed_of(costs)
        level = rest / speed
        changed = False
        for rank in range(num_ranks):
            if not full[rank] and most[rank] * costs[rank] < level:
                full[rank] = True
                changed = True
        if not changed:
            return level


@part
def speed_bound(loads: Floats, offsets: Ints, costs: Floats, high: float) -> float:
    """Least T at which replicas small enough for ranks fast enough fit in the slots; `high` is a T that is reached.

    A replica of load x needs a rank of speed x / T at least, so c replicas need c ranks of speed w / (c T); and experts
    that are too heavy for the slower ranks even with the most replicas must all fit in the slots of the faster ones.
    """
    num_ranks, num_slots = costs.size, offsets[costs.size]
    speeds = 1 / costs
    fast_first = np.empty(num_ranks, np.int64)
    order_descending(speeds, fast_first, np.empty(num_ranks, np.int64))
    most = min(num_ranks, num_slots - loads.size + 1)
    least = np.empty(loads.size, np.int64)
    low = 0.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        fits = True
        for expert in range(loads.size):
            count = 1
            while count <= most and speeds[fast_first[count - 1]] * count * middle < loads[expert]:
                count += 1
            least[expert] = count
            fits = fits and count <= most
        slots = 0
        for k in range(num_ranks):
            if not fits:
                break
            slots += offsets[fast_first[k] + 1] - offsets[fast_first[k]]
            slower = speeds[fast_first[k + 1]] if k + 1 < num_ranks else 0.0
            needed = 0
            for expert in range(loads.size):
                if loads[expert] >= slower * most * middle:
                    needed += least[expert]
            fits = needed <= slots
        if fits:
            high = middle
        else:
            low = middle
    return low


@part
def fill_bound(loads: Floats, num_slots: int, offsets: Ints, costs: Floats) -> float:
    """Time of the rank that suffers most from having to fill its slots: they hold distinct experts, however small."""
    spare = num_slots - loads.size
    ones = np.empty(loads.size, np.int64)
    for expert in range(loads.size):
        ones[expert] = 1
    worst = 0.0
    for rank in range(costs.size):
        slots = offsets[rank + 1] - offsets[rank]
        if rank > 0 and slots <= offsets[rank] - offsets[rank - 1] and costs[rank] <= costs[rank - 1]:
            continue
        worst = max(worst, costs[rank] * _least_company(loads, ones, slots, spare, costs.size))
    return worst


@part
def company_bound(loads: Floats, num_slots: int, offsets: Ints, costs: Floats, heaviest: float, high: float) -> float:
    """Time of the rank with the heaviest replica, which keeps company with S - 1 other experts.

    If the heaviest replica has load x, every expert has at least ceil(w / x) replicas; what the slots leave over can
    make the company light, and m(x) is the least it can weigh. m falls as x grows, so the least of x + m(x) over
    [`heaviest`, `high`] is at least min over a grid of x_k + m(x_{k+1}). `heaviest` is the least largest average,
    `high` a load that is reached.
    """
    num_experts = loads.size
    slots = offsets[1] - offsets[0]
    fastest = costs[0]
    for rank in range(costs.size):
        slots = min(slots, offsets[rank + 1] - offsets[rank])
        fastest = min(fastest, costs[rank])
    if slots < 2 or high <= heaviest:
        return heaviest * fastest
    counts = np.empty(num_experts, np.int64)
    least = high
    for k in range(GRID):
        low_edge = heaviest + (high - heaviest) * k / GRID
        high_edge = heaviest + (high - heaviest) * (k + 1) / GRID
        spare = num_slots
        for expert in range(num_experts):
            counts[expert] = max(1, math.ceil(loads[expert] / high_edge * (1 - 1e-12)))
            spare -= counts[expert]
        spare = min(max(spare, 0), num_slots - num_experts)
        least = min(least, low_edge + _least_company(loads, counts, slots - 1, spare, costs.size))
        if least <= heaviest:
            break
    return least * fastest


@part
def _least_company(loads: Floats, counts: Ints, size: int, spare: int, max_count: int) -> float:
    """Bound from below the load of `size` distinct experts, given `counts` and `spare` further replicas.

    Lagrange: for any price q, the sum of the `size` smallest min_c (w / c + q (c - counts)) less q * spare.
    """
    num_experts = loads.size
    size = min(size, num_experts)
    priced = np.empty(num_experts)
    order = np.empty(num_experts, np.int64)
    scratch = np.empty(num_experts, np.int64)
    for expert in range(num_experts):
        priced[expert] = loads[expert] / counts[expert]
    lightest = _least_sum(priced, size, order, scratch)
    if spare == 0:
        return lightest
    best = 0.0
    price = lightest / (size + spare)
    for _ in range(PRICES):
        for expert in range(num_experts):
            # w / c + q c is convex in c with its least near sqrt(w / q)
            count = counts[expert]
            if price > 0.0:
                count = max(count, min(max_count, int(math.sqrt(loads[expert] / price))))
            least = np.inf
            for c in (count, count + 1):
                if c == counts[expert] or c <= max_count:
                    least = min(least, loads[expert] / c + price * (c - counts[expert]))
            priced[expert] = least
        best = max(best, _least_sum(priced, size, order, scratch) - price * spare)
        price *= 0.6
    return best


@part
def _least_sum(values: Floats, size: int, order: Ints, scratch: Ints) -> float:
    """Return the sum of the `size` smallest values."""
    order_descending(values, order, scratch)
    total = 0.0
    for k in range(values.size - size, values.size):
        total += values[order[k]]
    return total


@part
def simple_bound(cell: Cell) -> float:
    """Return the larger of the levelled time and the least largest average, for counts of highest averages."""
    loads, by_load, offsets, costs = cell.loads, cell.by_load, cell.offsets, cell.costs
    fastest, even = costs[0], True
    for rank in range(costs.size):
        fastest = min(fastest, costs[rank])
        even = even and costs[rank] == costs[0] and offsets[rank + 1] - offsets[rank] == offsets[1]
    mean = total_of(loads) / speed_of(costs) if even else level_bound(loads, by_load, offsets, costs)
    return max(mean, largest_of(cell.shares) * fastest)


@part
def close_bound(loads: Floats, offsets: Ints, costs: Floats, heaviest: float, high: float) -> float:
    """Return the largest of the bounds that take longer; `heaviest` is the least largest average, `high` is reached."""
    num_ranks = costs.size
    num_slots = offsets[num_ranks]
    uneven = False
    fastest = costs[0]
    for rank in range(1, num_ranks):
        fastest = min(fastest, costs[rank])
        uneven = uneven or costs[rank] != costs[0] or offsets[rank + 1] - offsets[rank] != offsets[1]
    bound = company_bound(loads, num_slots, offsets, costs, heaviest, high / fastest)
    if uneven:
        bound = max(bound, fill_bound(loads, num_slots, offsets, costs))
        bound = max(bound, speed_bound(loads, offsets, costs, high))
    return bound
