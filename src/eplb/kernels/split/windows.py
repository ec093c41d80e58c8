"""The entries of the planner for the weighted split: improve the layers, and time a placement."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import kernel
from eplb.kernels.split.board import set_split_board, split_board_for
from eplb.kernels.split.search import search_split
from eplb.kernels.windows.board import set_layer
from eplb.kernels.windows.layers import MAX_MOVES, MAX_RECEIVED, REGRANTS, TRIES

NUM_CUTS = 256  # more than scenarios, or they would drive each other out


@kernel
def improve_split_layers(
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
    least_gains: Floats,
    limits: Ints,
    items: Ints,
    steps: Ints,
    num_steps: Ints,
    times: Floats,
    moves: Ints,
) -> None:
    """Improve layers for the weighted split, as `windows.layers.improve_layers` does for the even one.

    A layer whose target is nearer than `least_gains` [L] stays as it is: no search could gain enough.
    """
    board = split_board_for(scenarios.shape[1], weights, offsets, 1.0 / costs, NUM_CUTS, activated.size > 0)
    for layer in range(first, last):
        extras = activated[layer] if activated.size > 0 else activated[0]
        set_layer(board, scenarios[layer], extras, nodes, homes[layer], held[layer], held_offsets)
        start = set_split_board(board, items[layer])
        hopeless = start - targets[layer] < least_gains[layer]
        num_steps[layer] = search_split(
            board,
            start,
            np.inf if hopeless else targets[layer],
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
def time_split_layers(
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
    """Fill expected times under the weighted split, moves and receipts, as `window_layers.time_layers` does."""
    board = split_board_for(scenarios.shape[1], weights, offsets, 1.0 / costs, 1, activated.size > 0)
    for layer in range(first, last):
        extras = activated[layer] if activated.size > 0 else activated[0]
        set_layer(board, scenarios[layer], extras, nodes, homes[layer], held[layer], held_offsets)
        times[layer] = set_split_board(board, items[layer])
        moves[layer] = board.received.sum()
        received[layer] = board.received
