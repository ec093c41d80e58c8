"""Planning for what the next window may bring, from scratch or by the moves that pay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.certificate import Certificate, PerLayer
from eplb.errors import LoadsError
from eplb.placement import Placement
from eplb.planning.carrying import Carried, carry, homes_of
from eplb.planning.effort import EFFORTS, Effort
from eplb.planning.known import plan_known
from eplb.planning.layout import Layout, layout_of
from eplb.planning.moving import PRICE_SHARE, Moving, least_gain_share
from eplb.planning.outlook import Outlook
from eplb.topology import Topology

SLOTS_WORTH_A_THREAD = 100
PROHIBITIVE = 1e100  # more than any move can save in scaled loads; an infinite price times no moves would be NaN


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """Steps from a start: what and how many, and the expected time and the moves after each of them."""

    steps: NDArray[np.int64]
    num_steps: NDArray[np.int64]
    times: NDArray[np.float64]
    moves: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """What came of it: the placement and its proof, the moves, what had been lost, and the load before the moves."""

    placement: Placement
    certificate: Certificate
    moves: int
    restored: NDArray[np.int64]
    largest_load_before: float | None


def plan_expected(
    outlook: Outlook,
    topology: Topology,
    groups: int,
    previous: Placement | None,
    moving: Moving,
    effort: Effort,
    seed: int,
    layer_ids: NDArray[np.int64] | None,
    regrants: bool = True,
) -> Expected:
    """Return a placement that makes the expected largest rank load small: a new one, or `previous` and what pays."""
    bound_alone = previous is not None and moving.limited
    fresh, known = plan_known(
        outlook.means, topology, groups, EFFORTS["fast"] if bound_alone else effort, seed, layer_ids
    )
    layout = layout_of(topology, groups)
    means, bounds = _bounds(outlook, layout)
    bounds = np.maximum(bounds, known.per_layer.lower_bound)
    fresh_items = np.ascontiguousarray(fresh.physical_to_logical[:, layout.usable], dtype=np.int64)
    if previous is None:
        carried, homes = _from_nothing(fresh_items), homes_of(fresh, layout, groups)
        prices, least_gains = np.zeros(len(means)), np.zeros(len(means))
    else:
        homes = homes_of(previous, layout, groups)
        carried = carry(previous, layout, outlook, homes, moving)
        prices, least_gains = _prices(moving, outlook, means)
    search = Search(
        outlook=outlook,
        layout=layout,
        homes=homes,
        held=carried.held,
        held_offsets=carried.held_offsets,
        targets=bounds * (1 + effort.tolerance),
        prices=prices,
        least_gains=least_gains,
        moving=moving,
        effort=effort,
        regrants=regrants,
    )
    if previous is None:
        found = _improve(search, fresh_items)
        items, before = _applied(fresh_items, found, found.num_steps), None
    else:
        fresh_homes = homes_of(fresh, layout, groups)
        items, start = _moved(search, carried, None if moving.limited else fresh_items, fresh_homes)
        before = float(outlook.unscaled(start).cumsum()[-1])
    times, moves = _timed(search, items)
    return Expected(
        placement=_placement(items, layout, topology, outlook.means.shape[1], layer_ids),
        certificate=_certificate(outlook, times, means, bounds, bound_alone),
        moves=0 if previous is None else int(moves.sum()),
        restored=carried.restored,
        largest_load_before=before,
    )


def _from_nothing(items: NDArray[np.int64]) -> Carried:
    """Return the start of a plan without a previous one: no rank holds anything, and moves are free."""
    return Carried(
        held=np.zeros((len(items), 0), dtype=np.int64),
        held_offsets=np.zeros(1, dtype=np.int64),
        items=items,
        restored=np.zeros((0, 2), dtype=np.int64),
    )


def _placement(
    items: NDArray[np.int64], layout: Layout, topology: Topology, num_experts: int, layer_ids: NDArray[np.int64] | None
) -> Placement:
    slots = np.full((len(items), topology.num_slots), -1, dtype=np.int32)
    slots[:, layout.usable] = items
    keys = items + np.arange(len(items))[:, None] * num_experts
    counts = np.bincount(keys.reshape(-1), minlength=len(items) * num_experts).reshape(-1, num_experts)
    return Placement.from_planner(slots, topology, counts.astype(np.int32), layer_ids)


def _bounds(outlook: Outlook, layout: Layout) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the expected mean rank time and a bound on the expected largest, [L] and [L], scaled."""
    from eplb.kernels.scenario_bounds import bound_layers
    from eplb.kernels.threads import over_layers

    means, bounds = np.empty(len(outlook.means)), np.empty(len(outlook.means))
    args = (outlook.scenarios, outlook.activated, outlook.weights, layout.offsets, layout.costs, means, bounds)
    over_layers(bound_layers, len(means), args)
    return means, bounds


def _prices(
    moving: Moving, outlook: Outlook, means: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a move must save in a window, and what the first moves of a layer must, [L] and [L], scaled."""
    horizon = float(moving.horizon)
    if moving.move_cost is None:
        prices, least_gains = PRICE_SHARE / horizon * means, least_gain_share(outlook.num_windows) * means
    else:
        prices, least_gains = outlook.scaled(float(moving.move_cost) / horizon), np.zeros(len(means))
    return np.minimum(prices, PROHIBITIVE), least_gains


def _machine(search: Search) -> tuple[Any, ...]:
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


def _improve(search: Search, items: NDArray[np.int64]) -> Found:
    """Search from `items` [L, P] on, each layer on its own."""
    from eplb.kernels.threads import over_layers
    from eplb.kernels.window_layers import improve_layers

    num_layers, most = len(items), search.effort.max_exchanges
    found = Found(
        steps=np.empty((num_layers, most, 2), dtype=np.int64),
        num_steps=np.zeros(num_layers, dtype=np.int64),
        times=np.empty((num_layers, most + 1)),
        moves=np.empty((num_layers, most + 1), dtype=np.int64),
    )
    moving = search.moving
    limits = np.array(
        [moving.most_moves, moving.most_received, search.regrants, search.effort.max_tries], dtype=np.int64
    )
    options = (search.targets, search.prices, limits, items)
    over_layers(
        improve_layers,
        num_layers,
        (*_machine(search), *options, found.steps, found.num_steps, found.times, found.moves),
        min_layers=max(1, SLOTS_WORTH_A_THREAD // search.layout.num_slots),
    )
    return found


def _applied(items: NDArray[np.int64], found: Found, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `items` [L, P] after the first `taken` [L] steps of each layer."""
    from eplb.kernels.threads import over_layers
    from eplb.kernels.window_layers import apply_layers

    result: NDArray[np.int64] = items.copy()
    over_layers(apply_layers, len(items), (found.steps, taken, result), min_layers=len(items))
    return result


def _timed(search: Search, items: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the expected largest time and the moves of each layer, [L] and [L]."""
    from eplb.kernels.threads import over_layers
    from eplb.kernels.window_layers import time_layers

    num_layers = len(items)
    times, moves = np.empty(num_layers), np.empty(num_layers, dtype=np.int64)
    received = np.empty((num_layers, search.layout.ranks.size), dtype=np.int64)
    over_layers(time_layers, num_layers, (*_machine(search), items, times, moves, received))
    return times, moves


def _moved(
    search: Search, carried: Carried, fresh: NDArray[np.int64] | None, fresh_homes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the experts in the slots after the moves that pay, [L, P], and the expected times before, [L].

    A fresh plan (if any), renamed to overlap the old one, takes the place of a layer where it is better for its moves.
    """
    from eplb.kernels.overlap import settle_layers
    from eplb.kernels.threads import over_layers

    found = _improve(search, carried.items)
    before = found.times[:, 0].copy()
    items = _applied(carried.items, found, _shared(search, carried, found))
    if fresh is not None:
        better = _replace_where_better(search, items, before, fresh)
        if better.any():
            search = replace(search, homes=np.where(better[:, None], fresh_homes, search.homes))
            found = _improve(search, items)
            items = _applied(items, found, np.where(better, found.num_steps, 0))
    held = (search.held, search.held_offsets, search.layout.offsets)
    over_layers(settle_layers, len(items), (*held, items), min_layers=len(items))
    return items, before


def _shared(search: Search, carried: Carried, found: Found) -> NDArray[np.int64]:
    """Return how many steps of each layer to do, so that all layers together stay within the limits, [L]."""
    from eplb.kernels.budget import share_moves
    from eplb.kernels.compiling import ensure_compiled

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
    from eplb.kernels.overlap import rename_layers
    from eplb.kernels.threads import over_layers

    renamed = fresh.copy()
    layout = search.layout
    over_layers(rename_layers, len(items), (search.held, search.held_offsets, layout.offsets, layout.kinds, renamed))
    times, moves = _timed(search, items)
    fresh_times, fresh_moves = _timed(search, renamed)
    better = fresh_times + search.prices * fresh_moves < times + search.prices * moves
    better &= before - fresh_times >= search.least_gains
    items[better] = renamed[better]
    return better


def _certificate(
    outlook: Outlook,
    times: NDArray[np.float64],
    means: NDArray[np.float64],
    bounds: NDArray[np.float64],
    limited: bool,
) -> Certificate:
    mean, largest, bound = (outlook.unscaled(values) for values in (means, times, np.minimum(bounds, times)))
    with np.errstate(over="ignore"):
        if not np.isfinite([mean.sum(), largest.sum()]).all():
            raise LoadsError("loads: a rank's load divided by its speed is beyond float64; scale the loads down")
    layers = PerLayer(mean_load=mean, largest_load=largest, lower_bound=bound)
    return Certificate(per_layer=layers, ignores_budget=limited)
