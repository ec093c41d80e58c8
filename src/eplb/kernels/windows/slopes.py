"""A subgradient of the expected largest time: what bounds the gain of a change before it is worked out."""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.ordering import order_descending
from eplb.kernels.windows.board import Board


class Slopes(NamedTuple):
    """A subgradient of the expected time, and room to work."""

    row_of: Ints
    """Row of each rank that is slowest in some scenario; of the others, a row of zeros, [R]."""
    loads: Floats
    """Slope of the load of each expert on each of these ranks, [R + 1, E]."""
    extras: Floats
    """Slope of its extras, [R + 1, E]."""
    held: Floats
    """Slopes of the load of each expert, summed over its slots, [E]."""
    relief: Floats
    """Fall of the expected time, at most, where the slots of each expert get a replica to share with, [E]."""
    rest: Floats
    """[S]."""
    hopes: Floats
    """[S + 1]."""
    touched: Ints
    """[R]."""
    most_relief: Ints
    """The experts by falling relief, [E]."""
    num_relieved: Ints
    """How many of them have any, [1]."""
    slow_first: Ints
    """The ranks by falling mean time, [R]."""


@part
def no_slopes(num_ranks: int, num_experts: int, num_scenarios: int) -> Slopes:
    """Return the arrays, not filled."""
    return Slopes(
        np.empty(num_ranks, np.int64),
        np.zeros((num_ranks + 1, num_experts)),
        np.zeros((num_ranks + 1, num_experts)),
        np.empty(num_experts),
        np.empty(num_experts),
        np.empty(num_scenarios),
        np.empty(num_scenarios + 1),
        np.empty(num_ranks, np.int64),
        np.empty(num_experts, np.int64),
        np.empty(1, np.int64),
        np.empty(num_ranks, np.int64),
    )


@part
def fill_slopes(board: Board, slopes: Slopes) -> int:
    """Fill the subgradient; return the number of ranks that are slowest in some scenario."""
    row_of, by_load, by_extra, held = slopes.row_of, slopes.loads, slopes.extras, slopes.held
    loads, extras, weights, costs, tops = board.loads, board.extras, board.weights, board.costs, board.tops
    offsets, items = board.offsets, board.items
    num_ranks, num_experts = row_of.size, held.size
    num_rows = 0
    row_of[:] = -1
    for s in range(weights.size):
        if row_of[tops[0, s]] < 0:
            row_of[tops[0, s]] = num_rows
            num_rows += 1
    by_load[: num_rows + 1] = 0.0
    by_extra[: num_rows + 1] = 0.0
    for e in range(num_experts):
        for s in range(weights.size):
            row, slope = row_of[tops[0, s]], weights[s] * costs[tops[0, s]]
            by_load[row, e] += slope * loads[e, s]
            by_extra[row, e] += slope * extras[e, s]
    held[:] = 0.0
    for rank in range(num_ranks):
        if row_of[rank] < 0:
            row_of[rank] = num_rows
            continue
        for slot in range(offsets[rank], offsets[rank + 1]):
            held[items[slot]] += by_load[row_of[rank], items[slot]]
    slopes.num_relieved[0] = 0
    for e in range(num_experts):
        slopes.num_relieved[0] += 1 if held[e] > 0.0 else 0
        slopes.relief[e] = held[e] / (board.counts[e] * (board.counts[e] + 1))
    order_descending(slopes.relief, slopes.most_relief, np.empty(num_experts, np.int64))
    order_descending(board.mean_times, slopes.slow_first, slopes.touched)
    return num_rows
