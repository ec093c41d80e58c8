"""Planning one cell: counts, packing, refinement, and other beginnings while a gap is left."""

import numpy as np

from eplb.kernels.arrays import Cell, Floats, Ints, Seeds
from eplb.kernels.compiling import part
from eplb.kernels.counts import distinct_slots, highest_averages
from eplb.kernels.known.bounds import close_bound
from eplb.kernels.known.packing import order_by_share, pack, pack_level, separate_replicas
from eplb.kernels.known.refinement import exchange, refine, regrant
from eplb.kernels.ordering import order_descending
from eplb.kernels.totals import NONE, first_least, largest_of

KICKS = np.int64(4)  # changes made to disturb a plan, at most
KICK_TRIES = 40
WANDER = 4  # disturbances in a row before the search returns to the best plan
# entries of `effort`
MAX_STEPS, MAX_RECOUNTS, MAX_RESTARTS = 0, 1, 2


@part
def start_cell(loads: Floats, offsets: Ints, costs: Floats) -> Cell:
    """Return a cell planned by highest averages and greedy packing."""
    num_experts, num_ranks, num_slots = loads.size, costs.size, offsets[-1]
    cell = Cell(
        loads,
        offsets,
        costs,
        np.empty(num_slots, np.int64),
        np.empty(num_experts, np.int64),
        np.empty(num_experts),
        np.empty(num_ranks),
        np.empty(num_experts, np.int64),
        np.empty(num_slots),
        np.empty((num_ranks, num_experts), np.bool_),
    )
    scratch = np.empty(num_experts, np.int64)
    order_descending(loads, cell.by_load, scratch)
    highest_averages(loads, cell.by_load, num_slots, num_ranks, _cover_of(offsets, num_experts), cell.counts)
    order_by_share(cell, scratch)
    if not pack(cell, scratch) and not separate_replicas(cell):
        pack_level(cell, scratch)
    return cell


@part
def _cover_of(offsets: Ints, num_experts: int) -> Ints:
    """Return `distinct_slots` for uneven slots; empty for even ones, where a cap of R on the counts says the same."""
    for rank in range(1, offsets.size - 1):
        if offsets[rank + 1] - offsets[rank] != offsets[1]:
            return distinct_slots(offsets, num_experts)
    return np.empty(0, np.int64)


@part
def search_cell(cell: Cell, target: float, tolerance: float, heaviest: float, effort: Ints, seed: int) -> float:
    """Bring the largest time of a started cell down to `target` if it can be, in place; return a bound on it.

    Refines the plan; then looks for a closer bound; then tries other counts; then refines disturbed copies of the best
    plan. `heaviest` is the least largest average. `effort` bounds the steps of a refinement, the other counts, and the
    disturbed copies (MAX_STEPS, MAX_RECOUNTS, MAX_RESTARTS).
    """
    needed = np.empty_like(cell.counts)
    kept = (np.empty_like(cell.items), np.empty_like(cell.counts), np.empty_like(cell.shares))
    state = np.empty(1, np.uint64)
    state[0] = seed
    best, bound = np.inf, 0.0
    for attempt in range(1 + effort[MAX_RECOUNTS] + effort[MAX_RESTARTS]):
        if best <= target:
            break
        recounting = 0 < attempt <= effort[MAX_RECOUNTS]
        if attempt == 1:
            bound = close_bound(cell.loads, cell.offsets, cell.costs, heaviest, best)
            target = max(target, bound * (1 + tolerance))
            cover = _cover_of(cell.offsets, cell.loads.size)
            highest_averages(cell.loads, cell.by_load, cell.items.size, cell.costs.size, cover, needed)
            if best <= target:
                break
        if recounting:
            if not _give_back(cell.loads, needed, best / cell.costs[first_least(cell.costs)]):
                continue
            if not _pack_needed(cell, needed):
                continue
        elif attempt > 0 and (attempt - effort[MAX_RECOUNTS] - 1) % WANDER == 0:
            _copy_plan(kept, (cell.items, cell.counts, cell.shares))
        _note_holders(cell)
        if attempt > 0 and not recounting:
            _kick(cell, state)
        steps = refine(cell, target, effort[MAX_STEPS])
        largest = largest_of(cell.times)
        if largest < best or (largest == best and not recounting):
            best = largest
            _copy_plan((cell.items, cell.counts, cell.shares), kept)
        if steps == effort[MAX_STEPS]:  # too large to be refined to the end once, let alone again
            bound = close_bound(cell.loads, cell.offsets, cell.costs, heaviest, best)
            break
    _copy_plan(kept, (cell.items, cell.counts, cell.shares))
    refine(cell, np.inf, 0)
    return bound


@part
def _copy_plan(source: tuple[Ints, Ints, Floats], target: tuple[Ints, Ints, Floats]) -> None:
    """Copy items, counts and shares."""
    for slot in range(source[0].size):
        target[0][slot] = source[0][slot]
    for expert in range(source[1].size):
        target[1][expert] = source[1][expert]
        target[2][expert] = source[2][expert]


@part
def _note_holders(cell: Cell) -> None:
    for rank in range(cell.times.size):
        for expert in range(cell.loads.size):
            cell.holds[rank, expert] = False
        for slot in range(cell.offsets[rank], cell.offsets[rank + 1]):
            cell.holds[rank, cell.items[slot]] = True


@part
def _give_back(loads: Floats, needed: Ints, ceiling: float) -> bool:
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
def _pack_needed(cell: Cell, needed: Ints) -> bool:
    """Pack anew with the replicas `needed`, the rest going to experts with one; whether ranks hold distinct experts."""
    singles = np.empty(needed.size, np.int64)
    num_singles = 0
    left = cell.items.size
    for expert in cell.by_load:
        cell.counts[expert] = needed[expert]
        if needed[expert] == 1:
            singles[num_singles] = expert
            num_singles += 1
        else:
            left -= needed[expert]
    highest_averages(cell.loads, singles[:num_singles], left, cell.costs.size, np.empty(0, np.int64), cell.counts)
    placed = 0
    for count in cell.counts:
        placed += count
    if placed != cell.items.size:
        return False
    order = np.empty(needed.size, np.int64)
    order_by_share(cell, order)
    return pack(cell, order) or separate_replicas(cell)


@part
def _kick(cell: Cell, state: Seeds) -> None:
    """Disturb a plan by a few random swaps and re-grants that keep it sound; `refine` brings times up to date."""
    left = 1 + _random_below(state, KICKS)
    for _ in range(KICK_TRIES):
        if left == 0:
            break
        slot = _random_below(state, cell.items.size)
        rank = _rank_of(cell.offsets, slot)
        if _random_below(state, np.int64(2)) == 0:
            expert = _random_below(state, cell.loads.size)
            if cell.counts[cell.items[slot]] > 1 and not cell.holds[rank, expert]:
                regrant(cell, rank, slot, expert)
                left -= 1
            continue
        other_slot = _random_below(state, cell.items.size)
        other = _rank_of(cell.offsets, other_slot)
        if other != rank and not cell.holds[other, cell.items[slot]] and not cell.holds[rank, cell.items[other_slot]]:
            exchange(cell, rank, other, slot, other_slot)
            left -= 1


@part
def _rank_of(offsets: Ints, slot: int) -> int:
    rank = 0
    while offsets[rank + 1] <= slot:
        rank += 1
    return rank


@part
def _random_below(state: Seeds, bound: int) -> int:
    """Return a number of 0 .. bound - 1 (xorshift64*, Vigna, doi:10.1145/2845077)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(33)) % bound
