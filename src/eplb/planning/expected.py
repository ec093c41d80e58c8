"""Planning for what the next window may bring, from scratch or by the moves that pay."""

from __future__ import annotations

from dataclasses import dataclass

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
from eplb.planning.searching import Search, applied, improve, timed
from eplb.planning.sliding import slid_where_better
from eplb.planning.stepping import moved
from eplb.topology import Topology

PROHIBITIVE = 1e100  # more than any move can save in scaled loads; an infinite price times no moves would be NaN


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
    split: str = "even",
) -> Expected:
    """Return a placement that makes the expected largest rank load small: a new one, or `previous` and what pays."""
    bound_alone = previous is not None and moving.limited
    fresh, known = plan_known(
        outlook.means, topology, groups, EFFORTS["fast"] if bound_alone else effort, seed, layer_ids
    )
    layout = layout_of(topology, groups)
    means, bounds = _bounds(outlook, layout)
    if split == "even" or (groups > 1 and layout.num_nodes > 1):  # else it may hold for the even split alone
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
        split=split,
    )
    if split == "weighted" and outlook.weights.size == 1:
        fresh_items = slid_where_better(search, fresh_items, homes_of(fresh, layout, groups))
    if previous is None:
        found = improve(search, fresh_items)
        items, before = applied(fresh_items, found, found.num_steps), None
    else:
        fresh_homes = homes_of(fresh, layout, groups)
        items, start = moved(search, carried, None if moving.limited else fresh_items, fresh_homes)
        before = float(outlook.unscaled(start).cumsum()[-1])
    times, moves = timed(search, items)
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
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.bounds import bound_layers

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
