"""A trace read a few windows at a time, so that a store larger than memory can be replayed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from eplb.errors import LoadsError
from eplb.trace import LoadTrace

LOADS_AT_ONCE = 2**22


class RecordedTrace(Protocol):
    """What `replay` reads: a `LoadTrace`, or anything that hands out parts of one."""

    @property
    def num_windows(self) -> int:
        """Windows T."""
        ...

    @property
    def num_layers(self) -> int:
        """Layers L."""
        ...

    @property
    def num_experts(self) -> int:
        """Logical experts E."""
        ...

    def part(self, first: int, last: int) -> LoadTrace:
        """Return windows `first` to `last` - 1."""
        ...


def check_trace(trace: Any, name: str = "trace") -> None:
    """Raise `LoadsError` unless `trace` hands out parts."""
    if not (callable(getattr(trace, "part", None)) and hasattr(trace, "num_windows")):
        raise LoadsError(f"{name}: expected an eplb.LoadTrace or eplb.TraceStore, got {type(trace).__name__}")


def steps_per_window(trace: RecordedTrace, steps: RecordedTrace | None) -> int:
    """Return how many of `steps` each window of `trace` is the sum of; 0 without steps.

    Raises
    ------
    LoadsError
        If the windows do not consist of equally many steps, or layers or experts differ.
    """
    if steps is None:
        return 0
    check_trace(steps, "steps")
    if (steps.num_layers, steps.num_experts) != (trace.num_layers, trace.num_experts):
        raise LoadsError(
            f"steps: expected {trace.num_layers} layers x {trace.num_experts} experts as in the trace, "
            f"got {steps.num_layers} x {steps.num_experts}"
        )
    each, rest = divmod(steps.num_windows, trace.num_windows)
    if rest or not each:
        raise LoadsError(
            f"steps: expected equally many for each of {trace.num_windows} windows, got {steps.num_windows}; "
            "leave out those that fill no window"
        )
    return each


def part_of(trace: RecordedTrace, first: int, last: int) -> LoadTrace:
    """Return windows `first` to `last` - 1 of `trace`.

    Raises
    ------
    LoadsError
        If what comes are not those windows of the trace's layers and experts.
    """
    part = trace.part(first, last)
    expected = (last - first, trace.num_layers, trace.num_experts)
    if not isinstance(part, LoadTrace) or part.loads.shape != expected:
        got = part.loads.shape if isinstance(part, LoadTrace) else type(part).__name__
        raise LoadsError(f"trace: expected windows {first} to {last - 1} as a LoadTrace {expected}, got {got}")
    return part


def spans(first: int, last: int, loads_per_window: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive (start, end) that cover `first` to `last`, each of a size that memory holds.

    Examples
    --------
    >>> list(spans(3, 8, LOADS_AT_ONCE // 2))
    [(3, 5), (5, 7), (7, 8)]
    """
    size = max(1, LOADS_AT_ONCE // loads_per_window)
    for start in range(first, last, size):
        yield start, min(start + size, last)


def check_steps(windows: LoadTrace, steps: LoadTrace, first: int) -> None:
    """Raise `LoadsError` unless each window, the first of which has number `first`, is the sum of its steps."""
    sums = steps.loads.reshape(windows.num_windows, -1, *windows.loads.shape[1:]).sum(axis=1, dtype=np.float64)
    same = np.isclose(sums, windows.loads, rtol=1e-6).all(axis=(1, 2))
    if not same.all():
        raise LoadsError(
            f"steps: they do not sum up to window {first + int(np.argmin(same))}; make the windows from the same steps"
        )
