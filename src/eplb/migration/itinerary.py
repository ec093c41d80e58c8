"""What one rank does in each commit of a migration, and the memory that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eplb.migration.assignment import assign
from eplb.migration.checking import most_staged
from eplb.migration.commits import commits_between
from eplb.migration.report import Commit
from eplb.migration.shares import Share, shares_of
from eplb.migration.staging import ExpertRows
from eplb.migration.tables import most_replicas
from eplb.placement import Placement


class Itinerary:
    """The commits of one rank.

    Parameters
    ----------
    weights : sequence of L sequences of tensors [slots of the rank, ...]
    old, new : Placement
    rank : int
        Of the placements.
    max_staging_bytes : int, optional
        Limit of the staging buffer.

    Raises
    ------
    OptionError
        If the limit does not hold one expert.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[Any]],
        old: Placement,
        new: Placement,
        rank: int,
        max_staging_bytes: int | None,
    ) -> None:
        import torch

        changed = (old.physical_to_logical != new.physical_to_logical).any(axis=1)
        most = most_staged(weights, changed, max_staging_bytes)
        self._commits = commits_between(old, new, most)
        assignment = assign(self._commits.before, self._commits.after, new.topology)
        self._shares = shares_of(rank, self._commits, assignment, new.topology)
        self._rows = {layer: ExpertRows(weights[layer]) for layer in set(self._commits.layer.tolist())}
        self.most_replicas = most_replicas(self._commits, old)
        """The most replicas that an expert has before, on the way, or after."""
        self.device = weights[0][0].device
        needed = (self._shares[i].copies.num_staged * self.rows(i).expert_bytes for i in range(len(self)))
        with torch.inference_mode():
            self.staging: Any = torch.empty(max(needed, default=0), dtype=torch.uint8, device=self.device)
            """Where experts wait for the decision, bytes."""

    def __len__(self) -> int:
        return len(self._shares)

    def layer(self, number: int) -> int:
        """Return the layer of a commit."""
        return int(self._commits.layer[number])

    def slots(self, number: int) -> Any:
        """Return the expert of each slot of that layer after a commit, [P]."""
        return self._commits.after[number]

    def share(self, number: int) -> Share:
        """Return what the rank does in a commit."""
        return self._shares[number]

    def rows(self, number: int) -> ExpertRows:
        """Return the weights that a commit changes."""
        return self._rows[self.layer(number)]

    def told(self, number: int) -> Commit:
        """Return a commit as it is reported."""
        share, each = self.share(number), self.rows(number).moved_bytes
        sent, received = len(share.sends), len(share.receives)
        return Commit(
            layer=self.layer(number),
            number=number,
            num_sent=sent,
            num_received=received,
            bytes_sent=sent * each,
            bytes_received=received * each,
        )
