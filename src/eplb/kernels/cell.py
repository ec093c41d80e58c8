"""Planning one cell: counts, packing, refinement, and restarts while a gap is left."""

import numpy as np

from eplb.kernels.compiling import kernel
from eplb.kernels.counts import distinct_slots, highest_averages
from eplb.kernels.ordering import order_descending
from eplb.kernels.packing import order_by_share, pack, pack_level, separate_replicas
from eplb.kernels.refinement import refine, regrant

KICKS = 3


@kernel
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


@kernel
def cover_of(offsets, num_experts):  # type: ignore[no-untyped-def]
    """Return `distinct_slots` for uneven slots; empty for even ones, where a cap of R on the counts says the same."""
    for rank in range(1, offsets.size - 1):
        if offsets[rank + 1] - offsets[rank] != offsets[1]:
            return distinct_slots(offsets[1:] - offsets[:-1], num_experts)
    return np.empty(0, np.int64)


@kernel
def improve_cell(loads, offsets, costs, target, max_steps, max_restarts, seed, items, counts, shares, times):  # type: ignore[no-untyped-def]
    """Refine a cell in place until no rank is above `target` or the steps and restarts are used up."""
    num_experts, num_ranks = loads.size, costs.size
    holds = np.zeros((num_ranks, num_experts), np.bool_)
    for rank in range(num_ranks):
        for slot in range(offsets[rank], offsets[rank + 1]):
            holds[rank, items[slot]] = True
    refine(loads, counts, shares, offsets, costs, items, times, holds, target, max_steps)
    best = times.max()
    if best <= target or max_restarts == 0:
        return
    best_items, best_counts = items.copy(), counts.copy()
    best_shares, best_times, best_holds = shares.copy(), times.copy(), holds.copy()
    state = np.array([seed], np.uint64)
    for _ in range(max_restarts):
        _kick(loads, counts, shares, offsets, costs, items, times, holds, state)
        refine(loads, counts, shares, offsets, costs, items, times, holds, target, max_steps)
        largest = times.max()
        if largest <= best:
            best = largest
            best_items[:], best_counts[:], best_holds[:] = items, counts, holds
            best_shares[:], best_times[:] = shares, times
            if best <= target:
                break
        else:
            items[:], counts[:], holds[:] = best_items, best_counts, best_holds
            shares[:], times[:] = best_shares, best_times
    items[:], counts[:], holds[:] = best_items, best_counts, best_holds
    shares[:], times[:] = best_shares, best_times


@kernel
def _kick(loads, counts, shares, offsets, costs, items, times, holds, state):  # type: ignore[no-untyped-def]
    """Disturb a cell: a few random swaps and re-grants that keep it sound."""
    num_slots, num_ranks, num_experts = items.size, times.size, loads.size
    for _ in range(1 + _random_below(state, KICKS)):
        slot = _random_below(state, num_slots)
        rank = np.searchsorted(offsets, slot, side="right") - 1
        if _random_below(state, 2) == 0 and counts[items[slot]] > 1:
            expert = _random_below(state, num_experts)
            if not holds[rank, expert]:
                regrant(loads, counts, shares, offsets, costs, items, times, holds, rank, slot, expert)
            continue
        other_slot = _random_below(state, num_slots)
        other = np.searchsorted(offsets, other_slot, side="right") - 1
        mine, theirs = items[slot], items[other_slot]
        if other == rank or holds[other, mine] or holds[rank, theirs]:
            continue
        items[slot], items[other_slot] = theirs, mine
        holds[rank, mine], holds[rank, theirs] = False, True
        holds[other, theirs], holds[other, mine] = False, True
        change = shares[theirs] - shares[mine]
        times[rank] += change * costs[rank]
        times[other] -= change * costs[other]


@kernel
def _random_below(state, bound):  # type: ignore[no-untyped-def]
    """Return a number of 0 .. bound - 1 (xorshift64*, Vigna, doi:10.1145/2845077)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(33)) % bound
