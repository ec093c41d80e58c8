"""Settings on a recorded trace, window by window: what is chosen on some windows and scored on later ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.advising.setting import Setting
from eplb.advising.trial import policy_of
from eplb.errors import OptionError
from eplb.placement import Placement
from eplb.planning import plan
from eplb.replay import Policy, RecordedTrace, replay
from eplb.replay.cost import CostModel
from eplb.topology import Topology
from eplb.trace import LoadTrace

FEWEST_WINDOWS = 4
MOST_FOLDS = 4
MOST_UNSCORED = 8
UNSCORED_SHARE, CHOOSING_SHARE = 1 / 6, 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretches:
    """Which windows are only looked at, which are chosen on first, and which are scored.

    Parameters
    ----------
    start : int
        The first window that is scored at all; those before it are history.
    folds : tuple of (int, int)
        First window of each held-out part, and the window after its last. A part is scored with what was chosen on the
        windows from `start` to its first; the parts follow each other to the end of the trace.
    """

    start: int
    folds: tuple[tuple[int, int], ...]

    @property
    def held_out(self) -> int:
        """First window of the first part."""
        return self.folds[0][0]

    @property
    def end(self) -> int:
        """The window after the last."""
        return self.folds[-1][1]


def stretches_of(num_windows: int) -> Stretches:
    """Return how a trace of `num_windows` is divided.

    Raises
    ------
    OptionError
        If there are too few windows.

    Examples
    --------
    >>> stretches_of(96)
    Stretches(start=8, folds=((37, 51), (51, 66), (66, 81), (81, 96)))
    >>> stretches_of(4)
    Stretches(start=1, folds=((2, 3), (3, 4)))
    """
    if num_windows < FEWEST_WINDOWS:
        raise OptionError(
            f"trace: expected at least {FEWEST_WINDOWS} windows to backtest: one to plan from, one to choose on and "
            f"two to score; got {num_windows}; record more, or make windows of fewer steps"
        )
    start = int(np.clip(num_windows * UNSCORED_SHARE, 1, MOST_UNSCORED))
    first = start + max(1, int((num_windows - start) * CHOOSING_SHARE))
    num_folds = min(MOST_FOLDS, num_windows - first)
    edges = [first + (num_windows - first) * fold // num_folds for fold in range(num_folds + 1)]
    return Stretches(start=start, folds=tuple(pairwise(edges)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A setting on the windows of a trace from `first` on.

    Parameters
    ----------
    setting : Setting
        What ran.
    first : int
        First window that was scored.
    step_seconds, stall_seconds, moved_bytes : array [T']
        As in `eplb.replay.cost.ReplayCost`.
    balancedness : array [T']
        Of each window.
    planning_seconds : float
        Median time of a plan here; the one thing that a clock decides.
    """

    setting: Setting
    first: int
    step_seconds: NDArray[np.float64]
    stall_seconds: NDArray[np.float64]
    moved_bytes: NDArray[np.float64]
    balancedness: NDArray[np.float64]
    planning_seconds: float

    def mean_seconds(self, first: int, last: int) -> float:
        """Return the mean time of a step, stalls included, over windows `first` to `last` - 1 of the trace."""
        return float((self.step_seconds + self.stall_seconds)[first - self.first : last - self.first].mean())

    def mean_of(self, values: NDArray[np.float64], first: int, last: int) -> float:
        """Return the mean of `values`, one a scored window, over windows `first` to `last` - 1 of the trace."""
        return float(values[first - self.first : last - self.first].mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadPolicy:
    """Spare slots without any knowledge of loads: a plan for equal ones, which then stays.

    What a plan gains beyond this, it gains by what it knows.
    """

    name: str = "spread"

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None
    ) -> Placement:
        """Return what is in force, or the plan for equal loads."""
        if previous is not None:
            return previous
        return plan(np.ones(history.loads.shape[1:]), topology, effort="fast").placement


@dataclass(slots=True, kw_only=True)
class Backtest:
    """Runs settings on one trace, each once.

    Parameters
    ----------
    trace : LoadTrace, TraceStore, or what hands out parts as they do
        T windows.
    cost : CostModel
        What steps and moves take.
    stretches : Stretches
        How its windows are divided.
    progress : callable, optional
        Called with the number of runs so far, after each.
    """

    trace: RecordedTrace
    cost: CostModel
    stretches: Stretches
    progress: Callable[[int], None] | None = None
    _runs: dict[tuple[Any, ...], Run] = field(default_factory=dict, init=False)

    def run(self, setting: Setting, first: int | None = None) -> Run:
        """Return what `setting` does from window `first` on; default: from the start of what is scored."""
        return self._once(setting, policy_of(setting), first)

    def spread(self, setting: Setting) -> Run:
        """Return what the slots of `setting` do when replicas are placed without knowing any loads."""
        return self._once(setting, SpreadPolicy(), None)

    @property
    def num_runs(self) -> int:
        """Runs so far."""
        return len(self._runs)

    def _once(self, setting: Setting, policy: Policy, first: int | None) -> Run:
        begin = self.stretches.start if first is None else first
        key = (setting, getattr(policy, "name", ""), begin)
        if key not in self._runs:
            self._runs[key] = self._replayed(setting, policy, begin)
            if self.progress is not None:
                self.progress(self.num_runs)
        return self._runs[key]

    def _replayed(self, setting: Setting, policy: Policy, first: int) -> Run:
        meter = self.cost.meter(setting.topology)
        found = replay(
            self.trace,
            setting.topology,
            policy,
            history=setting.history * setting.window,
            interval=setting.interval * setting.window,
            first=first,
            max_moves_share=setting.max_moves_share,
            split=setting.split,
            watch=meter,
        )
        times = meter.result()
        return Run(
            setting=setting,
            first=first,
            step_seconds=times.step_seconds,
            stall_seconds=times.stall_seconds,
            moved_bytes=times.moved_bytes,
            balancedness=found.balancedness,
            planning_seconds=found.median_planning_seconds,
        )
