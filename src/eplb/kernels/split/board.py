"""The state of the search for the weighted split: who is where, and how every scenario then splits."""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.split.cuts import Change, Cuts, add_cut, apply_change, no_cuts
from eplb.kernels.split.holders import Holders, find_holders, no_holders
from eplb.kernels.split.levelling import level_ranks
from eplb.kernels.totals import NONE

FAR = 1e-9  # a scenario that is nearer to the mean than that, in parts of it, has nothing to gain


class SplitBoard(NamedTuple):
    """One layer on R ranks with P slots, under S scenarios. Slots are numbered rank after rank."""

    loads: Floats
    """Load of each expert in each scenario, [E, S]."""
    by_scenario: Floats
    """The same, [S, E]."""
    extras: Floats
    """What a slot of each expert costs in each scenario, whatever its share, [E, S]; [0, 0] if nothing."""
    weights: Floats
    """Weight of each scenario, [S]."""
    offsets: Ints
    """First slot of each rank, then P, [R + 1]."""
    rank_of: Ints
    """Rank of each slot, [P]."""
    speeds: Floats
    """Tokens that each rank handles in a unit of time, [R]."""
    open: Bools
    """Whether each rank is on the node that each expert must stay on, [R, E]."""
    before: Bools
    """Whether each rank has each expert already, so that no move is needed to put it there, [R, E]."""
    items: Ints
    """Expert in each slot, [P]."""
    copies: Ints
    """Slots of each rank that hold each expert, [E, R]."""
    counts: Ints
    """Replicas of each expert, [E]."""
    received: Ints
    """Experts that each rank holds and did not have before, [R]."""
    levels: Floats
    """Largest time of each scenario, split exactly, [S]."""
    tight: Bools
    """The ranks that prove it, [S, R]."""
    holders: Holders
    """Room for the graph of a placement."""
    fixed: Floats
    """Room for what each rank has to do besides, [R]."""
    flow: Floats
    """Room for a flow, [P]."""
    order: Ints
    """The scenarios in the order in which they are split, [S]: those first that tell most about a change, by `told`."""
    told: Floats
    """By how much each was above its bound when it was last split, weighted, [S]."""
    cuts: Cuts
    """Sets of ranks that bound the split."""


@part
def split_board_for(
    num_experts: int, weights: Floats, offsets: Ints, speeds: Floats, num_cuts: int, extra: bool
) -> SplitBoard:
    """Return a board for layers of one shape."""
    num_ranks, num_slots, num_scenarios = speeds.size, offsets[speeds.size], weights.size
    rank_of = np.empty(num_slots, np.int64)
    for rank in range(num_ranks):
        rank_of[offsets[rank] : offsets[rank + 1]] = rank
    return SplitBoard(
        np.empty((num_experts, num_scenarios)),
        np.empty((num_scenarios, num_experts)),
        np.zeros((num_experts, num_scenarios)) if extra else np.zeros((0, 0)),
        weights,
        offsets,
        rank_of,
        speeds,
        np.ones((num_ranks, num_experts), np.bool_),
        np.zeros((num_ranks, num_experts), np.bool_),
        np.empty(num_slots, np.int64),
        np.zeros((num_experts, num_ranks), np.int64),
        np.zeros(num_experts, np.int64),
        np.zeros(num_ranks, np.int64),
        np.empty(num_scenarios),
        np.empty((num_scenarios, num_ranks), np.bool_),
        no_holders(num_experts, num_slots, num_ranks),
        np.zeros(num_ranks),
        np.empty(num_slots),
        np.empty(num_scenarios, np.int64),
        np.empty(num_scenarios),
        no_cuts(num_cuts, num_ranks, num_experts, num_scenarios),
    )


@part
def set_split_board(board: SplitBoard, items: Ints) -> float:
    """Put `items` on the board and split every scenario; return the weighted mean of the largest times."""
    loads, by_scenario, copies, counts = board.loads, board.by_scenario, board.copies, board.counts
    rank_of, received, before = board.rank_of, board.received, board.before
    for expert in range(loads.shape[0]):
        for s in range(loads.shape[1]):
            by_scenario[s, expert] = loads[expert, s]
    copies[:] = 0
    counts[:] = 0
    received[:] = 0
    board.items[:] = items
    for slot in range(items.size):
        expert, rank = items[slot], rank_of[slot]
        if copies[expert, rank] == 0 and not before[rank, expert]:
            received[rank] += 1
        copies[expert, rank] += 1
        counts[expert] += 1
    board.cuts.size[0] = 0
    board.cuts.clock[0] = 0
    board.tight[0] = True
    _add(board, 0)
    for s in range(board.weights.size):
        board.order[s], board.told[s] = s, board.weights[s]
    _sort_order(board.order, board.told)
    bounds = np.zeros(board.weights.size)
    return split_scenarios(board, bounds, np.inf)


@part
def split_scenarios(board: SplitBoard, bounds: Floats, limit: float) -> float:
    """Split the scenarios of ``board.items`` exactly, knowing that none comes below `bounds` [S].

    Return the weighted mean of their largest times, or infinity as soon as it cannot end below `limit`. Fills
    ``board.levels``, with 0 where that was not looked at, and ``board.tight`` where levels are above the bounds.
    """
    weights, levels, by_scenario, tight = board.weights, board.levels, board.by_scenario, board.tight
    fixed, speeds, holders, flow = board.fixed, board.speeds, board.holders, board.flow
    find_holders(board.items, board.offsets, holders)
    board.cuts.clock[0] += 1
    levels[:] = 0.0
    total = 0.0
    for s in range(weights.size):
        total += weights[s] * bounds[s]
    for s in board.order:
        if board.extras.size > 0:
            _fill_fixed(board, s)
        levels[s] = level_ranks(by_scenario[s], fixed, speeds, holders, False, bounds[s], flow, tight[s])
        board.told[s] = weights[s] * (levels[s] - bounds[s])
        total += board.told[s]
        if total >= limit:
            break
    _sort_order(board.order, board.told)
    return np.inf if total >= limit else total


@part
def _sort_order(order: Ints, told: Floats) -> None:
    """Sort the scenarios by what they told, the most first; equal ones stay in order."""
    for k in range(1, order.size):
        s = order[k]
        j = k - 1
        while j >= 0 and told[order[j]] < told[s]:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = s


@part
def _fill_fixed(board: SplitBoard, s: int) -> None:
    fixed, items, rank_of, extras = board.fixed, board.items, board.rank_of, board.extras
    fixed[:] = 0.0
    for slot in range(items.size):
        fixed[rank_of[slot]] += extras[items[slot], s]


@part
def _add(board: SplitBoard, s: int) -> None:
    add_cut(board.cuts, board.tight[s], board.items, board.rank_of, board.loads, board.extras, board.speeds)


@part
def learn_cuts(board: SplitBoard, bounds: Floats) -> None:
    """Add the sets that prove ``board.levels`` where they are above `bounds` [S], for the placement on the board."""
    for s in range(board.weights.size):
        if board.levels[s] > bounds[s] * (1 + FAR):
            _add(board, s)


@part
def change_of(items: Ints, rank_of: Ints, one: int, two: int) -> Change:
    """Return what a step does: a swap of slots `one` and `two`, or, with ``two = -1 - expert``, a re-grant of `one`."""
    here, given = rank_of[one], items[one]
    if two >= 0:
        there, taken = rank_of[two], items[two]
        return Change(given, here, there, taken, there, here)
    return Change(given, here, NONE, -1 - two, NONE, here)


@part
def put(board: SplitBoard, one: int, two: int) -> None:
    """Do a step on ``board.items`` alone; the same step again undoes a swap."""
    if two >= 0:
        board.items[one], board.items[two] = board.items[two], board.items[one]
    else:
        board.items[one] = -1 - two


@part
def settle(board: SplitBoard, change: Change) -> None:
    """Bring all but the items to the placement after `change`."""
    apply_change(board.cuts, board.loads, board.extras, change)
    for i in range(2):
        expert = change.first if i == 0 else change.second
        leaves = change.first_leaves if i == 0 else change.second_leaves
        joins = change.first_joins if i == 0 else change.second_joins
        if leaves >= 0:
            board.copies[expert, leaves] -= 1
            board.counts[expert] -= 1
            if board.copies[expert, leaves] == 0 and not board.before[leaves, expert]:
                board.received[leaves] -= 1
        if joins >= 0:
            if board.copies[expert, joins] == 0 and not board.before[joins, expert]:
                board.received[joins] += 1
            board.copies[expert, joins] += 1
            board.counts[expert] += 1
