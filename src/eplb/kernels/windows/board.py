"""The state of the search over scenarios: who is where, what every rank then takes, and what a change would do."""

from typing import Any, NamedTuple

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import part


class Board(NamedTuple):
    """One layer on R ranks with P slots, under S scenarios. Slots are numbered rank after rank."""

    loads: Floats
    """Load of each expert in each scenario, [E, S]."""
    extras: Floats
    """What a slot of each expert costs in each scenario whatever its share: the expert is activated, [E, S]."""
    weights: Floats
    """Weight of each scenario, [S]."""
    offsets: Ints
    """First slot of each rank, then P, [R + 1]."""
    rank_of: Ints
    """Rank of each slot, [P]."""
    costs: Floats
    """Time that each rank takes for one token (1 / speed), [R]."""
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
    sizes: Floats
    """What a slot of each expert takes in each scenario, [E, S]."""
    times: Floats
    """Time of each rank in each scenario, [R, S]."""
    received: Ints
    """Experts that each rank holds and did not have before, [R]."""
    tops: Ints
    """The three slowest ranks of each scenario, [3, S]; -1 where there are fewer ranks."""
    slow: Floats
    """Their times, [3, S]; 0 where there are fewer ranks."""
    mean_loads: Floats
    """Weighted mean load of each expert, [E]."""
    mean_extras: Floats
    """Weighted mean of its extras, [E]."""
    mean_sizes: Floats
    """Weighted mean of its size, [E]."""
    mean_times: Floats
    """Weighted mean time of each rank: the expected largest time is never below it, [R]."""


@part
def mark_open(open_: Bools, nodes: Ints, homes: Ints) -> None:
    """Fill `open_` [R, E]: experts of a group with a home (a node, or -1, in `homes` [G]) may stand there alone."""
    num_experts = open_.shape[1]
    for expert in range(num_experts):
        home = homes[expert * homes.size // num_experts]
        for rank in range(nodes.size):
            open_[rank, expert] = home < 0 or home == nodes[rank]


@part
def mark_held(before: Bools, held: Ints, held_offsets: Ints) -> None:
    """Fill `before` [R, E] from what each rank held, -1 for nothing: all, if `held_offsets` has no rank."""
    before[:] = held_offsets.size == 1
    for rank in range(held_offsets.size - 1):
        for slot in range(held_offsets[rank], held_offsets[rank + 1]):
            if held[slot] >= 0:
                before[rank, held[slot]] = True


@part
def set_layer(
    board: Any, scenarios: Floats, activated: Floats, nodes: Ints, homes: Ints, held: Ints, held_offsets: Ints
) -> None:
    """Put the loads of a layer on a board, also one of the weighted split, and what each rank held.

    That is all, if `held_offsets` has no rank.
    """
    board.loads[:] = scenarios
    if activated.size > 0:
        board.extras[:] = activated
    mark_open(board.open, nodes, homes)
    mark_held(board.before, held, held_offsets)


@part
def set_board(board: Board, items: Ints) -> None:
    """Put `items` on the board."""
    for expert in range(board.counts.size):
        load, extra = 0.0, 0.0
        for s in range(board.weights.size):
            load += board.weights[s] * board.loads[expert, s]
            extra += board.weights[s] * board.extras[expert, s]
        board.mean_loads[expert], board.mean_extras[expert] = load, extra
    board.copies[:] = 0
    board.counts[:] = 0
    for slot in range(items.size):
        board.items[slot] = items[slot]
        board.copies[items[slot], board.rank_of[slot]] += 1
        board.counts[items[slot]] += 1
    for expert in range(board.counts.size):
        _resize(board, expert)
    for rank in range(board.costs.size):
        board.received[rank] = 0
        for expert in range(board.counts.size):
            if board.copies[expert, rank] > 0 and not board.before[rank, expert]:
                board.received[rank] += 1
        _sum_rank(board, rank)
    find_tops(board)


@part
def _resize(board: Board, expert: int) -> None:
    for s in range(board.weights.size):
        board.sizes[expert, s] = board.loads[expert, s] / board.counts[expert] + board.extras[expert, s]
    board.mean_sizes[expert] = board.mean_loads[expert] / board.counts[expert] + board.mean_extras[expert]


@part
def _sum_rank(board: Board, rank: int) -> None:
    """Sum the times of `rank` anew, slot by slot: they depend on the slots alone, not on how they were filled."""
    times, sizes, items, weights, cost = board.times, board.sizes, board.items, board.weights, board.costs[rank]
    for s in range(weights.size):
        times[rank, s] = 0.0
    for slot in range(board.offsets[rank], board.offsets[rank + 1]):
        expert = items[slot]
        for s in range(weights.size):
            times[rank, s] += sizes[expert, s]
    mean = 0.0
    for s in range(weights.size):
        times[rank, s] *= cost
        mean += weights[s] * times[rank, s]
    board.mean_times[rank] = mean


@part
def find_tops(board: Board) -> None:
    """Find the three slowest ranks of every scenario, the lower id first among equals."""
    tops, slow, times = board.tops, board.slow, board.times
    for s in range(times.shape[1]):
        a, b, c = -1, -1, -1
        at, bt, ct = 0.0, 0.0, 0.0
        for rank in range(times.shape[0]):
            time = times[rank, s]
            if a < 0 or time > at:
                a, b, c, at, bt, ct = rank, a, b, time, at, bt
            elif b < 0 or time > bt:
                b, c, bt, ct = rank, b, time, bt
            elif c < 0 or time > ct:
                c, ct = rank, time
        tops[0, s], tops[1, s], tops[2, s] = a, b, c
        slow[0, s], slow[1, s], slow[2, s] = at, bt, ct


@part
def expected_time(board: Board) -> float:
    """Return the weighted mean over scenarios of the largest time."""
    total = 0.0
    for s in range(board.weights.size):
        total += board.weights[s] * board.slow[0, s]
    return total


@part
def newly(before: Bools, copies: Ints, rank: int, taken: int, given: int) -> int:
    """Return by how much the experts new to `rank` change when it takes one expert and gives away a slot of another."""
    more = 0 if before[rank, taken] else 1
    if copies[given, rank] == 1 and not before[rank, given]:
        more -= 1
    return more


@part
def do_swap(board: Board, mine: int, theirs: int) -> None:
    """Swap the experts of two slots on different ranks."""
    here, there = board.rank_of[mine], board.rank_of[theirs]
    given, taken = board.items[mine], board.items[theirs]
    board.received[here] += newly(board.before, board.copies, here, taken, given)
    board.received[there] += newly(board.before, board.copies, there, given, taken)
    board.items[mine], board.items[theirs] = taken, given
    board.copies[given, here] -= 1
    board.copies[taken, here] += 1
    board.copies[taken, there] -= 1
    board.copies[given, there] += 1
    _sum_rank(board, here)
    _sum_rank(board, there)
    find_tops(board)


@part
def do_regrant(board: Board, slot: int, expert: int) -> None:
    """Give `slot` to `expert`."""
    rank, donor = board.rank_of[slot], board.items[slot]
    board.received[rank] += newly(board.before, board.copies, rank, expert, donor)
    board.items[slot] = expert
    board.copies[donor, rank] -= 1
    board.copies[expert, rank] += 1
    board.counts[donor] -= 1
    board.counts[expert] += 1
    _resize(board, donor)
    _resize(board, expert)
    for other in range(board.costs.size):
        if other == rank or board.copies[donor, other] > 0 or board.copies[expert, other] > 0:
            _sum_rank(board, other)
    find_tops(board)
