"""Calls on a thread of their own, which the caller can leave behind."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Overdue(Exception):  # noqa: N818 - it names a state
    """A call did not return in time; its thread may hang for good."""


class Job(Generic[Result]):
    """A call, and what became of it."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call: Callable[[], Result] | None = call
        self._result: Any = None
        self._error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        """Make the call; what it raises is kept for whoever asks for the result."""
        try:
            assert self._call is not None
            self._result = self._call()
        except BaseException as exc:  # raised in the thread of the caller
            self._error = exc
        self._call = None
        self.done.set()

    def result(self) -> Result:
        """Return or raise what the call did."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]


class Worker:
    """A thread that makes one call after another; it ends with this object, and never keeps a program alive."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self.close = weakref.finalize(self, self._jobs.put, None)
        """End the thread after the call that it is in."""
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name=f"eplb-{name}", daemon=True)
        self._thread.start()

    def is_here(self) -> bool:
        """Return whether the caller is on this thread."""
        return threading.current_thread() is self._thread

    def leave(self, call: Callable[[], Any]) -> None:
        """Have a call made later; whatever becomes of it."""
        self._jobs.put(Job(call))

    def call(self, call: Callable[[], Result], until: float) -> Result:
        """Return or raise what `call` does; raise `Overdue` at `until`, by the monotonic clock."""
        job = Job(call)
        self._jobs.put(job)
        if not job.done.wait(max(0.0, until - time.monotonic())):
            raise Overdue
        return job.result()

    def call_whole(self, call: Callable[[], Result]) -> Result:
        """Return or raise what `call` does; an interrupt, as of Ctrl-C, is raised after it has ended."""
        job, held = Job(call), None
        self._jobs.put(job)
        while True:
            try:
                job.done.wait()
                break
            except (KeyboardInterrupt, SystemExit) as exc:
                held = exc
        if held is not None:
            raise held
        return job.result()


def _work(jobs: queue.SimpleQueue[Job[Any] | None]) -> None:
    while (job := jobs.get()) is not None:
        job.run()
        del job
