"""`recover`: what is left after ranks are lost for good, and how every expert gets a place again."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import check_finite_nonnegative, frozen, integers, loads_array
from eplb.errors import InfeasibleError, LoadsError, OptionError, PlacementError
from eplb.migration.pairs import lost_experts, rows_that_last
from eplb.migration.sparing import Reload, place
from eplb.placement import Placement
from eplb.topology import Topology

ReloadCallback = Callable[[int, int, int], object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recovery:
    """What survives the loss of ranks, and what has to be loaded again.

    Parameters
    ----------
    placement : Placement
        Every expert on a rank that works, once the reloads are done; nothing else has to move. Its topology names the
        lost ranks in `failed_ranks`.
    lost_ranks : tuple of int
        The ranks that were lost, ascending.
    surviving : array [S, 2]
        Layer index and expert of each that lost a replica and still has one elsewhere.
    lost : array [K, 2]
        Layer index and expert of each that lost all its replicas.
    reloads : tuple of K Reload
        Where the lost ones go, in the order of `lost`. Each takes the slot of a replica that is given up.
    """

    placement: Placement
    lost_ranks: tuple[int, ...]
    surviving: NDArray[np.int64]
    lost: NDArray[np.int64]
    reloads: tuple[Reload, ...]


def recover(
    placement: Placement,
    lost_ranks: Sequence[int] | Set[int],
    *,
    reload: ReloadCallback | None = None,
    loads: ArrayLike | Sequence[Any] | None = None,
) -> Recovery:
    """Return what survives when ranks are lost for good, and a placement of all experts on the ranks that are left.

    Parameters
    ----------
    placement : Placement
        What the ranks held.
    lost_ranks : sequence or set of int
        Ranks that are lost. Those that had failed before stay so, named or not.
    reload : callable, optional
        Called as ``reload(layer, expert, slot)`` for each expert to be loaded again, in order, after all is planned.
        `layer` is an index, `slot` counts over all ranks. What it raises, it raises here.
    loads : array_like [L, E] or [T, L, E], optional
        Tokens routed to each expert, finite, >= 0. Replicas are then given up where each that stays has least load;
        without loads, where an expert has most replicas.

    Returns
    -------
    Recovery
        With as few reloads as there are lost experts, and no transfer. A rank never gets an expert that it holds.

    Raises
    ------
    InfeasibleError
        If the slots that are left cannot hold all experts.
    PlacementError, OptionError, LoadsError
        If the placement is none, a rank does not exist, or the loads do not fit. In all cases nothing was called.

    Notes
    -----
    Every rank that runs this finds the same. A layer without any load counts as if all loads were equal. Ties: most
    replicas, a slot whose rank holds the expert twice, the rank with fewest reloads in the layer, then in all layers so
    far, the lowest slot. To even out the loads on what is left, plan on from
    here: ``eplb.plan(loads, recovery.placement.topology, previous=recovery.placement)``, and `plan_transfers` to it.

    Examples
    --------
    >>> from eplb import Placement, Topology
    >>> from eplb.migration import recover
    >>> topology = Topology(num_ranks=3, slots_per_rank=2)
    >>> placement = Placement(physical_to_logical=[[0, 1, 0, 2, 1, 3]], topology=topology)
    >>> recovery = recover(placement, [2], reload=lambda layer, expert, slot: print("load", expert, "into", slot))
    load 3 into 0
    >>> recovery.surviving.tolist(), recovery.lost.tolist()
    ([[0, 1]], [[0, 3]])
    >>> recovery.placement.physical_to_logical.tolist()
    [[3, 1, 0, 2, -1, -1]]
    """
    topology, lost_now = _topology_left(placement, lost_ranks)
    if reload is not None and not callable(reload):
        raise OptionError(f"reload: expected a callable or None, got {type(reload).__name__}")
    weights = _weights(loads, placement)
    rows = rows_that_last(placement, topology.alive)
    lost = lost_experts(rows, placement.num_experts)
    reloads = place(rows, lost, weights, topology)
    recovery = Recovery(
        placement=Placement(
            physical_to_logical=rows,
            topology=topology,
            num_experts=placement.num_experts,
            layer_ids=placement.layer_ids,
        ),
        lost_ranks=lost_now,
        surviving=frozen(_surviving(placement, topology, lost)),
        lost=frozen(lost),
        reloads=reloads,
    )
    if reload is not None:
        for entry in reloads:
            reload(entry.layer, entry.expert, entry.slot)
    return recovery


def _topology_left(placement: Placement, lost_ranks: Sequence[int] | Set[int]) -> tuple[Topology, tuple[int, ...]]:
    """Return the machine without the lost ranks, and which these are."""
    if not isinstance(placement, Placement):
        raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
    topology = placement.topology
    ranks = np.unique(
        integers(sorted(lost_ranks) if isinstance(lost_ranks, Set) else lost_ranks, "lost_ranks", OptionError)
    )
    bad = (ranks < 0) | (ranks >= topology.num_ranks)
    if bad.any():
        raise OptionError(f"lost_ranks: expected ranks 0 to {topology.num_ranks - 1}, got {ranks[bad][0]}")
    alive = topology.alive.copy()
    alive[ranks] = False
    room = int(topology.slot_counts[alive].sum())
    if room < placement.num_experts:
        raise InfeasibleError(
            f"lost_ranks: {int(alive.sum())} ranks are left, with {room} slots for {placement.num_experts} experts; "
            "start again on more ranks or with more slots a rank"
        )
    return replace(topology, failed_ranks=np.flatnonzero(~alive).tolist()), tuple(ranks.tolist())


def _weights(loads: Any, placement: Placement) -> NDArray[np.float64]:
    """Return the load of each expert, [L, E]; all the same without loads."""
    shape = (placement.num_layers, placement.num_experts)
    if loads is None:
        return np.ones(shape)
    array = loads_array(loads)
    if array.shape[-2:] != shape:
        raise LoadsError(f"loads: expected {shape[0]} layers x {shape[1]} experts, got shape {array.shape}")
    check_finite_nonnegative(array)
    scaled = array.astype(np.float64) / max(float(array.max()), 1e-300)  # so that sums stay finite
    summed = scaled.cumsum(axis=0)[-1] if array.ndim == 3 else scaled
    return np.where(summed.any(axis=1, keepdims=True), summed, 1.0)


def _surviving(placement: Placement, topology: Topology, lost: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return layer and expert of each that had a replica on a rank that is lost now, and is not lost itself."""
    shed = placement.topology.alive & ~topology.alive
    hit = np.zeros((placement.num_layers, placement.num_experts), dtype=np.bool_)
    layer, slot = np.nonzero(rows_that_last(placement, shed) >= 0)
    hit[layer, placement.physical_to_logical[layer, slot]] = True
    hit[lost[:, 0], lost[:, 1]] = False
    return np.argwhere(hit)
