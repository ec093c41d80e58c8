"""Saying so when a first call waits for the compiler."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_SECONDS = 1.0
LINE = "eplb: compiling, once for this installation (up to a minute)"

_started: list[Any] = []


def is_compiling() -> bool:
    """Whether a kernel was not found among the compiled code on disk, and is not compiled yet."""
    return any(kernel.stats.cache_misses and not kernel.overloads for kernel in list(_started))


@contextmanager
def saying_when_compiling(kernel: Any) -> Iterator[None]:
    """Log one line when the first call of `kernel`, inside, has to wait for the compiler."""
    timer = threading.Timer(PATIENCE_SECONDS, _say)
    timer.daemon = True
    _started.append(kernel)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _started.remove(kernel)


def _say() -> None:
    if is_compiling():
        logging.getLogger("eplb").warning(LINE)
