"""Who sends which expert to whom, and in which round: arrays in, arrays out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eplb.errors import PlacementError
from eplb.topology import Topology

LAYERS_WORTH_A_THREAD = 4


class Assignment(NamedTuple):
    """M transfers, ordered by row, then round, then source rank. All [M] but the last; slots count over all ranks."""

    row: NDArray[np.int32]
    """Row of the slots that were compared."""
    expert: NDArray[np.int32]
    source_rank: NDArray[np.int32]
    target_rank: NDArray[np.int32]
    source_slot: NDArray[np.int32]
    """The lowest slot in which the source holds the expert before."""
    target_slot: NDArray[np.int32]
    """The lowest slot in which the target holds the expert after."""
    round: NDArray[np.int32]
    """In a round a rank sends at most one expert and receives at most one; counts from 0 in each row."""
    num_rounds: NDArray[np.int32]
    """Rounds of each row, [C]: the most that one rank sends, or that one receives."""


def assign(before: NDArray[np.int32], after: NDArray[np.int32], topology: Topology) -> Assignment:
    """Return one transfer for each pair (rank, expert) of a row that is in `after` and was not in `before`.

    Parameters
    ----------
    before, after : array of int [C, P]
        Expert in each slot of `topology`, before and after; -1 in slots that hold nothing, which neither send nor
        receive.
    topology : Topology
        The ranks that the slots belong to, and their nodes.

    Returns
    -------
    Assignment
        Of all choices of sources, one with, in order, the fewest sends between nodes of the rank that has most of them,
        the fewest sends of the rank that has most, and the fewest sends between nodes. Rounds are as few as can be.

    Raises
    ------
    PlacementError
        If an expert is needed that no slot of its row held before.

    Examples
    --------
    >>> import numpy as np
    >>> from eplb import Topology
    >>> topology = Topology(num_ranks=3, slots_per_rank=2)
    >>> found = assign(np.array([[0, 1, 2, 3, 0, 2]]), np.array([[0, 3, 2, 1, 3, 3]]), topology)
    >>> for expert, source, target, number in zip(found.expert, found.source_rank, found.target_rank, found.round):
    ...     print(f"round {number}: rank {source} sends expert {expert} to rank {target}")
    round 0: rank 0 sends expert 1 to rank 1
    round 0: rank 1 sends expert 3 to rank 0
    round 1: rank 1 sends expert 3 to rank 2
    """
    from eplb.kernels.migration.layers import NUM_COLUMNS, assign_layers
    from eplb.kernels.threads import over_layers

    slots = (before.astype(np.int64), after.astype(np.int64))
    machine = (topology.slot_offsets.copy(), topology.node_of_rank.copy())
    num_rows = len(before)
    num_experts = 1 + int(max(s.max(initial=-1) for s in slots))
    columns = np.empty((NUM_COLUMNS, *before.shape), dtype=np.int32)
    num_transfers, num_rounds, missing = np.empty((3, num_rows), dtype=np.int32)
    args = (*slots, *machine, num_experts, columns, num_transfers, num_rounds, missing)
    over_layers(assign_layers, num_rows, args, LAYERS_WORTH_A_THREAD)
    if (missing >= 0).any():
        bad = int(np.argmax(missing >= 0))
        raise PlacementError(
            f"before: no rank holds expert {missing[bad]} of row {bad}, which `after` needs; load it again first"
        )
    counted = np.arange(before.shape[1]) < num_transfers[:, None]
    expert, source_rank, target_rank, source_slot, target_slot, number = columns[:, counted]
    row = np.repeat(np.arange(num_rows, dtype=np.int32), num_transfers)
    return Assignment(row, expert, source_rank, target_rank, source_slot, target_slot, number, num_rounds)
