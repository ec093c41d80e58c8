"""Trials on this machine: by processes of one thread each, or by this one alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_end
from typing import Any

from eplb.advising.setting import Setting
from eplb.advising.tried import Stretch, Tried, try_setting
from eplb.advising.work import WAITING_PER_WORKER, Task, Work, handed_out, use_one_thread
from eplb.errors import OptionError
from eplb.trace import LoadTrace

KILLED = 1

_given: tuple[dict[str, LoadTrace], Stretch] | None = None


def over_processes(work: Work, num_workers: int) -> Generator[Tried, None, None]:
    """Yield each trial as it is made, in any order.

    Raises
    ------
    OptionError
        If a worker was killed, or could not begin.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
    pool = ProcessPoolExecutor(num_workers, context, _begin, (work.traces, work.stretch))

    def submit(task: Task) -> Any:
        return pool.submit(_try, *task)

    def done(futures: list[Any]) -> tuple[list[Any], list[Any]]:
        found = wait(futures, return_when=FIRST_COMPLETED).done
        return [f for f in futures if f in found], [f for f in futures if f not in found]

    try:
        yield from handed_out(
            work.tasks, num_workers * WAITING_PER_WORKER, submit, done, lambda future: future.result()
        )
    except BrokenProcessPool:
        raise OptionError(
            "workers: a process ended before its time (out of memory? or a script without "
            "if __name__ == '__main__':); the rows found so far are kept: run the same again, maybe with fewer workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_this_process(work: Work) -> Generator[Tried, None, None]:
    """Yield each trial, one after another."""
    for name, setting in work.tasks:
        yield try_setting(name, work.traces[name], setting, work.stretch)


def _begin(traces: dict[str, LoadTrace], stretch: Stretch) -> None:
    """Make this process a worker: the traces come once, and it ends with the process that started it."""
    global _given
    _given = traces, stretch
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started it ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(KILLED)  # nobody reads what it finds; left alone, it would wait for tasks for good


def _try(name: str, setting: Setting) -> Tried:
    if _given is None:
        raise RuntimeError("a worker was not begun")
    traces, stretch = _given
    return try_setting(name, traces[name], setting, stretch)
