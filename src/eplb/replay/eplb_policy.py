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
    groups, effort, seed
        As in `eplb.plan`.
    name : str, default "eplb"
        What results call it.
    """

    limits_each_rank: ClassVar[bool] = True

    forecast: str | Forecaster = "auto"
    groups: int = 1
    effort: str = "balanced"
    seed: int = 0
    name: str = "eplb"

    def place(
        self,
        history: LoadTrace,
        topology: Topology,
        previous: Placement | None,
        max_moves: int | None,
        *,
        max_moves_per_rank: int | None = None,
    ) -> Placement:
        """Return the plan for the windows after `history`."""
        return plan(
            history,
            topology,
            groups=self.groups,
            previous=previous,
            max_moves=max_moves,
            max_moves_per_rank=max_moves_per_rank,
            forecast=self.forecast,
            effort=self.effort,
            seed=self.seed,
        ).placement
