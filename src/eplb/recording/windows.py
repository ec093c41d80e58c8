"""From forwards to windows: each phase fills windows of its own, so that prefill and decode are told apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.recording.counting import Table
from eplb.recording.forwards import Forward

MOST_WAITING = 64  # windows that are left on the device before they are copied together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """A window that is full: loads [L, E], real tokens, and the phase of its forwards."""

    loads: NDArray[np.int64]
    num_tokens: int
    phase: str


class Windows:
    """Windows in the making, and those that wait on the device.

    Parameters
    ----------
    num_layers, num_experts : int
        L and E.
    size : int
        Forwards of a window.
    """

    def __init__(self, num_layers: int, num_experts: int, size: int) -> None:
        self._shape, self._size = (num_layers, num_experts), size
        self._open: dict[str, Table] = {}
        self._waiting: list[tuple[str, Table]] = []

    def add(self, forward: Forward) -> None:
        """Count a forward in the window of its phase."""
        table = self._open.get(forward.phase) or self._begin(forward.phase, forward.taken[0][1].device)
        table.add(forward.taken, forward.num_tokens, forward.real)
        if table.num_forwards == self._size:
            self._waiting.append((forward.phase, self._open.pop(forward.phase)))

    def _begin(self, phase: str, device: Any) -> Table:
        self._open[phase] = Table(*self._shape, device)
        return self._open[phase]

    @property
    def num_waiting(self) -> int:
        """Full windows that were not taken yet."""
        return len(self._waiting)

    def close(self) -> None:
        """Count windows that are not full as they are."""
        self._waiting += self._open.items()
        self._open = {}

    def take(self) -> Iterator[Window]:
        """Yield the full windows, oldest first, and forget them; this waits for the device."""
        waiting, self._waiting = self._waiting, []
        for phase, table in waiting:
            loads, num_tokens = table.to_numpy()
            yield Window(loads=loads, num_tokens=num_tokens, phase=phase)
