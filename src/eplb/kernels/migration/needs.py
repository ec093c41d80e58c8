"""Which rank needs an expert that it does not hold yet, and who holds it: one layer, as lists in flat arrays."""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Ints
from eplb.kernels.compiling import part


class Needs(NamedTuple):
    """The D transfers of a layer, target ranks ascending, and the ranks that can send."""

    experts: Ints
    """Expert of each transfer, [D]."""
    targets: Ints
    """Rank that receives it, [D]."""
    target_slots: Ints
    """The lowest slot of that rank that will hold it, [D]."""
    starts: Ints
    """First entry of each expert in `holders`, then their number, [E + 1]."""
    holders: Ints
    """Ranks that hold an expert, ascending within it, [P] at most."""
    holder_slots: Ints
    """The lowest slot in which each of them holds it, [P] at most."""


@part
def find_needs(before: Ints, after: Ints, offsets: Ints, num_experts: int) -> Needs:
    """Compare what the slots of a layer hold, [P], before and after; -1 holds nothing and asks for nothing."""
    num_ranks = offsets.size - 1
    seen = np.full(num_experts, -1, np.int64)
    starts = np.zeros(num_experts + 1, np.int64)
    for rank in range(num_ranks):
        for slot in range(offsets[rank], offsets[rank + 1]):
            expert = before[slot]
            if expert >= 0 and seen[expert] != rank:
                seen[expert] = rank
                starts[expert + 1] += 1
    for expert in range(num_experts):
        starts[expert + 1] += starts[expert]
    holders, holder_slots = np.empty(starts[num_experts], np.int64), np.empty(starts[num_experts], np.int64)
    experts, targets, target_slots = np.empty((3, after.size), np.int64)
    seen[:] = -1
    asked, filled = np.full(num_experts, -1, np.int64), np.zeros(num_experts, np.int64)
    size = 0
    for rank in range(num_ranks):
        for slot in range(offsets[rank], offsets[rank + 1]):
            expert = before[slot]
            if expert >= 0 and seen[expert] != rank:
                seen[expert] = rank
                entry = starts[expert] + filled[expert]
                holders[entry], holder_slots[entry] = rank, slot
                filled[expert] += 1
        for slot in range(offsets[rank], offsets[rank + 1]):
            expert = after[slot]
            if expert >= 0 and seen[expert] != rank and asked[expert] != rank:
                asked[expert] = rank
                experts[size], targets[size], target_slots[size] = expert, rank, slot
                size += 1
    return Needs(experts[:size], targets[:size], target_slots[:size], starts, holders, holder_slots)
