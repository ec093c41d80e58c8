"""The planner of eplb as a policy: it starts from what is in force, and moves no more than it may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eplb.forecasting import Forecaster
from eplb.placement import Placement
from eplb.planning import plan
from eplb.topology import Topology
from eplb.trace import LoadTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class EplbPolicy:
    """`eplb.plan` on the history, from the placement in force and within the budget of moves.

    Parameters
    ----------
    forecast : str or Forecaster, default "auto"
        What is expected of the next window, as in `eplb.plan`.
    move_cost : float, optional
        As in `eplb.plan`; 0 moves for any gain.
    cost_per_activated_slot : float, default 0
        As in `eplb.plan`.
    groups, effort, seed, split
        As in `eplb.plan`.
    name : str, default "eplb"
        What results call it.
    """

    limits_each_rank: ClassVar[bool] = True
    plans_ahead: ClassVar[bool] = True

    forecast: str | Forecaster = "auto"
    move_cost: float | None = None
    cost_per_activated_slot: float = 0.0
    groups: int = 1
    effort: str = "balanced"
    seed: int = 0
    split: str = "even"
    name: str = "eplb"

    def place(
        self,
        history: LoadTrace,
        topology: Topology,
        previous: Placement | None,
        max_moves: int | None,
        *,
        max_moves_per_rank: int | None = None,
        horizon: float = 1.0,
    ) -> Placement:
        """Return the plan for the windows after `history`."""
        return plan(
            history,
            topology,
            groups=self.groups,
            previous=previous,
            max_moves=max_moves,
            max_moves_per_rank=max_moves_per_rank,
            horizon=horizon,
            move_cost=self.move_cost,
            cost_per_activated_slot=self.cost_per_activated_slot,
            forecast=self.forecast,
            split=self.split,
            effort=self.effort,
            seed=self.seed,
        ).placement
