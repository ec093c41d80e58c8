"""From the slots in a file, and what is known beside it, to a `Placement`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eplb.engines.formats import Slots
from eplb.engines.hints import Hints
from eplb.engines.layers import chosen_layers
from eplb.engines.shared import SharedSlots, shared_slots
from eplb.errors import FileFormatError, OptionError, PlacementError
from eplb.placement import Placement
from eplb.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A placement, and the slots of the file that hold shared experts."""

    placement: Placement
    shared: SharedSlots | None


def placed(slots: Slots, hints: Hints) -> Placed:
    """Return the placement in `slots`.

    Raises
    ------
    OptionError
        If the number of ranks is said nowhere, or the layers are not those of the file.
    PlacementError
        If it is no sound placement.
    FileFormatError
        If its hash is not the one that the file says.
    """
    _check_hash(slots)
    routed, shared = routed_part(on_layers(slots, hints), hints)
    placement = Placement(
        physical_to_logical=routed.experts.astype(np.int32),
        topology=topology_of(routed, hints, shared),
        num_experts=routed.num_experts if routed.num_experts is not None else -1,
        layer_ids=routed.layer_ids,
    )
    return Placed(placement=placement, shared=shared)


def _check_hash(slots: Slots) -> None:
    if slots.plan_hash is None or slots.topology is None or slots.num_experts is None:
        return
    whole = Placement(
        physical_to_logical=slots.experts.astype(np.int32),
        topology=slots.topology,
        num_experts=slots.num_experts,
        layer_ids=slots.layer_ids,
    )
    if slots.plan_hash != whole.hash:
        raise FileFormatError("the content does not match its hash; the file was damaged or edited")


def on_layers(slots: Slots, hints: Hints) -> Slots:
    """Return the layers that are wanted, numbered as the model does."""
    rows, ids = chosen_layers(slots.layer_ids, hints.layers, slots.counted)
    return replace(slots, experts=slots.experts[rows], layer_ids=ids)


def routed_part(slots: Slots, hints: Hints) -> tuple[Slots, SharedSlots | None]:
    """Return the slots of routed experts, and where the shared ones stand."""
    num_experts = hints.num_experts if hints.num_experts is not None else slots.num_experts
    if slots.num_experts not in (None, num_experts):
        raise OptionError(f"num_experts: the file says {slots.num_experts} experts, got {num_experts}")
    slots = replace(slots, num_experts=num_experts)
    if not slots.shares_slots or num_experts is None:
        return slots, None
    num_ranks = _num_ranks(slots, hints)
    shared = shared_slots(slots.experts, num_ranks, num_experts)
    if shared is None:
        return slots, None
    if (slots.experts[0] >= num_experts).all():
        raise PlacementError(f"all ids are those of shared experts, from {num_experts} on; check the number of experts")
    return replace(slots, experts=_kept(slots.experts, shared)), shared


def _kept(experts: NDArray[np.int64], shared: SharedSlots) -> NDArray[np.int64]:
    return experts[:, shared.experts[0] < 0]


def topology_of(slots: Slots, hints: Hints, shared: SharedSlots | None = None) -> Topology:
    """Return the ranks that the slots belong to."""
    num_ranks = _num_ranks(slots, hints)
    if slots.topology is not None:
        return slots.topology
    if shared is not None:
        return Topology(num_ranks=num_ranks, slots_per_rank=shared.routed_slots_per_rank(), num_nodes=hints.num_nodes)
    num_slots = slots.experts.shape[1]
    if num_slots % num_ranks:
        raise PlacementError(f"{num_slots} slots cannot be shared equally by {num_ranks} ranks")
    return Topology(num_ranks=num_ranks, slots_per_rank=num_slots // num_ranks, num_nodes=hints.num_nodes)


def _num_ranks(slots: Slots, hints: Hints) -> int:
    said = slots.num_ranks if slots.topology is None else slots.topology.num_ranks
    if said is None:
        if hints.num_ranks is None:
            raise OptionError(
                "the file does not say how many ranks there are; say it: --ranks N, or Hints(num_ranks=N)"
            )
        return hints.num_ranks
    if hints.num_ranks not in (None, said):
        raise OptionError(f"num_ranks: the file has {said} ranks, got {hints.num_ranks}")
    return said
