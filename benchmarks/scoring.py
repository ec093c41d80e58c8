"""How good a plan is, judged from its slots alone: nothing that a planner says about its plan is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score of a plan.

    Parameters
    ----------
    balancedness : float
        Mean over layers of mean / largest rank load, even split.
    below_bound : float
        The same for the proven bound, less `balancedness`; 0 is proven optimal.
    duplicates : int
        Slots, over all layers, that hold an expert which their rank holds already.
    split_groups : int
        Pairs (layer, group) whose experts stand on more than one node, where the shape asks for groups.
    """

    balancedness: float
    below_bound: float
    duplicates: int
    split_groups: int


def score(slots: Any, loads: NDArray[np.float32], shape: Shape, bound: NDArray[np.float64]) -> Score:
    """Return the score of `slots` [L, P], the expert of each slot.

    Parameters
    ----------
    slots : tensor or array_like of int [L, P]
        The plan.
    loads : array [L, E]
        Tokens routed to each expert.
    shape : Shape
        Ranks, nodes and groups.
    bound : array [L]
        Balancedness that no plan of the layer exceeds.

    Raises
    ------
    ValueError
        If `slots` has another shape, an id out of range, or leaves an expert out.
    """
    slots = _checked(slots, shape)
    balance = balancedness_per_layer(slots, loads, shape).mean()
    return Score(
        balancedness=float(balance),
        below_bound=float(bound.mean() - balance),
        duplicates=_duplicates(slots, shape),
        split_groups=_split_groups(slots, shape),
    )


def balancedness_per_layer(slots: NDArray[np.int64], loads: NDArray[np.float32], shape: Shape) -> NDArray[np.float64]:
    """Return mean / largest rank load of each layer, [L]."""
    tokens = loads.astype(np.float64) / _counts(slots, shape.num_experts)
    slot_loads = np.take_along_axis(tokens, slots, axis=1)
    rank_loads = slot_loads.reshape(shape.num_layers, shape.num_ranks, -1).sum(axis=2)
    return np.asarray(rank_loads.mean(axis=1) / rank_loads.max(axis=1))


def _checked(slots: Any, shape: Shape) -> NDArray[np.int64]:
    array = np.asarray(slots.cpu() if hasattr(slots, "cpu") else slots)
    expected = (shape.num_layers, shape.num_slots)
    if array.shape != expected or array.dtype.kind not in "iu":
        raise ValueError(f"unsound plan: expected integers {list(expected)}, got {array.dtype} {list(array.shape)}")
    array = array.astype(np.int64)
    if array.min() < 0 or array.max() >= shape.num_experts:
        raise ValueError(f"unsound plan: expected ids 0 to {shape.num_experts - 1}, got {array.min()} to {array.max()}")
    missing = int((_counts(array, shape.num_experts) == 0).sum())
    if missing:
        raise ValueError(f"unsound plan: {missing} experts have no slot")
    return array


def _counts(slots: NDArray[np.int64], num_experts: int) -> NDArray[np.int64]:
    return np.stack([np.bincount(layer, minlength=num_experts) for layer in slots])


def _duplicates(slots: NDArray[np.int64], shape: Shape) -> int:
    by_rank = np.sort(slots.reshape(shape.num_layers, shape.num_ranks, -1), axis=2)
    return int((np.diff(by_rank, axis=2) == 0).sum())


def _split_groups(slots: NDArray[np.int64], shape: Shape) -> int:
    if shape.num_groups == 1:
        return 0
    group = slots // (shape.num_experts // shape.num_groups)
    node = np.arange(shape.num_slots) * shape.num_nodes // shape.num_slots
    pairs = [np.unique(layer * shape.num_nodes + node) // shape.num_nodes for layer in group]
    return int(sum((np.bincount(groups) > 1).sum() for groups in pairs))
