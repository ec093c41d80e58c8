"""Which rows the slots of a layer pass through: one commit where staging allows, else several that keep every expert.

Legend: C commits, P slots, R ranks.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eplb.migration.copying import local_copies
from eplb.placement import Placement
from eplb.topology import Topology


class Commits(NamedTuple):
    """The commits of a migration, in order."""

    layer: NDArray[np.int32]
    """Place of the layer, [C]."""
    before: NDArray[np.int32]
    """Expert of each slot of that layer before the commit, [C, P]."""
    after: NDArray[np.int32]
    """The same after it, [C, P]."""


def commits_between(old: Placement, new: Placement, most: NDArray[np.int64] | None = None) -> Commits:
    """Return the commits that lead from `old` to `new`, layer by layer.

    Parameters
    ----------
    old, new : Placement
        Of the same layers, experts, ranks and slots.
    most : array of int [L], optional
        Experts that the staging of a rank holds in each layer, >= 1 where it changes. Default: as many as it takes.
    """
    layers: list[int] = []
    rows: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    for layer in np.flatnonzero((old.physical_to_logical != new.physical_to_logical).any(axis=1)).tolist():
        before, after = old.physical_to_logical[layer], new.physical_to_logical[layer]
        path = [after] if most is None else path_of(before, after, new.topology, int(most[layer]))
        layers += [layer] * len(path)
        rows += zip([before, *path], path, strict=False)
    shape = (len(rows), old.topology.num_slots)
    befores, afters = (np.array([row[side] for row in rows], dtype=np.int32).reshape(shape) for side in (0, 1))
    return Commits(np.array(layers, dtype=np.int32), befores, afters)


def path_of(
    before: NDArray[np.int32], after: NDArray[np.int32], topology: Topology, most: int
) -> list[NDArray[np.int32]]:
    """Return the rows [P] after each commit of a layer; no rank stages more than `most` experts in any of them.

    Every row holds every expert, an expert crosses to a rank once, and the last row is `after`.

    Examples
    --------
    Two ranks exchange two experts. An expert a rank: first one pair changes ranks, then the other.

    >>> import numpy as np
    >>> from eplb import Topology
    >>> topology = Topology(num_ranks=2, slots_per_rank=2)
    >>> before, after = np.array([0, 1, 2, 3]), np.array([2, 3, 0, 1])
    >>> [row.tolist() for row in path_of(before, after, topology, most=2)]
    [[2, 3, 0, 1]]
    >>> [row.tolist() for row in path_of(before, after, topology, most=1)]
    [[2, 1, 0, 3], [2, 3, 0, 1]]
    """
    if all(_fits(before[mine], after[mine], most) for mine in _ranks(topology)):
        return [after]
    layer = _Layer(before, after, topology)
    path = []
    while any(layer.pending):
        layer.commit(most)
        path.append(np.array(layer.slots, dtype=np.int32))
    return path if np.array_equal(layer.slots, after) else [*path, after]


def _ranks(topology: Topology) -> list[slice]:
    """Return the slots of each rank."""
    offsets = topology.slot_offsets.tolist()
    return [slice(*pair) for pair in pairwise(offsets)]


def _fits(before: NDArray[np.int32], after: NDArray[np.int32], most: int) -> bool:
    arrived = gains(before, after)
    return len(arrived) < most or (len(arrived) == most and local_copies(before, after, arrived).num_staged <= most)


def gains(before: NDArray[np.int32], after: NDArray[np.int32]) -> list[int]:
    """Return the experts that are in slots `after` and in none `before`, ascending."""
    return sorted(set(after.tolist()) - set(before.tolist()) - {-1})


class _Op(NamedTuple):
    """A rank gains an expert into a slot, and drops what was there."""

    rank: int
    slot: int
    gain: int
    drop: int


class _Layer:
    """A layer on its way: what each slot holds, and which experts each rank still lacks."""

    def __init__(self, before: NDArray[np.int32], after: NDArray[np.int32], topology: Topology) -> None:
        self.slots: list[int] = before.tolist()
        self._after: list[int] = after.tolist()
        self._ranks = _ranks(topology)
        self._wanted = [set(self._after[mine]) for mine in self._ranks]
        self._copies = Counter(self.slots)
        self.pending = [set(gains(before[mine], after[mine])) for mine in self._ranks]

    def commit(self, most: int) -> None:
        """Let ranks gain what they lack, at most `most` experts each."""
        free = [most] * len(self._ranks)
        for rank, lacking in enumerate(self.pending):
            for gain in sorted(lacking):
                if free[rank] and gain in lacking:
                    for op in self._chain(rank, gain, free):
                        free[op.rank] -= 1

    def _chain(self, rank: int, gain: int, free: list[int]) -> list[_Op]:
        """Let a rank gain an expert; where that drops a last copy, let a rank that lacks it gain it too, and so on.

        If all of those have no room in this commit, the chain is cut to the circle that closes at one of them, or
        undone if there is none. The first chain of a commit always succeeds: then only the chain itself takes room.
        """
        ops: list[_Op] = []
        while True:
            ops.append(self._gain(rank, gain))
            gain = ops[-1].drop
            if self._copies[gain]:
                return ops
            takers = [taker for taker, lacking in enumerate(self.pending) if gain in lacking]
            taken = Counter(op.rank for op in ops)
            rank = next((taker for taker in takers if taken[taker] < free[taker]), -1)
            if rank < 0:
                return self._closed(ops, gain, takers)

    def _closed(self, ops: list[_Op], gain: int, takers: list[int]) -> list[_Op]:
        """Cut a chain to the circle in which one of `takers` gains the last expert that was dropped."""
        start = next((i for i in reversed(range(len(ops))) if ops[i].rank in takers), len(ops) - 1)
        for op in reversed(ops[: start + 1]):
            self._undo(op)
        if ops[start].rank not in takers:
            return []
        first = ops[start]._replace(gain=gain)
        self._do(first)
        return [first, *ops[start + 1 :]]

    def _gain(self, rank: int, gain: int) -> _Op:
        op = _Op(rank, *self._place(rank, gain))
        self._do(op)
        return op

    def _place(self, rank: int, gain: int) -> tuple[int, int, int]:
        """Return slot, gained and dropped expert; a drop that leaves a copy, and the final slot, if possible."""
        mine = self._ranks[rank]
        here = Counter(self.slots[mine])
        choices = [
            (self._copies[held] < 2, self._after[slot] != gain, slot)
            for slot, held in enumerate(self.slots[mine], start=mine.start)
            if held not in self._wanted[rank] or here[held] > 1
        ]
        slot = min(choices)[2]
        return slot, gain, self.slots[slot]

    def _do(self, op: _Op) -> None:
        self.slots[op.slot] = op.gain
        self._copies[op.gain] += 1
        self._copies[op.drop] -= 1
        self.pending[op.rank].remove(op.gain)

    def _undo(self, op: _Op) -> None:
        self.slots[op.slot] = op.drop
        self._copies[op.gain] -= 1
        self._copies[op.drop] += 1
        self.pending[op.rank].add(op.gain)
