"""Medians of calls that take turns, and the peak of a call's memory."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]

MEGABYTE = 1e6
RESET_PEAK = "5"


def side_by_side_ms(
    calls: Mapping[str, Call], rounds: int, burst_s: float = 0.02, most_s: float = 6.0
) -> dict[str, float]:
    """Return the median milliseconds of each call; they take turns, so that noise of the machine hits all alike.

    Parameters
    ----------
    calls : mapping of name to callable
        What is measured.
    rounds : int
        Turns of each call, >= 1.
    burst_s : float, default 0.02
        A turn repeats the call until this many seconds are over.
    most_s : float, default 6
        After this many seconds in all, a call gets no further turn.

    Returns
    -------
    dict of name to float
        NaN for a call that raised.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if sum(seconds[name]) < most_s:
                seconds[name] = _burst(call, burst_s, seconds[name])
    return {name: float(np.median(samples)) * 1e3 for name, samples in seconds.items()}


def _burst(call: Call, burst_s: float, before: list[float]) -> list[float]:
    samples: list[float] = []
    while sum(samples) < burst_s:
        start = time.perf_counter()
        try:
            call()
        except Exception:
            return [math.nan]
        samples.append(time.perf_counter() - start)
    return before + samples


def peak_megabytes(call: Call) -> tuple[Any, float | None]:
    """Return the result of `call` and how far resident memory rose above its start meanwhile, in MB of 10**6 bytes.

    None instead of a number where the kernel does not let a process reset its peak (it is Linux that does).
    """
    if not _forget_peak():
        return call(), None
    before = _status_bytes("VmRSS")
    result = call()
    return result, max(0, _status_bytes("VmHWM") - before) / MEGABYTE


def _forget_peak() -> bool:
    """Give freed memory back, so that reusing it counts, and start a new peak."""
    if sys.platform != "linux":
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")
