"""What an engine asks of a placement before it can serve with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eplb.engines.layers import numbers_of
from eplb.engines.remarks import Remarks
from eplb.errors import PlacementError
from eplb.placement import Placement

MAX_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an engine asks of a placement.

    Parameters
    ----------
    engine : str
        Name of the engine.
    repeats_on_rank : bool, default True
        Whether a rank may hold an expert twice.
    fewest_ranks : int, default 1
        Ranks below which the engine does not place experts.
    in_order : bool, default False
        Whether experts stand in order of their ids, once each.
    """

    engine: str
    repeats_on_rank: bool = True
    fewest_ranks: int = 1
    in_order: bool = False

    def broken(self, placement: Placement) -> Iterator[str]:
        """Yield what the engine cannot do."""
        topology = placement.topology
        if topology.failed_ranks:
            failed = numbers_of(np.array(topology.failed_ranks))
            yield f"{self.engine} has no failed ranks: ranks {failed} hold nothing; plan for the ranks that work"
        if not isinstance(topology.slots_per_rank, int):
            low, high = topology.slot_counts.min(), topology.slot_counts.max()
            yield f"{self.engine} needs the same number of slots on every rank, got {low} to {high}"
        if topology.num_ranks < self.fewest_ranks:
            yield f"{self.engine} places experts over {self.fewest_ranks} ranks or more, got {topology.num_ranks}"
        if not self.repeats_on_rank and (repeated := repeats(placement)):
            yield f"{self.engine} cannot hold an expert twice on a rank: {repeated}"
        if self.in_order and not _in_order(placement):
            yield f"{self.engine} holds each expert once, in order of the ids; it takes no placement"

    def doubtful(self, placement: Placement) -> Iterator[str]:
        """Yield what the engine does not know of, or what wastes memory."""
        if placement.topology.rank_speeds is not None:
            yield f"{self.engine} knows no speeds of ranks: the plan relies on them, the engine does not"
        if self.repeats_on_rank and (repeated := repeats(placement)):
            yield f"an expert twice on a rank takes memory and splits nothing: {repeated}"

    def check(self, placement: Placement, remarks: Remarks) -> None:
        """Raise `PlacementError` with all that the engine cannot do; remark what it does not know of."""
        if broken := list(self.broken(placement)):
            raise PlacementError("; ".join(broken))
        for text in self.doubtful(placement):
            remarks.warn(text)


def repeats(placement: Placement) -> str:
    """Return where a rank holds an expert twice, as a text; empty if nowhere.

    Examples
    --------
    >>> from eplb import Topology
    >>> repeats(Placement(physical_to_logical=[[0, 1, 2, 2]], topology=Topology(num_ranks=2, slots_per_rank=2)))
    'layer 0, rank 1, expert 2'
    """
    slots = placement.physical_to_logical.astype(np.int64)
    layer, slot = np.nonzero(slots >= 0)
    keys = np.stack([layer, placement.topology.rank_of_slot[slot], slots[layer, slot]], axis=1)
    found, counts = np.unique(keys, axis=0, return_counts=True)
    twice = found[counts > 1]
    named = [f"layer {placement.layer_ids[i]}, rank {rank}, expert {e}" for i, rank, e in twice[:MAX_NAMED]]
    more = f"; and {len(twice) - MAX_NAMED} more" if len(twice) > MAX_NAMED else ""
    return "; ".join(named) + more


def _in_order(placement: Placement) -> bool:
    slots = placement.physical_to_logical
    return slots.shape[1] == placement.num_experts and bool((slots == np.arange(placement.num_experts)).all())
