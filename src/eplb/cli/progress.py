"""A progress bar for calls that take more than a second."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from eplb.compiling_notice import LINE, is_compiling

PATIENCE_SECONDS = 1.0
REFRESH_SECONDS = 0.1
COMPILING = LINE.removeprefix("eplb: ")

Result = TypeVar("Result")


def with_progress(what: str, call: Callable[[], Result], console: Console | None = None) -> Result:
    """Return ``call()``; after a second say on stderr that it is at `what`, or compiles.

    On a terminal this is a bar with the time elapsed, which vanishes at the end; elsewhere it is one line when the
    planner is compiled. The call runs on a thread of its own, because a compiled kernel on the main thread would keep
    an interrupt waiting until it ends.
    """
    future: Future[Result] = Future()
    with _without_log_line():
        threading.Thread(target=_settle, args=(future, call), daemon=True).start()
        if not wait([future], PATIENCE_SECONDS).done:
            _show(what, future, console or Console(stderr=True))
        return future.result()


def _settle(future: Future[Result], call: Callable[[], Result]) -> None:
    try:
        future.set_result(call())
    except BaseException as exc:  # it is raised again where the result is awaited
        future.set_exception(exc)


def _show(what: str, future: Future[Result], console: Console) -> None:
    if not console.is_terminal or console.is_dumb_terminal:
        _show_plain(future, console)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)
        while not wait([future], REFRESH_SECONDS).done:
            progress.update(task, description=COMPILING if is_compiling() else what)


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
