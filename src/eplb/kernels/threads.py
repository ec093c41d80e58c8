"""Running a kernel over layers on a few threads."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from eplb.errors import OptionError
from eplb.kernels.compiling import ensure_compiled

MAX_DEFAULT_THREADS = 4
CHUNKS_PER_THREAD = 4

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_key = (0, 0)


def num_threads() -> int:
    """Threads that plan: EPLB_NUM_THREADS, or the processors this process may use, at most 4."""
    chosen = os.environ.get("EPLB_NUM_THREADS")
    if chosen is None:
        return min(_num_processors(), MAX_DEFAULT_THREADS)
    try:
        threads = int(chosen)
    except ValueError:
        threads = 0
    if not 1 <= threads <= 256:
        raise OptionError(f"EPLB_NUM_THREADS: expected an integer of 1 to 256, got {chosen!r}")
    return threads


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_layers(kernel: Callable[..., None], num_layers: int, args: tuple[Any, ...], min_layers: int = 1) -> None:
    """Call ``kernel(first, last, *args)`` for ranges that cover 0 .. num_layers, on several threads.

    Every layer is planned on its own, so the result does not depend on the number of threads. A range has at least
    `min_layers` layers, so that small work stays on the calling thread.
    """
    threads = min(num_threads(), max(1, num_layers // min_layers))
    num_chunks = max(threads, min(threads * CHUNKS_PER_THREAD, num_layers // min_layers)) if threads > 1 else 1
    edges = [num_layers * i // num_chunks for i in range(num_chunks + 1)]
    todo = deque(itertools.pairwise(edges))

    def work() -> None:
        while True:
            try:
                first, last = todo.popleft()
            except IndexError:
                return
            kernel(first, last, *args)

    ensure_compiled(kernel, args)
    pool = _executor(num_threads()) if threads > 1 else None
    futures = [pool.submit(work) for _ in range(threads - 1)] if pool is not None else []
    try:
        work()
    except BaseException:
        todo.clear()
        wait(futures)
        raise
    for future in futures:
        future.result()


def _executor(threads: int) -> ThreadPoolExecutor:
    """Return the pool, made on first use and again after a fork or when the wanted number changes."""
    global _pool, _pool_key
    with _lock:
        if _pool is None or _pool_key != (os.getpid(), threads):
            _pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="eplb")
            _pool_key = (os.getpid(), threads)
        return _pool


def _unlock_after_fork() -> None:
    global _lock, _pool
    _lock = threading.Lock()
    _pool = None


os.register_at_fork(after_in_child=_unlock_after_fork)
