"""Slots that hold shared experts: they have no place in a `Placement`, and stay where they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eplb.errors import PlacementError
from eplb.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedSlots:
    """Where shared experts stand.

    Parameters
    ----------
    experts : array of int, [L, P]
        Id of the shared expert in each slot of the file, -1 in slots of routed experts.
    num_ranks : int
        Ranks that the P slots belong to, equally many each.
    """

    experts: NDArray[np.int64]
    num_ranks: int

    @property
    def num_slots(self) -> int:
        """Slots of a layer that hold shared experts."""
        return int((self.experts[0] >= 0).sum())

    def routed_slots_per_rank(self) -> list[int]:
        """Return how many slots of routed experts each rank has."""
        return [int(part) for part in (self.experts[0] < 0).reshape(self.num_ranks, -1).sum(axis=1)]

    def with_routed(self, placement: Placement) -> NDArray[np.int64]:
        """Return the experts of all slots, [L, P]: the placement's in order, the shared ones where they are.

        Raises
        ------
        PlacementError
            If the placement has other layers, or its ranks have another number of slots.
        """
        wanted = self.routed_slots_per_rank()
        if placement.num_layers != len(self.experts) or placement.topology.slot_counts.tolist() != wanted:
            raise PlacementError(
                f"expected {len(self.experts)} layers and {wanted[:8]} routed slots on the ranks, as in the map with "
                f"the shared experts; got {placement.num_layers} and {placement.topology.slot_counts[:8].tolist()}"
            )
        experts = self.experts.copy()
        experts[experts < 0] = placement.physical_to_logical.ravel()
        return np.asarray(experts)


def shared_slots(experts: NDArray[np.int64], num_ranks: int, num_experts: int) -> SharedSlots | None:
    """Return the slots with ids from `num_experts` on, None if there are none.

    Raises
    ------
    PlacementError
        If they are not the same slots in every layer: a rank would have another number of slots in each.

    Examples
    --------
    >>> found = shared_slots(np.array([[0, 1, 4, 2, 3, 4]]), num_ranks=2, num_experts=4)
    >>> found.experts.tolist(), found.routed_slots_per_rank()
    ([[-1, -1, 4, -1, -1, 4]], [2, 2])
    """
    is_shared = experts >= num_experts
    if not is_shared.any():
        return None
    if (is_shared != is_shared[0]).any():
        layer = int(np.argmax((is_shared != is_shared[0]).any(axis=1)))
        raise PlacementError(
            f"ids from {num_experts} on stand in other slots at index {layer} than in the first layer; shared experts "
            "are expected in the same slots of every layer, and routed ones below the number of experts"
        )
    return SharedSlots(experts=np.where(is_shared, experts, -1), num_ranks=num_ranks)
