"""What a sweep has left to do, and how it is handed out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eplb.advising.setting import Setting
from eplb.advising.tried import Stretch, Tried
from eplb.trace import LoadTrace

Task = tuple[str, Setting]

WAITING_PER_WORKER = 4  # enough that no worker waits for the next one, few enough for any grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The trials that are left to do.

    Parameters
    ----------
    traces : dict of str to LoadTrace
        By name.
    tasks : sequence of (str, Setting)
        Name of the trace, and setting, of each trial.
    stretch : Stretch
        What is scored, and what it costs.
    """

    traces: dict[str, LoadTrace]
    tasks: Sequence[Task]
    stretch: Stretch


def handed_out(
    tasks: Sequence[Task],
    most: int,
    submit: Callable[[Task], Any],
    wait: Callable[[list[Any]], tuple[list[Any], list[Any]]],
    result: Callable[[Any], Tried],
) -> Iterator[Tried]:
    """Yield the trials as they are made, with at most `most` tasks handed out at a time.

    Parameters
    ----------
    tasks : sequence of (str, Setting)
        What is to be done, in this order.
    most : int
        Tasks that are handed out at a time.
    submit : callable
        Hands a task out and returns a mark for it.
    wait : callable
        Given marks, waits and returns those that are done and the others.
    result : callable
        Given the mark of a task that is done, returns the trial, or raises what it raised.
    """
    left, pending = iter(tasks), list[Any]()
    while True:
        while len(pending) < most and (task := next(left, None)) is not None:
            pending.append(submit(task))
        if not pending:
            return
        done, pending = wait(pending)
        for mark in done:
            yield result(mark)


def use_one_thread() -> None:
    """Let this process plan on one thread: there are as many processes as processors."""
    os.environ["EPLB_NUM_THREADS"] = "1"


def num_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
