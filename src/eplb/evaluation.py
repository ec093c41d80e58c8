"""What a placement does to given loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import check_finite_nonnegative, frozen, loads_array, nonnegative
from eplb.certificate import ratio
from eplb.dispatch.splitting import solve_split
from eplb.dispatch.weights import checked_weights
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
    split: str | ArrayLike = "even",
    *,
    cost_per_activated_slot: float = 0.0,
    whole_tokens: bool = False,
) -> Evaluation:
    """Return the rank loads that `placement` gives under `loads`.

    Parameters
    ----------
    placement : Placement
        L layers, E experts.
    loads : array_like [T, L, E] or [L, E], or LoadTrace
        Tokens routed to each expert, finite, >= 0.
    split : {"even", "weighted"} or array_like [L, P] or [T, L, P], default "even"
        How the tokens of an expert are shared by its replicas: all alike; by `eplb.split` of each window, which is the
        best there is; or by these weights.
    cost_per_activated_slot : float, default 0
        Tokens that a slot adds to its rank in every window in which its expert gets any, as in `eplb.plan`.
    whole_tokens : bool, default False
        With "weighted": no token is shared by replicas; `loads` must be integers.

    Raises
    ------
    LoadsError
        If the loads do not fit the placement, hold NaN, infinite or negative entries, or sum up beyond float64.
    OptionError
        If the split is none of these, or weights do not fit the placement or the loads.
    PlacementError
        If `placement` is none.

    Notes
    -----
    O(T L P), and what `eplb.split` takes.

    Examples
    --------
    >>> from eplb import Placement, Topology, evaluate
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> evaluate(placement, [[4, 1, 3]]).rank_loads.tolist()
    [[[3.0, 5.0]]]
    >>> evaluate(placement, [[4, 1, 3]], split="weighted").rank_loads.tolist()
    [[[4.0, 4.0]]]
    """
    named = isinstance(split, str)
    if named and split not in ("even", "weighted"):
        raise OptionError(f"split: expected 'even', 'weighted' or weights [L, P], got {split!r}")
    if whole_tokens and not (named and split == "weighted"):
        raise OptionError("whole_tokens: expected split='weighted' with it")
    if not isinstance(placement, Placement):
        raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
    array = loads.loads if isinstance(loads, LoadTrace) else loads_array(loads)
    check_finite_nonnegative(array)
    array = array[None] if array.ndim == 2 else array
    expected = (placement.num_layers, placement.num_experts)
    if array.shape[1:] != expected:
        raise LoadsError(f"loads: expected [..., {expected[0]} layers, {expected[1]} experts], got {array.shape}")
    cost = nonnegative(cost_per_activated_slot, "cost_per_activated_slot")
    with np.errstate(over="ignore", invalid="ignore"):
        activated = _activated(placement, array)
        fixed = cost * activated.astype(np.float64)
        if not np.isfinite(fixed.sum()):
            raise OptionError("cost_per_activated_slot: too large; its sum over slots is beyond float64")
        slot_loads = _slot_loads(placement, array, split, fixed, whole_tokens)
        evaluation = _summed(placement, array, slot_loads, cost, activated)
        sums = np.stack([evaluation.mean_loads, evaluation.largest_loads]).sum(axis=2)
    if not np.isfinite(sums).all():
        raise LoadsError("loads: the sums of rank loads are beyond the range of float64; scale them down")
    return evaluation


def _activated(placement: Placement, loads: NDArray[Any]) -> NDArray[np.int64]:
    """Return the slots of each rank whose expert got any token, [T, L, R]."""
    topology = placement.topology
    activated = np.zeros((*loads.shape[:2], topology.num_ranks), dtype=np.int64)
    usable = topology.alive[topology.rank_of_slot]
    for layer, experts in enumerate(placement.physical_to_logical):
        seen = (usable & (loads[:, layer, experts] > 0)).astype(np.int64)
        activated[:, layer] = np.add.reduceat(seen, topology.slot_offsets[:-1], axis=1)
    return activated


def _slot_loads(
    placement: Placement, loads: NDArray[Any], split: str | ArrayLike, fixed: NDArray[np.float64], whole: bool
) -> NDArray[np.float64]:
    """Return the tokens of each slot, [T, L, P]; 0 on failed ranks."""
    slots = placement.physical_to_logical
    held, layers = slots >= 0, np.arange(len(slots))[:, None]
    tokens = np.where(held, loads[:, layers, slots], 0)
    if not isinstance(split, str):
        weights = checked_weights(placement, split, "split")
        if weights.ndim == 3 and len(weights) != len(loads):
            raise OptionError(f"split: expected weights of {len(loads)} windows, got {len(weights)}")
        return np.asarray(tokens * weights)
    if split == "weighted":
        found = solve_split(placement, loads, fixed_costs=fixed, whole_tokens=whole)
        return np.asarray(tokens * found.weights if found.tokens is None else found.tokens.astype(np.float64))
    return np.asarray(tokens / np.where(held, placement.replica_counts[layers, slots], 1))


def _summed(
    placement: Placement,
    loads: NDArray[Any],
    slot_loads: NDArray[np.float64],
    cost: float,
    activated: NDArray[np.int64],
) -> Evaluation:
    topology = placement.topology
    rank_loads = np.add.reduceat(slot_loads, topology.slot_offsets[:-1], axis=2) + cost * activated
    rank_loads /= topology.speeds
    speed = topology.speeds[topology.alive].cumsum()[-1]
    mean_loads = (loads.sum(axis=2, dtype=np.float64) + cost * activated.sum(axis=2)) / speed
    return Evaluation(rank_loads=frozen(rank_loads), mean_loads=frozen(mean_loads), activated_experts=frozen(activated))
