"""What two placements must share, so that weights can move from one to the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of, frozen
from eplb.errors import InfeasibleError, OptionError, PlacementError
from eplb.placement import Placement

MOST_BYTES = 2**40


def check_pair(old: Placement, new: Placement) -> None:
    """Raise `PlacementError` unless both place the same layers and experts on one machine.

    Speeds may differ, and which ranks failed.
    """
    for name, placement in (("old", old), ("new", new)):
        if not isinstance(placement, Placement):
            raise PlacementError(f"{name}: expected an eplb.Placement, got {type(placement).__name__}")
    if (old.num_layers, old.num_experts) != (new.num_layers, new.num_experts):
        raise PlacementError(
            f"new: expected {old.num_layers} layers x {old.num_experts} experts as in old, got "
            f"{new.num_layers} x {new.num_experts}; are both of one model?"
        )
    if not np.array_equal(old.layer_ids, new.layer_ids):
        index = int(np.argmax(old.layer_ids != new.layer_ids))
        raise PlacementError(
            f"new: expected layer {old.layer_ids[index]} at index {index} as in old, got layer {new.layer_ids[index]}"
        )
    before, after = old.topology, new.topology
    if before.num_ranks != after.num_ranks:
        raise PlacementError(
            f"new: expected {before.num_ranks} ranks as in old, got {after.num_ranks}; name lost ones in failed_ranks"
        )
    for what, ours, theirs in (
        ("slots on", before.slot_counts, after.slot_counts),
        ("as the node of", before.node_of_rank, after.node_of_rank),
    ):
        if not np.array_equal(ours, theirs):
            rank = int(np.argmax(ours != theirs))
            raise PlacementError(f"new: expected {ours[rank]} {what} rank {rank} as in old, got {theirs[rank]}")


def checked_bytes(expert_bytes: ArrayLike, num_layers: int) -> NDArray[np.int64]:
    """Return the bytes of one expert in each layer, [L], from one number or one a layer."""
    expected = f"expert_bytes: expected an integer of 1 to 2**40, or one a layer ({num_layers})"
    given: NDArray[Any] = array_of(expert_bytes, expected, OptionError)
    if given.dtype.kind not in "iu" or given.shape not in ((), (num_layers,)):
        raise OptionError(f"{expected}, got shape {given.shape} of dtype {given.dtype}")
    bad = (given < 1) | (given > MOST_BYTES)
    if bad.any():
        where = f" at index {int(np.argmax(bad))}" if given.ndim else ""
        raise OptionError(f"{expected}, got {given[bad][0]}{where}")
    return frozen(np.broadcast_to(given, num_layers).astype(np.int64))


def rows_that_last(old: Placement, alive: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return what the slots of `old` hold on the ranks [R] that are still alive, -1 elsewhere, [L, P]."""
    lasting = alive[old.topology.rank_of_slot]
    return np.where(lasting, old.physical_to_logical, np.int32(-1))


def lost_experts(rows: NDArray[np.int32], num_experts: int) -> NDArray[np.int64]:
    """Return layer and expert of each that no slot of `rows` [L, P] holds, [K, 2]."""
    held = np.zeros((len(rows), num_experts), dtype=np.bool_)
    layer, slot = np.nonzero(rows >= 0)
    held[layer, rows[layer, slot]] = True
    return np.argwhere(~held)


def check_sources(rows: NDArray[np.int32], old: Placement) -> None:
    """Raise `InfeasibleError` if an expert is lost: it cannot be sent by anyone."""
    lost = lost_experts(rows, old.num_experts)
    if len(lost):
        layer, expert = (int(i) for i in lost[0])
        raise InfeasibleError(
            f"old: expert {expert} of layer {old.layer_ids[layer]} has no replica on a rank that works in new "
            f"({len(lost)} such in all); start from eplb.migration.recover(old, lost_ranks).placement"
        )
