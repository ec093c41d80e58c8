"""Planning one cell: counts, packing, refinement, and restarts while a gap is left."""

import numpy as np

from eplb.kernels.bounds import close_bound
from eplb.kernels.compiling import part
from eplb.kernels.counts import distinct_slots, highest_averages
from eplb.kernels.ordering import order_descending
from eplb.kernels.packing import order_by_share, pack, pack_level, separate_replicas
from eplb.kernels.refinement import exchange, refine, regrant
from eplb.kernels.totals import NONE, first_least, largest_of

KICKS = np.int64(4)  # changes made to disturb a plan, at most
KICK_TRIES = 40
WANDER = 4  # disturbances in a row before the search returns to the best plan
# entries of `effort`
MAX_STEPS, MAX_RECOUNTS, MAX_RESTARTS = 0, 1, 2


@part
def start_cell(loads, offsets, costs, items, counts, times, by_load):  # type: ignore[no-untyped-def]
    """Fill `counts`, `items`, `times`, `by_load` by highest averages and greedy packing; return the shares [E]."""
    num_experts, num_ranks = loads.size, costs.size
    scratch = np.empty(num_experts, np.int64)
    order_descending(loads, by_load, scratch)
    highest_averages(loads, by_load, offsets[num_ranks], num_ranks, cover_of(offsets, num_experts), counts)
    shares = np.empty(num_experts)
    order_by_share(loads, counts, by_load, shares, scratch)
    if not pack(shares, counts, scratch, offsets, costs, items, times) and not separate_replicas(
        shares, offsets, costs, items, times
    ):
        pack_level(shares, counts, scratch, offsets, costs, items, times)
    return shares


@part
def cover_of(offsets, num_experts):  # type: ignore[no-untyped-def]
    """Return `distinct_slots` for uneven slots; empty for even ones, where a cap of R on the counts says the same."""
    for rank in range(1, offsets.size - 1):
        if offsets[rank + 1] - offsets[rank] != offsets[1]:
            return distinct_slots(offsets, num_experts)
    return np.empty(0, np.int64)


@part
def search_cell(  # type: ignore[no-untyped-def]
    loads, by_load, offsets, costs, target, tolerance, heaviest, effort, seed, items, counts, shares, times
):
    """Bring the largest time of a started cell down to `target` if it can be, in place; return a bound on it.

    Refines the plan; then looks for a closer bound; then tries other counts; then refines disturbed copies of the best
    plan. `heaviest` is the least largest average. `effort` bounds the steps of a refinement, the other counts, and the
    disturbed copies (MAX_STEPS, MAX_RECOUNTS, MAX_RESTARTS).
    """
    num_ranks, num_experts = costs.size, loads.size
    holds = np.zeros((num_ranks, num_experts), np.bool_)
    sizes = np.empty(items.size)
    needed = np.empty_like(counts)
    plan = (items, counts, shares, times)
    kept = (np.empty_like(items), np.empty_like(counts), np.empty_like(shares), np.empty_like(times))
    state = np.empty(1, np.uint64)
    state[0] = seed
    best, bound = np.inf, 0.0
    for attempt in range(1 + effort[MAX_RECOUNTS] + effort[MAX_RESTARTS]):
        if best <= target:
            break
        recounting = 0 < attempt <= effort[MAX_RECOUNTS]
        if attempt == 1:
            bound = close_bound(loads, offsets, costs, heaviest, best)
            target = max(target, bound * (1 + tolerance))
            highest_averages(loads, by_load, items.size, num_ranks, cover_of(offsets, num_experts), needed)
            if best <= target:
                break
        if recounting:
            if not _give_back(loads, needed, best / costs[first_least(costs)]):
                continue
            if not _pack_needed(loads, by_load, needed, offsets, costs, items, counts, shares, times):
                continue
        elif attempt > 0 and attempt % WANDER == 0:
            _copy_plan(kept, plan)
        _note_holders(offsets, items, holds)
        if attempt > 0 and not recounting:
            _kick(loads, counts, shares, offsets, costs, items, sizes, times, holds, state)
        refine(loads, counts, shares, offsets, costs, items, sizes, times, holds, target, effort[MAX_STEPS])
        if largest_of(times) < best or (largest_of(times) == best and not recounting):
            best = largest_of(times)
            _copy_plan(plan, kept)
    _copy_plan(kept, plan)
    return bound


@part
def _copy_plan(source, target):  # type: ignore[no-untyped-def]
    """Copy items, counts, shares and times."""
    for slot in range(source[0].size):
        target[0][slot] = source[0][slot]
    for expert in range(source[1].size):
        target[1][expert] = source[1][expert]
        target[2][expert] = source[2][expert]
    for rank in range(source[3].size):
        target[3][rank] = source[3][rank]


@part
def _note_holders(offsets, items, holds):  # type: ignore[no-untyped-def]
    for rank in range(len(holds)):
        for expert in range(holds.shape[1]):
            holds[rank, expert] = False
        for slot in range(offsets[rank], offsets[rank + 1]):
            holds[rank, items[slot]] = True


@part
def _give_back(loads, needed, ceiling):  # type: ignore[no-untyped-def]
    """Take a replica from the expert whose average then is least; False if no average stays below `ceiling`.

    Starting at highest averages, this walks through the fewest replicas that keep every average below a rising level:
    heavy replicas need less company then, and do not have to meet on a rank.
    """
    donor, least = NONE, ceiling
    for expert in range(needed.size):
        if needed[expert] > 1 and loads[expert] / (needed[expert] - 1) < least:
            donor, least = expert, loads[expert] / (needed[expert] - 1)
    if donor >= 0:
        needed[donor] -= 1
    return donor >= 0


@part
def _pack_needed(loads, by_load, needed, offsets, costs, items, counts, shares, times):  # type: ignore[no-untyped-def]
    """Pack anew with the replicas `needed`, the rest going to the experts with one replica; whether ranks are distinct."""
    num_experts, num_ranks = loads.size, costs.size
    singles = np.empty(num_experts, np.int64)
    num_singles = 0
    left = items.size
    for expert in by_load:
        counts[expert] = needed[expert]
        if needed[expert] == 1:
            singles[num_singles] = expert
            num_singles += 1
        else:
            left -= needed[expert]
    highest_averages(loads, singles[:num_singles], left, num_ranks, np.empty(0, np.int64), counts)
    placed = 0
    for expert in range(num_experts):
        placed += counts[expert]
    if placed != items.size:
        return False
    order = np.empty(num_experts, np.int64)
    order_by_share(loads, counts, by_load, shares, order)
    return pack(shares, counts, order, offsets, costs, items, times) or separate_replicas(
        shares, offsets, costs, items, times
    )


@part
def _kick(loads, counts, shares, offsets, costs, items, sizes, times, holds, state):  # type: ignore[no-untyped-def]
    """Disturb a cell: a few random swaps and re-grants that keep it sound. `refine` brings times and sizes up to date."""
    num_slots, num_experts = items.size, loads.size
    left = 1 + _random_below(state, KICKS)
    for _ in range(KICK_TRIES):
        if left == 0:
            break
        slot = _random_below(state, num_slots)
        rank = _rank_of(offsets, slot)
        if _random_below(state, np.int64(2)) == 0:
            expert = _random_below(state, num_experts)
            if counts[items[slot]] > 1 and not holds[rank, expert]:
                regrant(loads, counts, shares, offsets, costs, items, sizes, times, holds, rank, slot, expert)
                left -= 1
            continue
        other_slot = _random_below(state, num_slots)
        other = _rank_of(offsets, other_slot)
        if other != rank and not holds[other, items[slot]] and not holds[rank, items[other_slot]]:
            exchange(items, holds, rank, other, slot, other_slot)
            left -= 1


@part
def _rank_of(offsets, slot):  # type: ignore[no-untyped-def]
    rank = 0
    while offsets[rank + 1] <= slot:
        rank += 1
    return rank


@part
def _random_below(state, bound):  # type: ignore[no-untyped-def]
    """Return a number of 0 .. bound - 1 (xorshift64*, Vigna, doi:10.1145/2845077)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(33)) % bound
