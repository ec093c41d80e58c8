"""What one rank does in a commit: whom it sends what, what it gets, and the copies inside it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from eplb.migration.assignment import Assignment
from eplb.migration.commits import Commits
from eplb.migration.copying import LocalCopies, local_copies
from eplb.topology import Topology


class Crossing(NamedTuple):
    """An expert that crosses between this rank and a peer."""

    round: int
    expert: int
    peer: int
    """Rank of the topology."""
    is_send: bool
    place: int
    """Slot of this rank that it is sent from, or row of staging that it comes to."""


class Share(NamedTuple):
    """What one rank does in one commit."""

    crossings: list[Crossing]
    """By round; in each, what is sent stands before what comes."""
    copies: LocalCopies

    @property
    def sends(self) -> list[Crossing]:
        """What is sent, in order."""
        return [crossing for crossing in self.crossings if crossing.is_send]

    @property
    def receives(self) -> list[Crossing]:
        """What comes, in order of the rows of staging."""
        return [crossing for crossing in self.crossings if not crossing.is_send]


def shares_of(rank: int, commits: Commits, assignment: Assignment, topology: Topology) -> list[Share]:
    """Return what `rank` does in each commit."""
    mine = np.flatnonzero((assignment.source_rank == rank) | (assignment.target_rank == rank))
    ends = np.searchsorted(assignment.row[mine], np.arange(len(commits.layer) + 1))
    slots = slice(*topology.slot_offsets[rank : rank + 2].tolist())
    shares = []
    for number, (start, end) in enumerate(pairwise(ends)):
        crossings = _crossings(rank, mine[start:end].tolist(), assignment, slots.start)
        arrived = [crossing.expert for crossing in crossings if not crossing.is_send]
        copies = local_copies(commits.before[number, slots], commits.after[number, slots], arrived)
        shares.append(Share(crossings, copies))
    return shares


def _crossings(rank: int, transfers: list[int], assignment: Assignment, first_slot: int) -> list[Crossing]:
    sends: list[Crossing] = []
    receives: list[Crossing] = []
    for transfer in transfers:
        turn, expert, source, target = (
            int(column[transfer])
            for column in (assignment.round, assignment.expert, assignment.source_rank, assignment.target_rank)
        )
        if source == rank:
            slot = int(assignment.source_slot[transfer]) - first_slot
            sends.append(Crossing(turn, expert, target, True, slot))
        else:
            receives.append(Crossing(turn, expert, source, False, len(receives)))
    return sorted([*sends, *receives], key=lambda crossing: (crossing.round, not crossing.is_send))
