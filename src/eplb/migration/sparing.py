"""Which replicas are given up for experts that were lost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eplb.topology import Topology


class Reload(NamedTuple):
    """An expert that no rank holds any more, and the slot it is to be loaded into."""

    layer: int
    """Index of the layer."""
    expert: int
    rank: int
    slot: int
    """Counts over all ranks."""


def place(
    rows: NDArray[np.int32], lost: NDArray[np.int64], weights: NDArray[np.float64], topology: Topology
) -> tuple[Reload, ...]:
    """Put each lost expert into the slot of a replica that can be spared, in place."""
    ranks = topology.rank_of_slot
    in_all = np.zeros(topology.num_ranks, dtype=np.int64)
    reloads = []
    for layer in np.unique(lost[:, 0]):
        row, in_layer = rows[layer], np.zeros_like(in_all)
        for expert in lost[lost[:, 0] == layer, 1]:
            slot = _spare_slot(row, weights[layer], ranks, in_layer, in_all)
            row[slot] = expert
            in_layer[ranks[slot]] += 1
            in_all[ranks[slot]] += 1
            reloads.append(Reload(int(layer), int(expert), int(ranks[slot]), slot))
    return tuple(reloads)


def _spare_slot(
    row: NDArray[np.int32],
    weights: NDArray[np.float64],
    ranks: NDArray[np.int64],
    in_layer: NDArray[np.int64],
    in_all: NDArray[np.int64],
) -> int:
    """Return the slot of the replica that can best be spared; there is one, as there are slots for all experts."""
    counts = np.bincount(row[row >= 0], minlength=weights.size)
    slots = np.flatnonzero((row >= 0) & (counts[row] > 1))
    experts, holders = row[slots], ranks[slots]
    _, pair, copies = np.unique(holders * weights.size + experts, return_inverse=True, return_counts=True)
    load_left = weights[experts] / (counts[experts] - 1)
    ties = (slots, in_all[holders], in_layer[holders], copies[pair] == 1, -counts[experts])
    return int(slots[np.lexsort((*ties, load_left))[0]])
