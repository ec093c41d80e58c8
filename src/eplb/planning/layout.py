"""The ranks that work and their slots, numbered without gaps, as the search over scenarios wants them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eplb.topology import Topology


class Layout(NamedTuple):
    """R working ranks with P slots; arrays are writable, as numba would compile anew for read-only ones."""

    ranks: NDArray[np.int64]
    """Ids of the ranks, ascending, [R]."""
    offsets: NDArray[np.int64]
    """First slot of each, then P, [R + 1]."""
    costs: NDArray[np.float64]
    """Time that each takes for one token (1 / speed), [R]."""
    nodes: NDArray[np.int64]
    """Node of each, renumbered 0, 1, ... where a node lost all its ranks, [R]."""
    kinds: NDArray[np.int64]
    """Equal for ranks that can trade places: of equal slots, speed and, with groups, node, [R]."""
    usable: NDArray[np.int64]
    """Their slots in the topology, [P]."""

    @property
    def num_slots(self) -> int:
        """Usable slots P."""
        return self.usable.size

    @property
    def num_nodes(self) -> int:
        """Nodes with a rank that works."""
        return int(self.nodes.max()) + 1


def layout_of(topology: Topology, groups: int) -> Layout:
    """Return the working ranks of `topology`."""
    ranks = np.flatnonzero(topology.alive)
    slots = topology.slot_counts[ranks]
    nodes = np.unique(topology.node_of_rank[ranks], return_inverse=True)[1].astype(np.int64)
    alike = np.stack([slots, topology.speeds[ranks], nodes if groups > 1 else np.zeros(ranks.size)])
    return Layout(
        ranks=ranks,
        offsets=np.concatenate([[0], np.cumsum(slots)]).astype(np.int64),
        costs=1.0 / topology.speeds[ranks],
        nodes=nodes,
        kinds=np.unique(alike, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64),
        usable=np.flatnonzero(topology.alive[topology.rank_of_slot]),
    )
