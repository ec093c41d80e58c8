"""The search over scenarios as the kernels do it: from one placement to steps, and from steps to another placement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.planning.effort import Effort
from eplb.planning.layout import Layout
from eplb.planning.moving import Moving
from eplb.planning.outlook import Outlook

SLOTS_WORTH_A_THREAD = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """What stays the same while a placement is searched: the scenarios, the machine, what is held, the limits."""

    outlook: Outlook
    layout: Layout
    homes: NDArray[np.int64]
    held: NDArray[np.int64]
    held_offsets: NDArray[np.int64]
    targets: NDArray[np.float64]
    prices: NDArray[np.float64]
    least_gains: NDArray[np.float64]
    moving: Moving
    effort: Effort
    regrants: bool = True
    split: str = "even"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """Steps from a start: what and how many, and the expected time and the moves after each of them."""

    steps: NDArray[np.int64]
    num_steps: NDArray[np.int64]
    times: NDArray[np.float64]
    moves: NDArray[np.int64]


def _common(search: Search) -> tuple[Any, ...]:
    """Return the arguments that the kernels of a search have in common."""
    outlook, layout = search.outlook, search.layout
    return (
        outlook.scenarios,
        outlook.activated,
        outlook.weights,
        layout.offsets,
        layout.costs,
        layout.nodes,
        search.homes,
        search.held,
        search.held_offsets,
    )


def improve(search: Search, items: NDArray[np.int64]) -> Found:
    """Search from `items` [L, P] on, each layer on its own."""
    from eplb.kernels.split.windows import improve_split_layers
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.layers import improve_layers

    num_layers, most = len(items), search.effort.max_exchanges
    found = Found(
        steps=np.empty((num_layers, most, 2), dtype=np.int64),
        num_steps=np.zeros(num_layers, dtype=np.int64),
        times=np.empty((num_layers, most + 1)),
        moves=np.empty((num_layers, most + 1), dtype=np.int64),
    )
    moving, weighted = search.moving, search.split == "weighted"
    tries = search.effort.max_splits if weighted else search.effort.max_tries
    limits = np.array([moving.most_moves, moving.most_received, search.regrants, tries], dtype=np.int64)
    gains = (search.least_gains,) if weighted else ()
    options = (search.targets, search.prices, *gains, limits, items)
    over_layers(
        improve_split_layers if weighted else improve_layers,
        num_layers,
        (*_common(search), *options, found.steps, found.num_steps, found.times, found.moves),
        min_layers=max(1, SLOTS_WORTH_A_THREAD // search.layout.num_slots),
    )
    return found


def applied(items: NDArray[np.int64], found: Found, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `items` [L, P] after the first `taken` [L] steps of each layer."""
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.layers import apply_layers

    result: NDArray[np.int64] = items.copy()
    over_layers(apply_layers, len(items), (found.steps, taken, result), min_layers=len(items))
    return result


def timed(search: Search, items: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the expected largest time and the moves of each layer, [L] and [L]."""
    from eplb.kernels.split.windows import time_split_layers
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.layers import time_layers

    num_layers = len(items)
    times, moves = np.empty(num_layers), np.empty(num_layers, dtype=np.int64)
    received = np.empty((num_layers, search.layout.ranks.size), dtype=np.int64)
    kernel = time_split_layers if search.split == "weighted" else time_layers
    over_layers(kernel, num_layers, (*_common(search), items, times, moves, received))
    return times, moves
