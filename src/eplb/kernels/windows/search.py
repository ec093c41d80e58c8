"""Local search over scenarios: swaps and re-grants that bring the expected largest time down; a move costs `price`."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.windows.board import Board, do_regrant, do_swap, expected_time
from eplb.kernels.windows.candidates import Limits, best_regrant, best_swap, still_pays
from eplb.kernels.windows.slopes import fill_slopes, no_slopes

CLEARLY = 1e-12  # a step must gain more than rounding, in parts of the expected time


@part
def search_board(
    board: Board,
    target: float,
    price: float,
    max_moves: int,
    max_received: int,
    regrants: bool,
    tries: int,
    steps: Ints,
    times: Floats,
    moves: Ints,
) -> int:
    """Improve a board step by step; return the number of steps.

    Stops at `target`, when no change pays, or after ``len(steps)`` steps. ``steps[k]`` becomes (slot, other slot) of a
    swap or (slot, -1 - expert) of a re-grant; ``times[k]`` and ``moves[k]`` are the expected time and the moves after k
    steps. Moves stay within `max_moves`, those that a rank receives within `max_received`, unless they were beyond.

    A pass over the board finds the best swap for each rank that is slowest in some scenario, and the best re-grant, and
    makes them one after another, the best first, as far as they still pay then.
    """
    num_experts, num_ranks = board.copies.shape
    slopes = no_slopes(num_ranks, num_experts, board.weights.size)
    found = np.empty((num_ranks + 1, 2), np.int64)
    values = np.empty(num_ranks + 1)
    total = board.received.sum()
    times[0], moves[0] = expected_time(board), total
    done = 0
    while done < len(steps) and times[done] > target:
        least = -CLEARLY * times[done]
        num_rows = fill_slopes(board, slopes)
        limits = Limits(times[done], price, max_moves - total, max_received, tries)
        num_found = 0
        for rank in range(num_ranks):
            if slopes.row_of[rank] == num_rows:
                continue
            best, one, two = best_swap(board, slopes, limits, rank, num_rows, least)
            if one >= 0:
                found[num_found, 0], found[num_found, 1], values[num_found] = one, two, best
                num_found += 1
        if regrants:
            beaten = least
            for k in range(num_found):
                beaten = min(beaten, values[k])
            best, slot, expert = best_regrant(board, slopes, limits, beaten)
            if slot >= 0:
                found[num_found, 0], found[num_found, 1], values[num_found] = slot, -1 - expert, best
                num_found += 1
        applied = 0
        for _ in range(num_found):
            k = 0
            for other in range(1, num_found):
                if values[other] < values[k]:
                    k = other
            one, two = found[k, 0], found[k, 1]
            values[k] = np.inf
            if done == len(steps) or times[done] <= target:
                break
            limits = Limits(times[done], price, max_moves - total, max_received, tries)
            if applied > 0 and not still_pays(board, slopes, limits, one, two, least):
                continue
            if two >= 0:
                do_swap(board, one, two)
            else:
                do_regrant(board, one, -1 - two)
            applied += 1
            total = board.received.sum()
            steps[done, 0], steps[done, 1] = one, two
            done += 1
            times[done], moves[done] = expected_time(board), total
        if applied == 0:
            break
    return done
