"""A policy whose placements are kept, so that one run of the planner can be scored in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eplb import LoadTrace, Placement, Topology
from eplb.replay import Policy


class Remembered:
    """Plans as `policy` does in the first replay, and hands out the same placements in every further one.

    Parameters
    ----------
    policy : Policy
        Who plans.

    Attributes
    ----------
    placements : list of Placement
        One for each plan.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._left: Iterator[Placement] | None = None
        self.name = str(getattr(policy, "name", type(policy).__name__))
        self.sees_future = bool(getattr(policy, "sees_future", False))
        self.limits_each_rank = bool(getattr(policy, "limits_each_rank", False))
        self.plans_ahead = bool(getattr(policy, "plans_ahead", False))
        self.placements: list[Placement] = []

    def again(self) -> Remembered:
        """Start over with the placements that were kept."""
        self._left = iter(self.placements)
        return self

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None, **more: Any
    ) -> Placement:
        """Return the next placement: a new one, or after `again` the one that was kept."""
        if self._left is not None:
            return next(self._left)
        self.placements.append(self._policy.place(history, topology, previous, max_moves, **more))
        return self.placements[-1]
