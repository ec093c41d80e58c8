"""The windows before now, each of which is read once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eplb.replay.parts import RecordedTrace, part_of
from eplb.trace import LoadTrace


class RecentWindows:
    """The newest windows of a trace before a time that only goes forward; what was read is kept, to spare a disk.

    Parameters
    ----------
    trace : RecordedTrace
        Where they are read from.
    num_windows : int
        The most that are handed out.

    Examples
    --------
    >>> recent = RecentWindows(LoadTrace(loads=[[[1]], [[2]], [[3]], [[4]]]), 2)
    >>> recent.before(1).loads.tolist(), recent.before(3).loads.tolist()
    ([[[1]]], [[[2]], [[3]]])
    """

    def __init__(self, trace: RecordedTrace, num_windows: int) -> None:
        self._trace, self._num_windows = trace, num_windows
        self._kept: LoadTrace | None = None
        self._end = 0

    def before(self, now: int) -> LoadTrace:
        """Return the windows before `now`, `num_windows` at most."""
        first = max(0, now - self._num_windows)
        if self._kept is None or first >= self._end:
            self._kept = part_of(self._trace, first, now)
        else:
            kept, size = self._kept, self._kept.num_windows
            self._kept = _joined(kept.part(size - (self._end - first), size), part_of(self._trace, self._end, now))
        self._end = now
        return self._kept


def _joined(old: LoadTrace, new: LoadTrace) -> LoadTrace:
    both_count = old.tokens is not None and new.tokens is not None
    return replace(
        old,
        loads=np.concatenate([old.loads, new.loads]),
        tokens=np.concatenate([old.tokens, new.tokens]) if both_count else None,
        labels=None if old.labels is None or new.labels is None else old.labels + new.labels,
    )
