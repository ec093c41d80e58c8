"""A progress bar for calls that take more than a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from eplb.compiling_notice import LINE, is_compiling

PATIENCE_SECONDS = 1.0
REFRESH_SECONDS = 0.1
COMPILING = LINE.removeprefix("eplb: ")

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True)
class Count:
    """How far a call has come; the call sets it, the bar shows it.

    Parameters
    ----------
    what : str
        What it is at; `begin` changes it.
    total : int, optional
        Things to do; default: not known.
    unit : str, default ""
        What these things are, in the plural.
    done : int, default 0
        Things that are done.
    """

    what: str
    total: int | None = None
    unit: str = ""
    done: int = 0
    done_before: int = field(default=0, init=False)
    began: float = field(default_factory=time.monotonic, init=False)

    def begin(self, what: str) -> None:
        """Go on with `what`, which may be faster or slower than what was before."""
        self.what, self.done_before, self.began = what, self.done, time.monotonic()

    def pace(self, seconds: float) -> str:
        """Return what is done, and how fast and how long it goes on as in the `seconds` since it began.

        Examples
        --------
        >>> Count(what="replaying", total=88, unit="windows", done=22).pace(4.0)
        '22/88 windows, 5.5 windows/s, 0:00:12 left'
        """
        if self.total is None:
            return ""
        text = f"{self.done:,}/{self.total:,} {self.unit}"
        done = self.done - self.done_before
        if not done or seconds <= 0:
            return text
        left = timedelta(seconds=round((self.total - self.done) * seconds / done))
        return f"{text}, {done / seconds:,.3g} {self.unit}/s, {left} left"


def with_progress(what: str, call: Callable[[], Result], console: Console | None = None) -> Result:
    """Return ``call()``; after a second say on stderr that it is at `what`, or compiles.

    On a terminal this is a bar with the time elapsed, which vanishes at the end; elsewhere it is one line when the
    planner is compiled. The call runs on a thread of its own, because a compiled kernel on the main thread would keep
    an interrupt waiting until it ends.
    """
    return with_count(Count(what=what), call, console)


def with_count(count: Count, call: Callable[[], Result], console: Console | None = None) -> Result:
    """Return ``call()`` as `with_progress` does; where the total is known, the bar shows the rate and the time left."""
    future: Future[Result] = Future()
    with _without_log_line():
        threading.Thread(target=_settle, args=(future, call), daemon=True).start()
        if not wait([future], PATIENCE_SECONDS).done:
            _show(count, future, console or Console(stderr=True))
        return future.result()


def _settle(future: Future[Result], call: Callable[[], Result]) -> None:
    try:
        future.set_result(call())
    except BaseException as exc:  # it is raised again where the result is awaited
        future.set_exception(exc)


def _show(count: Count, future: Future[Result], console: Console) -> None:
    if not console.is_terminal or console.is_dumb_terminal:
        _show_plain(future, console)
        return
    pace = TimeElapsedColumn() if count.total is None else TextColumn("{task.fields[pace]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), pace)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(count.what, total=count.total, pace="")
        while not wait([future], REFRESH_SECONDS).done:
            what = COMPILING if is_compiling() else count.what
            progress.update(
                task, description=what, completed=count.done, pace=count.pace(time.monotonic() - count.began)
            )


def _show_plain(future: Future[Result], console: Console) -> None:
    while not wait([future], REFRESH_SECONDS).done:
        if is_compiling():
            console.print(COMPILING, soft_wrap=True)
            wait([future])


@contextmanager
def _without_log_line() -> Iterator[None]:
    """Keep the library's own line about compiling from being printed as well."""
    log = logging.getLogger("eplb")

    def no_compiling(record: logging.LogRecord) -> bool:
        return record.getMessage() != LINE

    log.addFilter(no_compiling)
    try:
        yield
    finally:
        log.removeFilter(no_compiling)
