"""What a replay shows to those who watch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eplb.evaluation import Evaluation
from eplb.placement import Placement
from eplb.trace import LoadTrace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredWindows:
    """Consecutive windows of a trace that were scored under one placement.

    Parameters
    ----------
    first : int
        Number of the first of them in the trace.
    windows : LoadTrace
        The windows, W of them.
    placement : Placement
        What was in force; the same object for as long as nothing was replanned.
    evaluation : Evaluation
        Their rank loads [W, L, R] and the like under the split of the replay.
    """

    first: int
    windows: LoadTrace
    placement: Placement
    evaluation: Evaluation


Watch = Callable[[ScoredWindows], None]
