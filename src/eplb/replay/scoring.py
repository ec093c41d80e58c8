"""Evaluations added up, window by window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import frozen
from eplb.certificate import ratio
from eplb.evaluation import Evaluation, evaluate
from eplb.placement import Placement
from eplb.replay.parts import RecordedTrace, check_steps, part_of, spans
from eplb.replay.result import Scores
from eplb.replay.splits import SplitOfWindows, for_steps
from eplb.replay.watching import ScoredWindows, Watch
from eplb.topology import Topology


class Tally:
    """Sums over the evaluations of a replay; memory grows by one number a window."""

    def __init__(self, topology: Topology, num_layers: int) -> None:
        self._num_working = int(topology.alive.sum())
        self._balancedness: list[NDArray[np.float64]] = []
        self._mean_loads, self._largest_loads = np.zeros(num_layers), np.zeros(num_layers)
        self._activated = self._largest_activated = 0

    def add(self, found: Evaluation) -> None:
        """Add the windows of `found`, one after another, because the order of a sum decides its last bit."""
        self._balancedness.append(found.balancedness)
        for means, largest in zip(found.mean_loads, found.largest_loads, strict=True):
            self._mean_loads += means
            self._largest_loads += largest
        self._activated += int(found.activated_experts.sum())
        self._largest_activated += int(found.activated_experts.max(axis=2).sum())

    def scores(self) -> Scores:
        """Return what was added, as one result."""
        balancedness = np.concatenate(self._balancedness)
        return Scores(
            balancedness=frozen(balancedness),
            balancedness_per_layer=frozen(ratio(self._mean_loads, self._largest_loads)),
            activated_experts=self._activated / (balancedness.size * self._mean_loads.size * self._num_working),
            largest_activated_experts=self._largest_activated / balancedness.size,
        )


class Scoring:
    """Scores placements on windows of a trace and, if there are any, on its steps.

    Parameters
    ----------
    trace, steps : RecordedTrace
        Windows, and the `num_steps` (each) that a window is the sum of, or None.
    topology : Topology
        The machine.
    split : {"even", "weighted", "weighted-lagged"}
        As in `replay`.
    advanced : callable
        Called after each window.
    watch : callable, optional
        Shown all windows that were scored, a few at a time.
    """

    def __init__(
        self,
        trace: RecordedTrace,
        steps: RecordedTrace | None,
        num_steps: int,
        topology: Topology,
        split: str,
        advanced: Callable[[], None],
        watch: Watch | None = None,
    ) -> None:
        self._trace, self._steps, self._num_steps = trace, steps, num_steps
        self._split, self._advanced, self._watch = SplitOfWindows(trace, split), advanced, watch
        self._loads_per_window = trace.num_layers * max(trace.num_experts, topology.num_slots) * max(1, num_steps)
        self.windows = Tally(topology, trace.num_layers)
        self.steps = Tally(topology, trace.num_layers)

    def score(self, placement: Placement, first: int, last: int) -> None:
        """Score windows `first` to `last` - 1, which follow those scored before, under `placement`."""
        for start, end in spans(first, last, self._loads_per_window):
            windows = part_of(self._trace, start, end)
            split = self._split.of(placement, windows, start)
            found = evaluate(placement, windows, split)
            self.windows.add(found)
            if self._watch is not None:
                self._watch(ScoredWindows(first=start, windows=windows, placement=placement, evaluation=found))
            if self._steps is not None:
                steps = part_of(self._steps, start * self._num_steps, end * self._num_steps)
                check_steps(windows, steps, start)
                self.steps.add(evaluate(placement, steps, for_steps(split, self._num_steps)))
            for _ in range(start, end):
                self._advanced()
