"""Local search for the weighted split: swaps and re-grants that bring the expected largest time down.

Changes are chosen by the bound that known cuts give, and checked by flows; a change that fails teaches the cuts why.
"""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.split.board import SplitBoard, change_of, learn_cuts, put, settle, split_scenarios
from eplb.kernels.split.candidates import (
    Candidates,
    Terms,
    drop_first,
    find_candidates,
    next_candidate,
    no_candidates,
)

CLEARLY = 1e-9  # a step must gain more than that, in parts of the expected time


@part
def search_split(
    board: SplitBoard,
    start: float,
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
    """Improve a board whose expected time is `start` step by step; return the number of steps.

    Stops at `target`, when none of the `tries` changes that promise most pays, or after ``len(steps)`` steps.
    ``steps[k]`` becomes (slot, other slot) of a swap or (slot, -1 - expert) of a re-grant; ``times[k]`` and
    ``moves[k]`` are the expected time and the moves after k steps. Moves stay within `max_moves`, those that a rank
    receives within `max_received`, unless they were beyond.
    """
    found = no_candidates(board.counts.size, board.speeds.size, board.items.size, board.weights.size)
    total = board.received.sum()
    times[0], moves[0] = start, total
    done = 0
    found.bounds[:] = 0.0
    learn_cuts(board, found.bounds)
    while done < len(steps) and times[done] > target:
        terms = Terms(price, max_moves - total, max_received)
        least = times[done] * (1 - CLEARLY)
        find_candidates(board, terms, times[done], least, regrants, found)
        time = _first_that_pays(board, terms, least, tries, found)
        if time < 0.0:
            break
        steps[done, 0], steps[done, 1] = found.steps[0, 0], found.steps[0, 1]
        total = board.received.sum()
        done += 1
        times[done], moves[done] = time, total
    return done


@part
def _first_that_pays(board: SplitBoard, terms: Terms, least: float, tries: int, found: Candidates) -> float:
    """Make the change with the least bound that splits as well as it must; return the time it has, or -1."""
    for _ in range(tries):
        cost = next_candidate(board, terms, least, found)
        if cost < 0.0:
            break
        one, two = found.steps[0, 0], found.steps[0, 1]
        change = change_of(board.items, board.rank_of, one, two)
        back = two if two >= 0 else -1 - change.first
        put(board, one, two)
        time = split_scenarios(board, found.bounds, least - cost)
        pays = time < least - cost
        if pays:
            settle(board, change)
        else:
            put(board, one, back)
        learn_cuts(board, found.bounds)
        if pays:
            found.bounds[:] = 0.0
            return split_scenarios(board, found.bounds, np.inf)
        drop_first(found)
    return -1.0
