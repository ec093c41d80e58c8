"""Which swaps and re-grants may bring the weighted split down: those that let tokens out of the sets that bind."""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.split.board import FAR, SplitBoard, change_of
from eplb.kernels.split.cuts import Change, bound_change
from eplb.kernels.windows.board import newly

NUM_CANDIDATES = 48
NUM_EXPERTS = 8  # that are considered for a rank's slots
NUM_EXITS = 32  # experts and ranks that they may go to, of which the swaps are considered


class Candidates(NamedTuple):
    """The best changes found, by rising value."""

    values: Floats
    """Lower bound on the expected largest time after the change, and what its moves cost."""
    steps: Ints
    """(slot, other slot) of a swap, (slot, -1 - expert) of a re-grant, [N, 2]."""
    stamps: Ints
    """The clock of the cuts that the bound is from."""
    size: Ints
    """How many there are, [1]."""
    relief: Floats
    """What it may save in all scenarios that each expert is put on each rank, [E, R]."""
    exits: Ints
    """Room for slots and ranks, [NUM_EXITS, 2]."""
    reliefs: Floats
    """Room for what these may save, [NUM_EXITS]."""
    proposed: Ints
    """Room for changes that are to be weighed, [M, 2]."""
    hopes: Floats
    """What each of them may save at most, [M]."""
    bounds: Floats
    """Room for bounds, [S]."""


class Terms(NamedTuple):
    """What moves cost and how many are left."""

    price: float
    room: int
    max_received: int


@part
def no_candidates(num_experts: int, num_ranks: int, num_slots: int, num_scenarios: int) -> Candidates:
    """Return room for candidates."""
    most = num_slots * (NUM_EXPERTS + NUM_EXITS)
    return Candidates(
        np.empty(NUM_CANDIDATES + 1),
        np.empty((NUM_CANDIDATES + 1, 2), np.int64),
        np.empty(NUM_CANDIDATES + 1, np.int64),
        np.zeros(1, np.int64),
        np.empty((num_experts, num_ranks)),
        np.empty((NUM_EXITS + 1, 2), np.int64),
        np.empty(NUM_EXITS + 1),
        np.empty((most, 2), np.int64),
        np.empty(most),
        np.empty(num_scenarios),
    )


@part
def value_of(
    loads: Floats,
    extras: Floats,
    weights: Floats,
    copies: Ints,
    before: Bools,
    open_: Bools,
    received: Ints,
    member: Bools,
    per_speed: Floats,
    outside: Ints,
    amounts: Floats,
    num_cuts: int,
    terms: Terms,
    change: Change,
    bounds: Floats,
) -> float:
    """Return a bound on the expected time after a change, and what its moves cost; infinity if it is not allowed.

    Fills `bounds` [S].
    """
    first, second, here, there = change.first, change.second, change.first_leaves, change.second_leaves
    if copies[second, here] > 0 or not open_[here, second]:
        return np.inf
    if there >= 0 and (copies[first, there] > 0 or not open_[there, first]):
        return np.inf
    mine = newly(before, copies, here, second, first)
    theirs = newly(before, copies, there, first, second) if there >= 0 else 0
    if mine + theirs > max(terms.room, 0) or (mine > 0 and received[here] + mine > terms.max_received):
        return np.inf
    if theirs > 0 and received[there] + theirs > terms.max_received:
        return np.inf
    bound = bound_change(member, per_speed, outside, amounts, num_cuts, weights, loads, extras, change, bounds)
    return bound + terms.price * (mine + theirs)


@part
def place(found: Candidates, value: float, one: int, two: int, stamp: int) -> None:
    """Put a change into the list by its value; the worst drops out if the list is full."""
    k = found.size[0]
    if k == NUM_CANDIDATES and value >= found.values[k - 1]:
        return
    if k < NUM_CANDIDATES:
        found.size[0] += 1
    else:
        k -= 1
    while k > 0 and found.values[k - 1] > value:
        found.values[k], found.stamps[k] = found.values[k - 1], found.stamps[k - 1]
        found.steps[k, 0], found.steps[k, 1] = found.steps[k - 1, 0], found.steps[k - 1, 1]
        k -= 1
    found.values[k], found.steps[k, 0], found.steps[k, 1], found.stamps[k] = value, one, two, stamp


@part
def least_value(values: Floats, size: int, least: float) -> float:
    """Return what a change must be below to get into the list."""
    return min(least, values[NUM_CANDIDATES - 1]) if size == NUM_CANDIDATES else least


@part
def drop_first(found: Candidates) -> None:
    """Take the best change out of the list."""
    found.size[0] -= 1
    for k in range(found.size[0]):
        found.values[k], found.stamps[k] = found.values[k + 1], found.stamps[k + 1]
        found.steps[k, 0], found.steps[k, 1] = found.steps[k + 1, 0], found.steps[k + 1, 1]


@part
def find_candidates(
    board: SplitBoard, terms: Terms, now: float, least: float, regrants: bool, found: Candidates
) -> None:
    """Fill the list with changes whose bound is below `least`; the expected time is `now`."""
    found.size[0] = 0
    _fill_relief(board, found.relief)
    size = _propose_regrants(board, found) if regrants else 0
    size = _propose_swaps(board, size, found)
    _weigh(board, terms, now, least, size, found)


@part
def _fill_relief(board: SplitBoard, relief: Floats) -> None:
    """Fill `relief` [E, R]: an expert that only the ranks of a binding set hold gets out of it on any other rank."""
    amounts, per_speed, speeds = board.cuts.amounts, board.cuts.per_speed, board.speeds
    levels, tight, loads, weights = board.levels, board.tight, board.loads, board.weights
    starts, rank_of = board.holders.starts, board.holders.rank_of
    relief[:] = 0.0
    for s in range(weights.size):
        mean = amounts[0, s] * per_speed[0]
        most = levels[s] - mean
        if most <= FAR * mean:
            continue
        speed = 0.0
        for rank in range(speeds.size):
            if tight[s, rank]:
                speed += speeds[rank]
        for expert in range(loads.shape[0]):
            edge, stop = starts[expert], starts[expert + 1]
            while edge < stop and tight[s, rank_of[edge]]:
                edge += 1
            if edge == stop:
                gain = weights[s] * min(most, loads[expert, s] / speed)
                for rank in range(speeds.size):
                    if not tight[s, rank]:
                        relief[expert, rank] += gain


@part
def _propose_regrants(board: SplitBoard, found: Candidates) -> int:
    """List every slot that can be spared with the experts that its rank would relieve most; return how many."""
    items, counts, copies, open_ = board.items, board.counts, board.copies, board.open
    offsets, relief, proposed, hopes = board.offsets, found.relief, found.proposed, found.hopes
    best = np.empty(NUM_EXPERTS, np.int64)
    size = 0
    for rank in range(copies.shape[1]):
        num_best = _most_relieved(relief, copies, open_, rank, best)
        for slot in range(offsets[rank], offsets[rank + 1]):
            if counts[items[slot]] > 1:
                for expert in best[:num_best]:
                    proposed[size, 0], proposed[size, 1], hopes[size] = slot, -1 - expert, relief[expert, rank]
                    size += 1
    return size


@part
def _most_relieved(relief: Floats, copies: Ints, open_: Bools, rank: int, best: Ints) -> int:
    """Fill `best` with the experts that would save most on `rank`, the best first; return how many there are."""
    size = 0
    for expert in range(copies.shape[0]):
        mine = relief[expert, rank]
        if mine <= 0.0 or copies[expert, rank] > 0 or not open_[rank, expert]:
            continue
        if size == best.size and mine <= relief[best[size - 1], rank]:
            continue
        k = size if size < best.size else size - 1
        size = min(size + 1, best.size)
        while k > 0 and relief[best[k - 1], rank] < mine:
            best[k] = best[k - 1]
            k -= 1
        best[k] = expert
    return size


@part
def _propose_swaps(board: SplitBoard, size: int, found: Candidates) -> int:
    """List the experts that save most on another rank with all slots there, from place `size` on; return how many."""
    items, rank_of, offsets = board.items, board.rank_of, board.offsets
    relief, proposed, hopes, exits, reliefs = found.relief, found.proposed, found.hopes, found.exits, found.reliefs
    for k in range(_best_exits(items, board.copies, board.open, relief, exits, reliefs)):
        slot, there = exits[k, 0], exits[k, 1]
        for other in range(offsets[there], offsets[there + 1]):
            proposed[size, 0], proposed[size, 1] = slot, other
            hopes[size] = reliefs[k] + relief[items[other], rank_of[slot]]
            size += 1
    return size


@part
def _best_exits(items: Ints, copies: Ints, open_: Bools, relief: Floats, exits: Ints, reliefs: Floats) -> int:
    """Fill `exits` with slots and the ranks where their experts would save most; return how many there are."""
    size = 0
    for slot in range(items.size):
        expert = items[slot]
        for rank in range(copies.shape[1]):
            mine = relief[expert, rank]
            if mine <= 0.0 or copies[expert, rank] > 0 or not open_[rank, expert]:
                continue
            if size == NUM_EXITS and mine <= reliefs[size - 1]:
                continue
            k = size if size < NUM_EXITS else size - 1
            size = min(size + 1, NUM_EXITS)
            while k > 0 and reliefs[k - 1] < mine:
                reliefs[k], exits[k, 0], exits[k, 1] = reliefs[k - 1], exits[k - 1, 0], exits[k - 1, 1]
                k -= 1
            reliefs[k], exits[k, 0], exits[k, 1] = mine, slot, rank
    return size


@part
def _weigh(board: SplitBoard, terms: Terms, now: float, least: float, size: int, found: Candidates) -> None:
    """Put those of the proposed changes into the list whose bound is low enough."""
    cuts, clock, bounds = board.cuts, board.cuts.clock[0], found.bounds
    loads, extras, weights, copies, before = board.loads, board.extras, board.weights, board.copies, board.before
    open_, received, items, rank_of = board.open, board.received, board.items, board.rank_of
    member, per_speed, outside, amounts, num_cuts = (
        cuts.member,
        cuts.per_speed,
        cuts.outside,
        cuts.amounts,
        cuts.size[0],
    )
    proposed, hopes, values = found.proposed, found.hopes, found.values
    for k in range(size):
        if now - hopes[k] >= least_value(values, found.size[0], least):
            continue
        value = value_of(
            loads,
            extras,
            weights,
            copies,
            before,
            open_,
            received,
            member,
            per_speed,
            outside,
            amounts,
            num_cuts,
            terms,
            change_of(items, rank_of, proposed[k, 0], proposed[k, 1]),
            bounds,
        )
        if value < least:
            place(found, value, proposed[k, 0], proposed[k, 1], clock)


@part
def next_candidate(board: SplitBoard, terms: Terms, least: float, found: Candidates) -> float:
    """Bring the change with the least bound, by all cuts that are known by now, to the front; return what moves cost.

    Fills the bounds of `found`. Returns -1 if no change is left whose bound is below `least`.
    """
    cuts, clock = board.cuts, board.cuts.clock[0]
    while found.size[0] > 0 and found.values[0] < least:
        one, two = found.steps[0, 0], found.steps[0, 1]
        change = change_of(board.items, board.rank_of, one, two)
        value = value_of(
            board.loads,
            board.extras,
            board.weights,
            board.copies,
            board.before,
            board.open,
            board.received,
            cuts.member,
            cuts.per_speed,
            cuts.outside,
            cuts.amounts,
            cuts.size[0],
            terms,
            change,
            found.bounds,
        )
        if found.stamps[0] == clock:
            return _cost_of_moves(board, terms, change)
        drop_first(found)
        if value < least:
            place(found, value, one, two, clock)
    return -1.0


@part
def _cost_of_moves(board: SplitBoard, terms: Terms, change: Change) -> float:
    more = newly(board.before, board.copies, change.first_leaves, change.second, change.first)
    if change.second_leaves >= 0:
        more += newly(board.before, board.copies, change.second_leaves, change.first, change.second)
    return terms.price * more
