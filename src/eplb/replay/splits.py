"""How the replicas of an expert share its tokens in a replay, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.dispatch.splitting import split as best_weights
from eplb.errors import OptionError
from eplb.placement import Placement
from eplb.replay.parts import RecordedTrace, part_of
from eplb.trace import LoadTrace

LAGGED = "weighted-lagged"
SPLITS = ("even", "weighted", LAGGED)


def check_split(split: Any, name: str = "split") -> None:
    """Raise `OptionError` unless `split` is the name of one."""
    if not isinstance(split, str) or split not in SPLITS:
        raise OptionError(f"{name}: expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, got {split!r}")


def planned_split(split: str) -> str:
    """Return the split to plan for where `split` is scored.

    A placement that is made for weights relies on them; with those of a window before it does worse than one that is
    made for even shares.

    Examples
    --------
    >>> planned_split("weighted-lagged"), planned_split("weighted")
    ('even', 'weighted')
    """
    return "weighted" if split == "weighted" else "even"


class SplitOfWindows:
    """What `eplb.evaluate` is told of the split, for windows that only go forward.

    Parameters
    ----------
    trace : RecordedTrace
        Where the window before the first is read from; of those that come, the newest is kept.
    split : {"even", "weighted", "weighted-lagged"}
        The first two are passed on. With the third, a window gets the weights that were best for the window before it.
    """

    def __init__(self, trace: RecordedTrace, split: str) -> None:
        self._trace, self._split = trace, split
        self._newest: NDArray[Any] | None = None

    def of(self, placement: Placement, windows: LoadTrace, first: int) -> str | NDArray[np.float64]:
        """Return the split of `windows`, the first of which has number `first` >= 1: a name, or weights [T, L, P]."""
        if self._split != LAGGED:
            return self._split
        if self._newest is None:
            self._newest = part_of(self._trace, first - 1, first).loads
        before = np.concatenate([self._newest, windows.loads[:-1]])
        self._newest = windows.loads[-1:].copy()  # a view would keep all windows in memory
        return best_weights(placement, before)


def for_steps(split: str | NDArray[np.float64], num_steps: int) -> str | NDArray[np.float64]:
    """Return the split of the steps of windows: weights [T, L, P] hold for each of the `num_steps` of their window."""
    return split if isinstance(split, str) else np.repeat(split, num_steps, axis=0)
