"""What a rank copies from one of its slots to another: no transfer, but work to do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eplb.migration.assignment import Assignment
from eplb.topology import Topology


class Copies(NamedTuple):
    """K copies inside ranks, ordered by layer and target slot; all [K]."""

    layer: NDArray[np.int32]
    expert: NDArray[np.int32]
    source_slot: NDArray[np.int32]
    """The lowest slot of the rank that held the expert before; if none did, the slot in which it arrives."""
    target_slot: NDArray[np.int32]
    arrives: NDArray[np.bool_]
    """Whether the rank has to receive the expert first."""


def copies_of(
    before: NDArray[np.int32], after: NDArray[np.int32], topology: Topology, assignment: Assignment
) -> Copies:
    """Return the copies that fill the slots of `after` [L, P] that no transfer fills."""
    changed = (after != before) & (after >= 0)
    changed[assignment.row, assignment.target_slot] = False
    layer, target_slot = np.nonzero(changed)
    expert = after[layer, target_slot]
    source_slot = np.full(layer.size, -1)
    wanted = _keys(layer, target_slot, expert, topology)
    held_layer, held_slot = np.nonzero((before >= 0) & changed.any(axis=1)[:, None])
    held = _keys(held_layer, held_slot, before[held_layer, held_slot], topology)
    arriving = _keys(assignment.row, assignment.target_slot, assignment.expert, topology)
    arrives = ~_look_up(held, held_slot, wanted, source_slot)
    _look_up(arriving, assignment.target_slot, wanted, source_slot)
    return Copies(layer.astype(np.int32), expert, source_slot.astype(np.int32), target_slot.astype(np.int32), arrives)


def _keys(
    layer: NDArray[np.integer], slot: NDArray[np.integer], expert: NDArray[np.int32], topology: Topology
) -> NDArray[np.int64]:
    """Return a number for each triple of layer, rank of the slot, and expert."""
    rank = topology.rank_of_slot[slot]
    return np.asarray((layer.astype(np.int64) * topology.num_ranks + rank) * topology.num_slots + expert)


def _look_up(
    keys: NDArray[np.int64], slots: NDArray[np.integer], wanted: NDArray[np.int64], found: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Put the first slot of each wanted key into `found`, where there is one; return where."""
    if keys.size == 0:
        return np.zeros(wanted.size, dtype=np.bool_)
    distinct, first = np.unique(keys, return_index=True)
    at = np.minimum(np.searchsorted(distinct, wanted), distinct.size - 1)
    known = np.asarray(distinct[at] == wanted)
    found[known] = slots[first[at[known]]]
    return known
