"""Saying so when the first plan on a machine waits for the compiler."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_SECONDS = 1.0
LINE = "eplb: compiling the planner, once on this machine (about 20 s)"


def is_compiling() -> bool:
    """Whether the planner was not found among the compiled code on disk, and is not compiled yet."""
    kernel = _kernel()
    return kernel is not None and bool(kernel.stats.cache_misses) and not kernel.overloads


@contextmanager
def saying_when_compiling() -> Iterator[None]:
    """Log one line when what runs inside has to wait for the compiler."""
    kernel = _kernel()
    if kernel is not None and kernel.overloads:
        yield
        return
    timer = threading.Timer(PATIENCE_SECONDS, _say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say() -> None:
    if is_compiling():
        logging.getLogger("eplb").warning(LINE)


def _kernel() -> Any:
    """Return the planner's kernel if it is imported already."""
    return getattr(sys.modules.get("eplb.kernels.layers"), "plan_layers", None)
