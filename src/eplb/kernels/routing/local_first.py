"""Who sends to which replica, when the near ones come first and no replica gets more than its quota."""

import numpy as np

from eplb.kernels.arrays import Ints
from eplb.kernels.compiling import kernel, part

OWN_RANK, OWN_NODE, ANYWHERE = range(3)


@kernel
def local_first(
    first: int,
    last: int,
    source_counts: Ints,
    cumulative: Ints,
    ranks: Ints,
    nodes: Ints,
    source: int,
    out: Ints,
) -> None:
    """Write the cumulative quotas of one source to `out` [E, X], for the experts `first` to `last` - 1.

    `source_counts` [R, E] are the tokens of each expert from each rank, `cumulative` [E, X] what each replica may take
    from all, `ranks` [E, X] where the replicas are, -1 where there is none, and `nodes` [R] the node of each rank.
    """
    num_ranks, width = source_counts.shape[0], ranks.shape[1]
    supply, demand = np.empty(num_ranks, dtype=np.int64), np.empty(width, dtype=np.int64)
    for expert in range(first, last):
        spent = np.int64(0)
        for rank in range(num_ranks):
            supply[rank] = source_counts[rank, expert]
        for j in range(width):
            out[expert, j] = demand[j] = 0
            if ranks[expert, j] >= 0:
                demand[j] = cumulative[expert, j] - spent
                spent = cumulative[expert, j]
        for reach in range(OWN_RANK, ANYWHERE + 1):
            _send(reach, expert, supply, demand, ranks, nodes, source, out)
        for j in range(1, width):
            out[expert, j] += out[expert, j - 1]


@part
def _send(
    reach: int, expert: int, supply: Ints, demand: Ints, ranks: Ints, nodes: Ints, source: int, out: Ints
) -> None:
    """Fill the replicas, first to last, from the sources within reach, first to last."""
    for j in range(demand.size):
        here = ranks[expert, j]
        for rank in range(supply.size):
            if demand[j] <= 0:
                break
            near = reach == ANYWHERE or rank == here or (reach == OWN_NODE and nodes[rank] == nodes[here])
            if near and supply[rank] > 0:
                tokens = min(supply[rank], demand[j])
                supply[rank] -= tokens
                demand[j] -= tokens
                if rank == source:
                    out[expert, j] += tokens
