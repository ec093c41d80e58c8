"""The entries of the planner for several windows: improve the layers, share a budget of moves, apply what is left."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.windows.board import Board, expected_time, set_board, set_layer
from eplb.kernels.windows.search import search_board

# entries of `limits`
MAX_MOVES, MAX_RECEIVED, REGRANTS, TRIES = 0, 1, 2, 3


@part
def _board_for(num_experts: int, num_scenarios: int, weights: Floats, offsets: Ints, costs: Floats) -> Board:
    """Return a board for layers of one shape."""
    num_ranks = costs.size
    rank_of = np.empty(offsets[num_ranks], np.int64)
    for rank in range(num_ranks):
        rank_of[offsets[rank] : offsets[rank + 1]] = rank
    return Board(
        np.empty((num_experts, num_scenarios)),
        np.zeros((num_experts, num_scenarios)),
        weights,
        offsets,
        rank_of,
        costs,
        np.ones((num_ranks, num_experts), np.bool_),
        np.zeros((num_ranks, num_experts), np.bool_),
        np.empty(offsets[num_ranks], np.int64),
        np.zeros((num_experts, num_ranks), np.int64),
        np.zeros(num_experts, np.int64),
        np.empty((num_experts, num_scenarios)),
        np.empty((num_ranks, num_scenarios)),
        np.zeros(num_ranks, np.int64),
        np.empty((3, num_scenarios), np.int64),
        np.empty((3, num_scenarios)),
        np.empty(num_experts),
        np.empty(num_experts),
        np.empty(num_experts),
        np.empty(num_ranks),
    )


@kernel
def improve_layers(
    first: int,
    last: int,
    scenarios: Floats,
    activated: Floats,
    weights: Floats,
    offsets: Ints,
    costs: Floats,
    nodes: Ints,
    homes: Ints,
    held: Ints,
    held_offsets: Ints,
    targets: Floats,
    prices: Floats,
    limits: Ints,
    items: Ints,
    steps: Ints,
    num_steps: Ints,
    times: Floats,
    moves: Ints,
) -> None:
    """Improve the layers `first` to `last` - 1 from `items` [L, P] on, which stay; what was done is written down.

    `scenarios` and `activated` are [L, E, S] (`activated` may be empty), `homes` [L, G] nodes of expert groups or -1,
    `held` [L, P'] what each rank held before, with first slots `held_offsets` ([R + 1]; of size 1: moves are free);
    `targets` and `prices` [L] end the search and charge a move. `limits` holds MAX_MOVES, MAX_RECEIVED, REGRANTS
    and TRIES.
    Of step k = 0 .. ``num_steps[l]``: ``steps`` [L, K, 2], ``times`` [L, K + 1], ``moves`` [L, K + 1].
    """
    num_experts, num_scenarios = scenarios.shape[1], scenarios.shape[2]
    board = _board_for(num_experts, num_scenarios, weights, offsets, costs)
    for layer in range(first, last):
        extras = activated[layer] if activated.size > 0 else activated[0]
        set_layer(board, scenarios[layer], extras, nodes, homes[layer], held[layer], held_offsets)
        set_board(board, items[layer])
        num_steps[layer] = search_board(
            board,
            targets[layer],
            prices[layer],
            limits[MAX_MOVES],
            limits[MAX_RECEIVED],
            limits[REGRANTS] > 0,
            limits[TRIES],
            steps[layer],
            times[layer],
            moves[layer],
        )


@kernel
def time_layers(
    first: int,
    last: int,
    scenarios: Floats,
    activated: Floats,
    weights: Floats,
    offsets: Ints,
    costs: Floats,
    nodes: Ints,
    homes: Ints,
    held: Ints,
    held_offsets: Ints,
    items: Ints,
    times: Floats,
    moves: Ints,
    received: Ints,
) -> None:
    """Fill the expected times `times` [L], the moves [L] and what each rank receives [L, R] of placements `items`."""
    num_experts, num_scenarios = scenarios.shape[1], scenarios.shape[2]
    board = _board_for(num_experts, num_scenarios, weights, offsets, costs)
    for layer in range(first, last):
        extras = activated[layer] if activated.size > 0 else activated[0]
        set_layer(board, scenarios[layer], extras, nodes, homes[layer], held[layer], held_offsets)
        set_board(board, items[layer])
        times[layer], moves[layer] = expected_time(board), board.received.sum()
        received[layer] = board.received


@kernel
def apply_layers(first: int, last: int, steps: Ints, taken: Ints, items: Ints) -> None:
    """Do the first ``taken[l]`` steps of each layer on `items` [L, P], in place."""
    for layer in range(first, last):
        for k in range(taken[layer]):
            slot, other = steps[layer, k, 0], steps[layer, k, 1]
            if other >= 0:
                items[layer, slot], items[layer, other] = items[layer, other], items[layer, slot]
            else:
                items[layer, slot] = -1 - other
