"""The topology as the kernels want it, after checking that a sound plan exists."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eplb.errors import InfeasibleError, OptionError
from eplb.topology import Topology


class Machine(NamedTuple):
    """The ranks that work, as arguments of the kernels.

    All arrays are writable: numba would compile everything once more for read-only ones.
    """

    slot_offsets: NDArray[np.int64]
    ranks: NDArray[np.int64]
    costs: NDArray[np.float64]
    node_starts: NDArray[np.int64]
    nodes: NDArray[np.float64]

    @property
    def ranks_by_node(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """First slots, ranks, their costs, and the first rank of each node."""
        return self.slot_offsets, self.ranks, self.costs, self.node_starts

    @property
    def num_nodes(self) -> int:
        """Nodes that are planned on their own: 1 without groups."""
        return len(self.nodes)


def machine_for(topology: Topology, num_experts: int, groups: int) -> Machine:
    """Return the working ranks of `topology`, node after node, for a model of `num_experts` in `groups` groups.

    Raises
    ------
    InfeasibleError
        If the experts do not fit the slots, or the groups cannot be spread so that every node can fill its slots.
    OptionError
        If `groups` is no divisor of `num_experts`.
    """
    if topology.num_usable_slots < num_experts:
        raise InfeasibleError(
            f"{num_experts} experts do not fit {topology.num_usable_slots} usable slots; add slots_per_rank or ranks"
        )
    _check_groups(groups, num_experts)
    offsets = topology.slot_offsets.copy()
    alive = np.flatnonzero(topology.alive)
    node_ids = topology.node_of_rank[alive]
    if groups == 1 or (node_ids == node_ids[0]).all():
        whole = np.array([0, alive.size], dtype=np.int64)
        return Machine(offsets, alive, 1.0 / topology.speeds[alive], whole, np.zeros((1, 5)))
    ranks = alive[np.argsort(node_ids, kind="stable")]
    costs = 1.0 / topology.speeds[ranks]
    first = np.unique(topology.node_of_rank[ranks], return_index=True)[1]
    starts = np.append(first, ranks.size).astype(np.int64)
    nodes = _nodes(topology, ranks, starts, num_experts // groups, groups)
    return Machine(offsets, ranks, costs, starts, nodes)


def _check_groups(groups: int, num_experts: int) -> None:
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)) or groups < 1:
        raise OptionError(f"groups: expected an integer >= 1, got {groups!r}")
    if groups > num_experts:
        raise OptionError(f"groups: expected at most one group an expert ({num_experts}), got {groups}")
    if num_experts % groups:
        raise OptionError(
            f"groups: expected a divisor of the {num_experts} experts, got {groups}; groups=1 plans without"
        )


def _nodes(
    topology: Topology, ranks: NDArray[np.int64], starts: NDArray[np.int64], group_size: int, groups: int
) -> NDArray[np.float64]:
    """Return slots, ranks, least number of groups, total and fastest speed of each node, [N, 5]."""
    nodes = np.zeros((starts.size - 1, 5))
    for n in range(len(nodes)):
        mine = ranks[starts[n] : starts[n + 1]]
        speeds = topology.speeds[mine]
        nodes[n] = topology.slot_counts[mine].sum(), mine.size, 1, speeds.sum(), speeds.max()
    room = nodes[:, 0] // group_size
    if groups < len(nodes) or room.min() < 1 or room.sum() < groups:
        raise InfeasibleError(
            f"{groups} groups of {group_size} experts cannot be spread over {len(nodes)} nodes with "
            f"{nodes[:, 0].astype(int).tolist()} slots so that each keeps whole groups; use groups=1 or other slots"
        )
    forced = np.maximum(1, groups - (room.sum() - room))  # the other nodes have no room for more
    widest = np.maximum.reduceat(topology.slot_counts[ranks], starts[:-1])
    distinct = np.maximum(forced, np.minimum(room, -(-widest // group_size)))  # or a rank holds an expert twice
    nodes[:, 2] = distinct if distinct.sum() <= groups else forced
    return nodes
