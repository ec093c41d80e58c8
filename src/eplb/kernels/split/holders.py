"""Who holds an expert: the ranks of each expert, and the shared experts of each rank, as lists in flat arrays."""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Ints
from eplb.kernels.compiling import part


class Holders(NamedTuple):
    """The experts and ranks of one layer as a graph. An edge is a rank that holds an expert, however often."""

    starts: Ints
    """First edge of each expert, then their number, [E + 1]; ranks ascend within an expert."""
    rank_of: Ints
    """Rank of each edge, [P], of which the first ``starts[E]`` count."""
    expert_of: Ints
    """Expert of each edge, [P]."""
    edge_of_slot: Ints
    """Edge that each slot belongs to, [P]."""
    copies: Ints
    """Slots that each edge stands for, [P]."""
    shared: Ints
    """Experts that several ranks hold, ascending, [E], of which the first ``sizes[0]`` count."""
    sizes: Ints
    """How many experts are shared, [1]."""
    rank_starts: Ints
    """First entry of each rank in `rank_edges`, then their number, [R + 1]."""
    rank_edges: Ints
    """Edges of shared experts, rank after rank, [P]."""


@part
def no_holders(num_experts: int, num_slots: int, num_ranks: int) -> Holders:
    """Return room for the graph of a layer."""
    return Holders(
        np.empty(num_experts + 1, np.int64),
        np.empty(num_slots, np.int64),
        np.empty(num_slots, np.int64),
        np.empty(num_slots, np.int64),
        np.empty(num_slots, np.int64),
        np.empty(num_experts, np.int64),
        np.zeros(1, np.int64),
        np.empty(num_ranks + 1, np.int64),
        np.empty(num_slots, np.int64),
    )


@part
def find_holders(items: Ints, offsets: Ints, holders: Holders) -> None:
    """Fill `holders` for experts `items` [P] in slots that are numbered rank after rank, from ``offsets[r]`` on."""
    num_experts, num_ranks = holders.starts.size - 1, offsets.size - 1
    starts, shared, rank_edges = holders.starts, holders.shared, holders.rank_edges
    rank_of, expert_of, edge_of_slot, copies = holders.rank_of, holders.expert_of, holders.edge_of_slot, holders.copies
    last = np.full(num_experts, -1, np.int64)
    starts[:] = 0
    for rank in range(num_ranks):
        for slot in range(offsets[rank], offsets[rank + 1]):
            if last[items[slot]] != rank:
                last[items[slot]] = rank
                starts[items[slot] + 1] += 1
    num_shared = 0
    for expert in range(num_experts):
        if starts[expert + 1] > 1:
            shared[num_shared] = expert
            num_shared += 1
        starts[expert + 1] += starts[expert]
        last[expert] = -1
    holders.sizes[0] = num_shared
    filled = np.zeros(num_experts, np.int64)
    size = 0
    for rank in range(num_ranks):
        holders.rank_starts[rank] = size
        for slot in range(offsets[rank], offsets[rank + 1]):
            expert = items[slot]
            new = last[expert] != rank
            if new:
                last[expert] = rank
                filled[expert] += 1
            edge = starts[expert] + filled[expert] - 1
            edge_of_slot[slot] = edge
            if not new:
                copies[edge] += 1
                continue
            rank_of[edge], expert_of[edge], copies[edge] = rank, expert, 1
            if starts[expert + 1] - starts[expert] > 1:
                rank_edges[size] = edge
                size += 1
    holders.rank_starts[num_ranks] = size
