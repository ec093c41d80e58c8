"""From a previous placement, maybe on another machine, to where the search for the next one starts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eplb.errors import InfeasibleError, PlacementError
from eplb.placement import Placement
from eplb.planning.layout import Layout
from eplb.planning.moving import Moving
from eplb.planning.outlook import Outlook


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Carried:
    """A previous placement on the machine of the new one.

    Parameters
    ----------
    held : array [L, P']
        What each rank of the new machine held before, -1 for nothing, rank after rank.
    held_offsets : array [R + 1]
        First entry of each rank in `held`, then P'.
    items : array [L, P]
        Expert in each usable slot, every expert placed.
    restored : array [M, 2]
        Layer index and expert of each that had lost all its replicas.
    """

    held: NDArray[np.int64]
    held_offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    restored: NDArray[np.int64]


def check_previous(previous: Placement, num_layers: int, num_experts: int, layer_ids: NDArray[np.int64] | None) -> None:
    """Raise `PlacementError` unless `previous` is a placement of the same layers and experts."""
    if not isinstance(previous, Placement):
        raise PlacementError(f"previous: expected an eplb.Placement, got {type(previous).__name__}")
    if (previous.num_layers, previous.num_experts) != (num_layers, num_experts):
        raise PlacementError(
            f"previous: expected the placement of {num_layers} layers x {num_experts} experts, got "
            f"{previous.num_layers} x {previous.num_experts}; is it of another model? Plan without it"
        )
    if layer_ids is not None and not np.array_equal(layer_ids, previous.layer_ids):
        layer = int(np.argmax(layer_ids != previous.layer_ids))
        raise PlacementError(
            f"previous: expected layer {layer_ids[layer]} at index {layer}, got layer {previous.layer_ids[layer]}"
        )


def carry(previous: Placement, layout: Layout, outlook: Outlook, homes: NDArray[np.int64], moving: Moving) -> Carried:
    """Return `previous` on the ranks of `layout`; ranks keep their ids.

    Raises
    ------
    InfeasibleError
        If experts that lost all their replicas cannot be placed within the limits of moves.

    Warns
    -----
    RuntimeWarning
        If the limits leave slots that only repeat what their rank has.
    """
    held, held_offsets = _held(previous, layout)
    num_layers, num_experts = previous.num_layers, previous.num_experts
    if _same_machine(previous, layout):
        return Carried(
            held=held, held_offsets=held_offsets, items=held.copy(), restored=np.zeros((0, 2), dtype=np.int64)
        )
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.carry import carry_layers

    items = np.empty((num_layers, layout.num_slots), dtype=np.int64)
    lost = np.empty((num_layers, num_experts), dtype=np.bool_)
    for fill in (True, False):  # further replicas are welcome, but only what nobody holds is needed
        machine = (layout.offsets, layout.costs, layout.nodes, homes)
        over_layers(carry_layers, num_layers, (outlook.means, held, held_offsets, *machine, fill, items, lost))
        _check_covered(items, num_experts)
        received = _received(items, held, held_offsets, layout)
        if received.sum() <= moving.most_moves and received.max() <= moving.most_received:
            break
    else:
        raise InfeasibleError(
            f"previous: {int(lost.sum())} experts lost all their replicas or ranks are new; to place them takes "
            f"{int(received.sum())} moves ({int(received.max())} to one rank), more than max_moves or "
            "max_moves_per_rank allow; raise them"
        )
    if not fill:
        warnings.warn(
            "eplb: max_moves or max_moves_per_rank are too few to fill all free slots; where no move was left, they "
            "hold again what their rank has, until a later plan moves further replicas there",
            RuntimeWarning,
            stacklevel=4,
        )
    return Carried(held=held, held_offsets=held_offsets, items=items, restored=np.argwhere(lost).astype(np.int64))


def _held(previous: Placement, layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what the ranks of `layout` held in `previous`, [L, P'], and the first entry of each, [R + 1]."""
    old = previous.topology
    slots = []
    for rank in layout.ranks:
        known = rank < old.num_ranks and bool(old.alive[rank])
        slots.append(np.arange(old.slot_offsets[rank], old.slot_offsets[rank + 1]) if known else np.arange(0))
    held = previous.physical_to_logical[:, np.concatenate(slots)].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum([s.size for s in slots])]).astype(np.int64)
    return np.ascontiguousarray(held), offsets


def _same_machine(previous: Placement, layout: Layout) -> bool:
    """Whether the same ranks work and have the same slots as before: no expert is lost, no slot is free."""
    old = previous.topology
    alive = np.flatnonzero(old.alive)
    return np.array_equal(alive, layout.ranks) and np.array_equal(old.slot_counts[alive], np.diff(layout.offsets))


def _check_covered(items: NDArray[np.int64], num_experts: int) -> None:
    for layer, row in enumerate(items):
        missing = np.setdiff1d(np.arange(num_experts), row)
        if missing.size:
            raise InfeasibleError(
                f"previous: expert {missing[0]} of layer {layer} lost all its replicas and its group's node has no "
                "slot to spare; plan with groups=1, or without previous"
            )
        if row.min() < 0:
            raise InfeasibleError(
                f"previous: a node holds no expert group of layer {layer}, so its slots would stay empty; plan with "
                "groups=1, or without previous"
            )


def _received(
    items: NDArray[np.int64], held: NDArray[np.int64], held_offsets: NDArray[np.int64], layout: Layout
) -> NDArray[np.int64]:
    """Return how many experts each rank gets that it did not hold, over all layers, [R]."""
    received = np.zeros(layout.ranks.size, dtype=np.int64)
    for rank in range(layout.ranks.size):
        now = items[:, layout.offsets[rank] : layout.offsets[rank + 1]]
        before = held[:, held_offsets[rank] : held_offsets[rank + 1]]
        received[rank] = sum(np.setdiff1d(a, b).size for a, b in zip(now, before, strict=True))
    return received


def homes_of(previous: Placement, layout: Layout, groups: int) -> NDArray[np.int64]:
    """Return the node on which `previous` keeps each expert group, [L, G]; -1 without groups.

    Raises
    ------
    PlacementError
        If a group stands on several nodes: steps that move what pays cannot bring it together.
    """
    homes = np.full((previous.num_layers, groups), -1, dtype=np.int64)
    if groups == 1 or layout.num_nodes == 1:
        return homes
    held, held_offsets = _held(previous, layout)
    nodes = np.repeat(layout.nodes, np.diff(held_offsets))
    size = previous.num_experts // groups
    for layer, row in enumerate(held):
        for node in range(layout.num_nodes):
            here = np.unique(row[(nodes == node) & (row >= 0)] // size)
            split = here[homes[layer, here] >= 0]
            if split.size:
                raise PlacementError(
                    f"previous: group {split[0]} of layer {layer} stands on nodes {homes[layer, split[0]]} and {node}; "
                    "plan without previous, or with groups=1"
                )
            homes[layer, here] = node
        _house_homeless(homes[layer], layout, size)
    return homes


def _house_homeless(homes: NDArray[np.int64], layout: Layout, group_size: int) -> None:
    """Give groups that lost all their experts a node with most room, in place."""
    slots = np.bincount(layout.nodes, weights=np.diff(layout.offsets), minlength=layout.num_nodes)
    for group in np.flatnonzero(homes < 0):
        free = slots - np.bincount(homes[homes >= 0], minlength=layout.num_nodes) * group_size
        homes[group] = int(np.argmax(free))
