"""What a placement does to given loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import check_finite_nonnegative, frozen, loads_array, nonnegative
from eplb.certificate import ratio
from eplb.errors import LoadsError, OptionError, PlacementError
from eplb.placement import Placement
from eplb.trace import LoadTrace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Rank loads of a placement, window by window.

    Parameters
    ----------
    rank_loads : array [T, L, R]
        Tokens of each rank, and what activated slots cost, divided by its speed; 0 on failed ranks.
    mean_loads : array [T, L]
        Mean over the ranks that work, weighted by speed.
    activated_experts : array [T, L, R]
        Slots of each rank whose expert got any token: what paces memory-bound decoding.
    """

    rank_loads: NDArray[np.float64]
    mean_loads: NDArray[np.float64]
    activated_experts: NDArray[np.int64]

    @property
    def largest_loads(self) -> NDArray[np.float64]:
        """Largest rank load, [T, L]."""
        return np.asarray(self.rank_loads.max(axis=2))

    @property
    def balancedness(self) -> NDArray[np.float64]:
        """Sum over layers of mean, over sum over layers of largest rank load, [T]."""
        return ratio(self.mean_loads.sum(axis=1), self.largest_loads.sum(axis=1))

    @property
    def balancedness_per_layer(self) -> NDArray[np.float64]:
        """Mean over largest rank load, [T, L]."""
        return ratio(self.mean_loads, self.largest_loads)


def evaluate(
    placement: Placement,
    loads: ArrayLike | Sequence[Any] | LoadTrace,
    split: str = "even",
    *,
    cost_per_activated_slot: float = 0.0,
) -> Evaluation:
    """Return the rank loads that `placement` gives under `loads`.

    Parameters
    ----------
    placement : Placement
        L layers, E experts.
    loads : array_like [T, L, E] or [L, E], or LoadTrace
        Tokens routed to each expert, finite, >= 0.
    split : {"even"}
        How the tokens of an expert are shared by its replicas.
    cost_per_activated_slot : float, default 0
        Tokens that a slot adds to its rank in every window in which its expert gets any, as in `eplb.plan`.

    Raises
    ------
    LoadsError
        If the loads do not fit the placement, hold NaN, infinite or negative entries, or sum up beyond float64.
    PlacementError
        If `placement` is none.

    Notes
    -----
    O(T L P).

    Examples
    --------
    >>> from eplb import Placement, Topology, evaluate
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> evaluate(placement, [[4, 1, 3]]).rank_loads.tolist()
    [[[3.0, 5.0]]]
    """
    if split not in ("even", "weighted"):
        raise OptionError(f"split: expected 'even' or 'weighted', got {split!r}")
    if split == "weighted":
        raise NotImplementedError("split='weighted' is not built yet; use split='even'")
    if not isinstance(placement, Placement):
        raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
    array = loads.loads if isinstance(loads, LoadTrace) else loads_array(loads)
    check_finite_nonnegative(array)
    array = array[None] if array.ndim == 2 else array
    expected = (placement.num_layers, placement.num_experts)
    if array.shape[1:] != expected:
        raise LoadsError(f"loads: expected [..., {expected[0]} layers, {expected[1]} experts], got {array.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        evaluation = _even(placement, array, nonnegative(cost_per_activated_slot, "cost_per_activated_slot"))
        sums = np.stack([evaluation.mean_loads, evaluation.largest_loads]).sum(axis=2)
    if not np.isfinite(sums).all():
        raise LoadsError("loads: the sums of rank loads are beyond the range of float64; scale them down")
    return evaluation


def _even(placement: Placement, loads: NDArray[Any], cost: float) -> Evaluation:
    topology = placement.topology
    num_windows, num_layers, _ = loads.shape
    rank_loads = np.zeros((num_windows, num_layers, topology.num_ranks))
    activated = np.zeros(rank_loads.shape, dtype=np.int64)
    usable = topology.alive[topology.rank_of_slot]
    starts = topology.slot_offsets[:-1]
    speed = topology.speeds[topology.alive].cumsum()[-1]
    for layer in range(num_layers):
        experts = placement.physical_to_logical[layer]
        of_slots = np.where(usable, loads[:, layer, experts], 0)
        slot_loads = of_slots / np.where(usable, placement.replica_counts[layer, experts], 1)
        activated[:, layer] = np.add.reduceat((of_slots > 0).astype(np.int64), starts, axis=1)
        rank_loads[:, layer] = np.add.reduceat(slot_loads, starts, axis=1) + cost * activated[:, layer]
    rank_loads /= topology.speeds
    mean_loads = (loads.sum(axis=2, dtype=np.float64) + cost * activated.sum(axis=2)) / speed
    return Evaluation(rank_loads=frozen(rank_loads), mean_loads=frozen(mean_loads), activated_experts=frozen(activated))
