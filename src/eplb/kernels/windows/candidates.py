"""The best change of a kind: swaps and re-grants are bounded first, and worked out only where they can be the best.

The expected time is convex in the times of the ranks, so a subgradient bounds from below what a change does to it; and
it is never below the mean time of any rank.
"""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.totals import NONE
from eplb.kernels.windows.board import Board, newly
from eplb.kernels.windows.exchanges import regrant_change, swap_change, swap_hopes
from eplb.kernels.windows.slopes import Slopes


class Limits(NamedTuple):
    """What a step has to respect."""

    expected: float
    """The expected time now."""
    price: float
    """What a move must gain."""
    room: int
    """Moves that are left."""
    max_received: int
    """Most experts that a rank may receive."""
    tries: int
    """Swaps of a rank, and re-grants, that are worked out in one pass."""


@part
def best_swap(
    board: Board, slopes: Slopes, limits: Limits, rank: int, num_rows: int, least: float
) -> tuple[float, int, int]:
    """Return value and slots of the best swap of a slot of `rank`, the value below `least`, or no slots."""
    items, counts, offsets, costs, rank_of = board.items, board.counts, board.offsets, board.costs, board.rank_of
    open_, before, copies, received = board.open, board.before, board.copies, board.received
    sizes, times, weights, tops, slow = board.sizes, board.times, board.weights, board.tops, board.slow
    mean_sizes, mean_times = board.mean_sizes, board.mean_times
    row_of, by_load, by_extra, rest, hopes = slopes.row_of, slopes.loads, slopes.extras, slopes.rest, slopes.hopes
    expected, price, room, max_received, tries = limits
    best, one, two = least, NONE, NONE
    mine = row_of[rank]
    for k in range(costs.size - 1, -1, -1):
        if tries <= 0:
            break
        other = slopes.slow_first[k]
        if other == rank or (row_of[other] < num_rows and other < rank):
            continue
        theirs = row_of[other]
        fewest = (-1 if received[rank] > 0 else 1) + (-1 if received[other] > 0 else 1)
        if price * fewest - swap_hopes(tops, slow, weights, rank, other, rest, hopes) >= best:
            continue
        cost_here, cost_there = costs[rank], costs[other]
        room_here = expected - mean_times[rank] - price * fewest
        room_there = expected - mean_times[other] - price * fewest
        for slot in range(offsets[rank], offsets[rank + 1]):
            given = items[slot]
            if copies[given, other] > 0 or not open_[other, given]:
                continue
            base = (by_load[theirs, given] - by_load[mine, given]) / counts[given] + price * fewest
            base += by_extra[theirs, given] - by_extra[mine, given]
            size = mean_sizes[given]
            for candidate in range(offsets[other], offsets[other + 1]):
                taken = items[candidate]
                change = size - mean_sizes[taken]
                if change * cost_there >= best + room_there or -change * cost_here >= best + room_here:
                    continue
                bound = base + (by_load[mine, taken] - by_load[theirs, taken]) / counts[taken]
                if bound + by_extra[mine, taken] - by_extra[theirs, taken] >= best:
                    continue
                if copies[taken, rank] > 0 or not open_[rank, taken]:
                    continue
                mine_more = newly(before, copies, rank, taken, given)
                theirs_more = newly(before, copies, other, given, taken)
                more = mine_more + theirs_more
                if (more > 0 and more > room) or (mine_more > 0 and received[rank] + mine_more > max_received):
                    continue
                if theirs_more > 0 and received[other] + theirs_more > max_received:
                    continue
                tries -= 1
                limit = np.nextafter(best - price * more, np.inf)  # equal values are still told apart
                value = price * more + swap_change(
                    sizes, times, weights, slow, costs, rank, other, given, taken, rest, hopes, limit
                )
                if value < best or (value == best and one >= 0 and received[other] < received[rank_of[two]]):
                    best, one, two = value, slot, candidate
    return best, one, two


@part
def best_regrant(board: Board, slopes: Slopes, limits: Limits, least: float) -> tuple[float, int, int]:
    """Return value, slot and expert of the best re-grant, the value below `least`, or no slot.

    A slot goes to an expert of a rank that is slowest in some scenario, or to the one that weighs least there.
    """
    items, counts, costs, rank_of = board.items, board.counts, board.costs, board.rank_of
    open_, before, copies, received = board.open, board.before, board.copies, board.received
    loads, extras, times, weights = board.loads, board.extras, board.times, board.weights
    mean_loads, mean_extras, mean_times = board.mean_loads, board.mean_extras, board.mean_times
    row_of, by_load, by_extra = slopes.row_of, slopes.loads, slopes.extras
    held, relief = slopes.held, slopes.relief
    expected, price, room, max_received, tries = limits
    best, one, two = least, NONE, NONE
    for slot in range(items.size):
        donor = items[slot]
        if counts[donor] < 2 or tries <= 0:
            continue
        where = rank_of[slot]
        row, left = row_of[where], counts[donor] - 1
        lowest = price * (1 if received[where] == 0 else -1)
        loss = (
            held[donor] * (1.0 / left - 1.0 / (left + 1)) - by_load[row, donor] / left - by_extra[row, donor] + lowest
        )
        busiest, most = _busiest_holder(mean_loads, mean_times, counts, copies, costs, where, donor)
        crowded = most - expected + lowest
        here = mean_times[where] - board.mean_sizes[donor] * costs[where] - expected + lowest
        lightest = _lightest_newcomer(mean_loads, mean_extras, counts, copies, open_, where)
        for k in range(-1, slopes.num_relieved[0]):
            expert = slopes.most_relief[k] if k >= 0 else lightest
            if k >= 0 and loss - relief[expert] >= best:
                break
            if expert < 0 or copies[expert, where] > 0 or not open_[where, expert]:
                continue
            share = 1.0 / (counts[expert] + 1)
            if loss - relief[expert] + by_load[row, expert] * share + by_extra[row, expert] >= best:
                continue
            if here + (mean_loads[expert] * share + mean_extras[expert]) * costs[where] >= best:
                continue
            if crowded >= best and copies[expert, busiest] == 0:
                continue
            more = newly(before, copies, where, expert, donor)
            if more > 0 and (more > room or received[where] + more > max_received):
                continue
            tries -= 1
            value = price * more + regrant_change(
                loads,
                extras,
                counts,
                copies,
                times,
                weights,
                board.tops,
                board.slow,
                costs,
                where,
                donor,
                expert,
                slopes.touched,
            )
            if value < best or (value == best and one >= 0 and received[where] < received[rank_of[one]]):
                best, one, two = value, slot, expert
    return best, one, two


@part
def _lightest_newcomer(
    mean_loads: Floats, mean_extras: Floats, counts: Ints, copies: Ints, open_: Bools, rank: int
) -> int:
    """Return the expert that may come to `rank` and takes least there with a replica more; -1 if none may."""
    best, least = NONE, np.inf
    for expert in range(counts.size):
        size = mean_loads[expert] / (counts[expert] + 1) + mean_extras[expert]
        if size < least and copies[expert, rank] == 0 and open_[rank, expert]:
            best, least = expert, size
    return best


@part
def _busiest_holder(
    mean_loads: Floats, mean_times: Floats, counts: Ints, copies: Ints, costs: Floats, rank: int, expert: int
) -> tuple[int, float]:
    """Return the rank other than `rank` with the largest mean time once `expert` has a replica less, and that time."""
    left = counts[expert] - 1
    rise = mean_loads[expert] * (1.0 / left - 1.0 / (left + 1))
    busiest, most = 0, 0.0
    for other in range(costs.size):
        if copies[expert, other] > 0 and other != rank:
            time = mean_times[other] + copies[expert, other] * rise * costs[other]
            if time > most:
                busiest, most = other, time
    return busiest, most


@part
def still_pays(board: Board, slopes: Slopes, limits: Limits, one: int, two: int, least: float) -> bool:
    """Whether a change that was found before others were made is still allowed and still gains."""
    copies, before, received = board.copies, board.before, board.received
    here, given = board.rank_of[one], board.items[one]
    if two >= 0:
        there, taken = board.rank_of[two], board.items[two]
        if copies[given, there] > 0 or copies[taken, here] > 0:
            return False
        if not (board.open[there, given] and board.open[here, taken]):
            return False
        theirs_more = newly(before, copies, there, given, taken)
        if theirs_more > 0 and received[there] + theirs_more > limits.max_received:
            return False
    else:
        taken, theirs_more = -1 - two, 0
        if board.counts[given] < 2 or copies[taken, here] > 0 or not board.open[here, taken]:
            return False
    mine_more = newly(before, copies, here, taken, given)
    more = mine_more + theirs_more
    if mine_more > 0 and received[here] + mine_more > limits.max_received:
        return False
    if more > 0 and more > limits.room:
        return False
    if two >= 0:
        swap_hopes(board.tops, board.slow, board.weights, here, there, slopes.rest, slopes.hopes)
        change = swap_change(
            board.sizes,
            board.times,
            board.weights,
            board.slow,
            board.costs,
            here,
            there,
            given,
            taken,
            slopes.rest,
            slopes.hopes,
            np.inf,
        )
    else:
        change = regrant_change(
            board.loads,
            board.extras,
            board.counts,
            copies,
            board.times,
            board.weights,
            board.tops,
            board.slow,
            board.costs,
            here,
            given,
            taken,
            slopes.touched,
        )
    return change + limits.price * more < least
