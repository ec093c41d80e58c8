"""From a placement in force to the next one, by the moves that pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eplb.planning.carrying import Carried
from eplb.planning.searching import Found, Search, applied, improve, timed


def moved(
    search: Search, carried: Carried, fresh: NDArray[np.int64] | None, fresh_homes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the experts in the slots after the moves that pay, [L, P], and the expected times before, [L].

    A fresh plan (if any), renamed to overlap the old one, takes the place of a layer where it is better for its moves.
    """
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.overlap import settle_layers

    found = improve(search, carried.items)
    before = found.times[:, 0].copy()
    items = applied(carried.items, found, _shared(search, carried, found))
    if fresh is not None:
        better = _replace_where_better(search, items, before, fresh)
        if better.any():
            homes = np.where(better[:, None], fresh_homes, search.homes)
            search = replace(search, homes=homes, least_gains=np.zeros_like(search.least_gains))
            found = improve(search, items)
            items = applied(items, found, np.where(better, found.num_steps, 0))
    held = (search.held, search.held_offsets, search.layout.offsets)
    over_layers(settle_layers, len(items), (*held, items), min_layers=len(items))
    return items, before


def _shared(search: Search, carried: Carried, found: Found) -> NDArray[np.int64]:
    """Return how many steps of each layer to do, so that all layers together stay within the limits, [L]."""
    from eplb.kernels.compiling import ensure_compiled
    from eplb.kernels.windows.budget import share_moves

    taken = np.zeros(len(carried.items), dtype=np.int64)
    received = np.zeros(search.layout.ranks.size, dtype=np.int64)
    exponents = search.outlook.exponents.astype(np.float64)
    units = np.ldexp(1.0, np.maximum(exponents - exponents.max(), -1000.0).astype(np.int64))  # not 0
    args = (
        found.steps,
        found.num_steps.copy(),
        found.times,
        found.moves,
        units,
        search.prices,
        search.least_gains,
        search.moving.most_moves,
        search.moving.most_received,
        carried.items,
        search.held,
        search.held_offsets,
        search.layout.offsets,
        taken,
        received,
    )
    ensure_compiled(share_moves, args)
    share_moves(0, len(taken), *args)
    return taken


def _replace_where_better(
    search: Search, items: NDArray[np.int64], before: NDArray[np.float64], fresh: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Put layers of a fresh plan, renamed, into `items` where that is worth its moves; return where, [L]."""
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.overlap import rename_layers

    renamed = fresh.copy()
    layout = search.layout
    over_layers(rename_layers, len(items), (search.held, search.held_offsets, layout.offsets, layout.kinds, renamed))
    times, moves = timed(search, items)
    fresh_times, fresh_moves = timed(search, renamed)
    better = fresh_times + search.prices * fresh_moves < times + search.prices * moves
    better &= before - fresh_times >= search.least_gains
    items[better] = renamed[better]
    return better
