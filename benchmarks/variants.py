"""The planner with one of its terms taken out, as policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from eplb import LoadTrace, Placement, Topology
from eplb.forecasting import Auto, DriftAware, Exponential, Forecaster
from eplb.forecasting.auto import CANDIDATES
from eplb.forecasting.means import Last, Mean
from eplb.planning.effort import EFFORTS
from eplb.planning.expected import plan_expected
from eplb.planning.moving import Moving
from eplb.planning.outlook import Assumptions, outlook_of

Windows = NDArray[np.float64]

FULL = "full (forecast auto)"
UNSHRUNK = tuple(pair for pair in CANDIDATES if pair[1] == 0 and pair != (1.0, 0.0))


def all_of(windows: Windows) -> Windows:
    """Return all windows [T, L, E]."""
    return windows


def mean_of(windows: Windows) -> Windows:
    """Return the mean of the windows as the only one, [1, L, E]."""
    return windows.mean(axis=0, keepdims=True)


def last_of(windows: Windows) -> Windows:
    """Return the last window alone, [1, L, E]."""
    return windows[-1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """`eplb.plan` with effort balanced, but for what is said here.

    Parameters
    ----------
    name : str
        What the tables call it.
    assumptions, forecaster, regrants
        As in `eplb.planning`; the defaults are those of `eplb.plan`.
    shown : callable
        What of the history is planned for.
    move_cost : float, optional
        As in `eplb.plan`.
    """

    name: str
    assumptions: Assumptions = field(default_factory=Assumptions)
    forecaster: Forecaster = field(default_factory=Auto)
    regrants: bool = True
    shown: Callable[[Windows], Windows] = all_of
    move_cost: float | None = None

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None
    ) -> Placement:
        """Return the plan for the window after `history`."""
        windows = self.shown(np.array(history.loads, dtype=np.float64))
        outlook = outlook_of(windows, self.forecaster, self.assumptions, cost_per_activated_slot=0.0)
        return plan_expected(
            outlook,
            topology,
            groups=1,
            previous=previous,
            moving=Moving(max_moves=max_moves, move_cost=self.move_cost),
            effort=EFFORTS["balanced"],
            seed=0,
            layer_ids=history.layer_ids,
            regrants=self.regrants,
        ).placement


def variants(move_cost: float | None) -> list[Variant]:
    """Return the full planner first, then each of the others."""
    found = [
        Variant(name=FULL),
        Variant(name="without variance", assumptions=Assumptions(spread=0.0)),
        Variant(name="without covariance", assumptions=Assumptions(together=False)),
        Variant(name="without recency", assumptions=Assumptions(recency=1.0)),
        Variant(name="without shrinkage", forecaster=Auto(candidates=UNSHRUNK)),
        Variant(name="without re-grants", regrants=False),
        Variant(name="without the recorded windows", assumptions=Assumptions(recorded_share=0.0)),
        Variant(name="without the forecast itself", assumptions=Assumptions(forecast_share=0.0)),
        Variant(name="the recorded windows alone", assumptions=Assumptions(recorded_share=1.0, forecast_share=0.0)),
        Variant(name="forecast last", forecaster=Last()),
        Variant(name="forecast mean", forecaster=Mean()),
        Variant(name="forecast exponential", forecaster=Exponential()),
        Variant(name="forecast drift", forecaster=DriftAware()),
        Variant(name="planned on the mean window", shown=mean_of),
        Variant(name="planned on the last window", shown=last_of),
    ]
    return [replace(variant, move_cost=move_cost) for variant in found]
