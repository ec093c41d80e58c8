"""Asking a policy for placements, and keeping count of what they cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from eplb.errors import InputError, PlacementError
from eplb.placement import Placement
from eplb.replay.parts import RecordedTrace, part_of
from eplb.replay.policies import Policy, placed_in_order
from eplb.replay.recent import RecentWindows
from eplb.topology import Topology


class Planner:
    """A policy with the trace that it sees the past of; remembers the placement in force.

    Parameters
    ----------
    policy : Policy
        Who plans.
    trace : RecordedTrace
        What it sees, `history` windows at most.
    interval : int
        Windows from one plan to the next.
    topology : Topology
        The machine.
    max_moves, max_moves_per_rank : int or None
        What a replan is allowed to move.
    """

    def __init__(
        self,
        policy: Policy,
        trace: RecordedTrace,
        topology: Topology,
        history: int,
        interval: int,
        max_moves: int | None,
        max_moves_per_rank: int | None,
    ) -> None:
        self._policy, self._trace, self._topology = policy, trace, topology
        self._interval = interval
        self._max_moves, self._max_moves_per_rank = max_moves, max_moves_per_rank
        self._recent = RecentWindows(trace, history)
        self._in_order = placed_in_order(topology, trace.num_layers, trace.num_experts)
        self.placement: Placement | None = None
        self.first_moves = 0
        self.moves: list[int] = []
        self.received: list[int] = []
        self.seconds: list[float] = []

    @property
    def name(self) -> str:
        """What results call the policy."""
        return str(getattr(self._policy, "name", type(self._policy).__name__))

    @property
    def sees_future(self) -> bool:
        """Whether the policy is shown what it will be scored on."""
        return bool(getattr(self._policy, "sees_future", False))

    def replan(self, first: int, last: int) -> Placement:
        """Ask the policy for the placement of windows `first` to `last` - 1, showing it those before."""
        shown = part_of(self._trace, first, last) if self.sees_future else self._recent.before(first)
        max_moves, more = self._limits()
        more |= self._ahead(self._interval)
        start = time.perf_counter()
        try:
            placement = self._policy.place(shown, self._topology, self.placement, max_moves, **more)
            self.seconds.append(time.perf_counter() - start)
            self._check(placement)
        except InputError as exc:
            raise type(exc)(f"policy {self.name}, planning window {first}: {exc}") from exc
        self._count(placement)
        self.placement = placement
        return placement

    def _limits(self) -> tuple[int | None, dict[str, Any]]:
        if self.placement is None:
            return None, {}
        each_rank = getattr(self._policy, "limits_each_rank", False)
        return self._max_moves, {"max_moves_per_rank": self._max_moves_per_rank} if each_rank else {}

    def _ahead(self, num_windows: int) -> dict[str, Any]:
        return {"horizon": num_windows} if getattr(self._policy, "plans_ahead", False) else {}

    def _check(self, placement: Any) -> None:
        if not isinstance(placement, Placement):
            raise PlacementError(f"expected an eplb.Placement, got {type(placement).__name__}")
        expected = (self._trace.num_layers, self._trace.num_experts)
        if (placement.num_layers, placement.num_experts) != expected:
            raise PlacementError(
                f"expected {expected[0]} layers x {expected[1]} experts, "
                f"got {placement.num_layers} x {placement.num_experts}"
            )
        if placement.topology != self._topology:
            raise PlacementError("expected a placement on the topology that was given, got another")

    def _count(self, placement: Placement) -> None:
        if self.placement is None:
            self.first_moves = len(self._in_order.moves_to(placement))
            return
        if placement is self.placement:  # the same object: no need to compare
            moves_by_rank = np.zeros(1, dtype=np.int64)
        else:
            moves_by_rank = np.bincount(self.placement.moves_to(placement)[:, 1], minlength=1)
        self.moves.append(int(moves_by_rank.sum()))
        self.received.append(int(moves_by_rank.max()))
