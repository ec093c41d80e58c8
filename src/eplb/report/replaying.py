"""Policies replayed one after another and watched, and one of them within several budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.advising.backtest import SpreadPolicy
from eplb.arrays import frozen
from eplb.replay import EplbPolicy, Policy, Replay, ScoredWindows, replay
from eplb.replay.parts import RecordedTrace
from eplb.replay.watching import Watch
from eplb.report.binning import Bins
from eplb.report.findings import Point, PolicyFindings
from eplb.report.observing import PolicyObserver, TraceObserver
from eplb.report.settings import Settings
from eplb.topology import Topology

Progress = Callable[[str, int, int], None]


class Replays:
    """What replays of one trace under the same options find.

    Parameters
    ----------
    trace, steps : RecordedTrace
        The windows, and the steps that they are sums of, or None.
    topology : Topology
        The machine.
    settings : Settings
        With an interval and a first window.
    progress : callable or None
        Called with what is replayed, and the windows scored and to score over all replays.
    num_replays : int
        How many replays there will be.
    """

    def __init__(
        self,
        trace: RecordedTrace,
        steps: RecordedTrace | None,
        topology: Topology,
        settings: Settings,
        progress: Progress | None,
        num_replays: int,
    ) -> None:
        self._trace, self._steps, self._topology, self._settings = trace, steps, topology, settings
        self._progress = progress
        self._done, self._total = 0, num_replays * max(0, trace.num_windows - int(settings.first or 0))
        self.points: list[Point] = []
        self.results: list[Replay] = []

    def watch(self, policies: Sequence[Policy], bins: Bins) -> tuple[list[PolicyFindings], TraceObserver]:
        """Return what is found of each policy, and what was seen of the trace during the first."""
        trace, settings = self._trace, self._settings
        split = "even" if settings.split == "even" else "weighted"  # lagged shares get below no bound for the best
        windows = TraceObserver(
            trace.num_layers, trace.num_experts, self._topology, groups=settings.groups, split=split
        )
        found: list[PolicyFindings] = []
        for policy in policies:
            observer = PolicyObserver(bins, trace.num_layers, self._topology)
            watch = observer if found else both(windows, observer)
            result = self._replay(policy, settings.max_moves_share, name_of(policy), watch)
            found.append(findings_of(result, observer))
            budget = settings.max_moves_share if isinstance(policy, EplbPolicy) else None
            self.points.append(point_of(result, budget))
            self.results.append(result)
        return found, windows

    def within(self, policy: EplbPolicy, budgets: Sequence[float]) -> None:
        """Replay `policy` within each of `budgets`, for the frontier."""
        for share in budgets:
            what = f"{policy.name} within {share:.0%} of the slots"
            result = self._replay(policy, share, what, None)
            self.points.append(point_of(result, share))

    def uninformed(self) -> NDArray[np.float64]:
        """Return the balancedness of each window when the slots are filled without knowing any loads."""
        return self._replay(SpreadPolicy(), 0.0, "slots filled evenly", None).balancedness

    def _replay(self, policy: Policy, share: float, what: str, watch: Watch | None) -> Replay:
        settings, before = self._settings, self._done

        def advance(done: int, total: int) -> None:
            self._done = before + done
            if self._progress is not None:
                self._progress(what, self._done, self._total)

        more: dict[str, Any] = {} if self._steps is None or watch is None else {"steps": self._steps}
        return replay(
            self._trace,
            self._topology,
            policy,
            history=settings.history,
            interval=int(settings.interval or 1),
            first=int(settings.first or 1),
            max_moves_share=share,
            max_moves_per_rank=settings.max_moves_per_rank,
            split=settings.split,
            progress=advance,
            watch=watch,
            **more,
        )


def name_of(policy: Policy) -> str:
    """Return what results call `policy`."""
    return str(getattr(policy, "name", type(policy).__name__))


def both(first: Watch, second: Watch) -> Watch:
    """Return a watch that shows windows to both."""

    def watch(scored: ScoredWindows) -> None:
        first(scored)
        second(scored)

    return watch


def findings_of(result: Replay, observer: PolicyObserver) -> PolicyFindings:
    """Return a replay and what was seen during it, as a report shows them."""
    steps, detail = result.step_balancedness, observer.detail()
    return PolicyFindings(
        name=result.policy,
        sees_future=result.sees_future,
        balancedness=result.balancedness,
        balancedness_per_layer=result.balancedness_per_layer,
        step_balancedness=None if steps is None else float(steps.mean()),
        num_replans=result.moves.size,
        num_over_budget=0 if result.sees_future else result.num_over_budget,
        moves_per_window=result.moves_per_window,
        largest_moves=int(result.moves.max(initial=0)),
        planning_seconds=result.median_planning_seconds,
        moves=frozen(detail.moves_by_layer.sum(axis=1)),
        detail=detail,
    )


def point_of(result: Replay, budget: float | None) -> Point:
    """Return where a replay stands on the frontier."""
    return Point(
        policy=result.policy,
        moves_per_window=result.moves_per_window,
        balancedness=result.mean_balancedness,
        budget=budget,
        sees_future=result.sees_future,
    )
