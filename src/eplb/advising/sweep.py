"""`sweep`: many settings on many traces, as one table."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eplb import __version__
from eplb.advising.costing import CostModel
from eplb.advising.grid import check_size
from eplb.advising.journal import Journal, journal_path
from eplb.advising.ray_running import over_ray, require_ray
from eplb.advising.rows import Row, columns_of, in_order, rows_of
from eplb.advising.running import in_this_process, over_processes
from eplb.advising.setting import Setting
from eplb.advising.sources import digest_of, loads_of
from eplb.advising.tables import check_table_path, write_table
from eplb.advising.tried import Stretch, Tried
from eplb.advising.work import Work, num_processors
from eplb.errors import OptionError
from eplb.trace import LoadTrace
from eplb.trace_store import TraceStore

MAX_WORKERS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep that was made.

    Parameters
    ----------
    out : Path
        The table.
    trials : tuple of Tried
        All trials, in the order of the table.
    num_resumed : int
        Those that an earlier run had made.
    seconds : float
        Time of this run. It is in no row: rows are the same wherever they were made.
    """

    out: Path
    trials: tuple[Tried, ...]
    num_resumed: int
    seconds: float

    @property
    def num_failed(self) -> int:
        """Trials whose setting cannot be used on their trace."""
        return sum(tried.outcome is None for tried in self.trials)

    @property
    def rows(self) -> list[Row]:
        """The table, a dict a row."""
        return rows_of(self.trials)


def sweep(
    traces: Mapping[str, LoadTrace | TraceStore | str | os.PathLike[str]],
    settings: Sequence[Setting],
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    ray_address: str | None = None,
    cost: CostModel | None = None,
    first: int | None = None,
    last: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Try every setting on every trace, and write a table with a row for each.

    What is found is kept in a file next to `out` (with ``.partial`` behind its name) until the table is written. After
    a crash or a kill the same call goes on where that one was: no row is lost or made twice.

    Parameters
    ----------
    traces : mapping of str to LoadTrace, TraceStore or path
        What the table calls each trace, and its loads or the file with them; each is held in memory by every worker.
    settings : sequence of Setting
        What is tried; see `grid`. Settings times traces are a million at most.
    out : path
        The table: ``.parquet`` or ``.csv``. A table of an earlier sweep is replaced.
    workers : int, optional
        Processes, each of which plans on one thread; 0: none but this one, on its threads. Default: one a processor.
    ray_address : str, optional
        A Ray cluster in place of processes: its address, ``auto`` for the one of this machine, ``local`` for a new one.
    cost : CostModel, optional
        What windows and moves cost; its figures become columns.
    first, last : int, optional
        The windows of each trace that are scored, as in `run_trial`.
    progress : callable, optional
        Called with the trials that are made and all, at the start and after each.

    Raises
    ------
    OptionError
        If an argument is out of its range, a setting comes twice, or the journal is that of another sweep.
    FileFormatError
        If a trace cannot be read, or the table cannot be written.
    MissingDependencyError
        If pyarrow or Ray is needed and not installed.

    Notes
    -----
    The same input gives the same table, bit for bit, by any number of workers, on a cluster or here, in one run or in
    many. A setting that a trace does not allow is a row with an error. Processes are spawned: a script that calls this
    does so under ``if __name__ == "__main__":``, or with ``workers=0``.

    Examples
    --------
    >>> import tempfile
    >>> from eplb.advising import grid
    >>> trace = LoadTrace(loads=[[[3, 1, 2, 2]], [[4, 1, 2, 1]], [[3, 1, 2, 2]]])
    >>> settings = grid({"num_ranks": [2, 8], "slots_per_rank": 1, "policy": "contiguous"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = sweep({"toy": trace}, settings, f"{folder}/toy.csv", workers=0, first=1)
    >>> [(row["num_ranks"], row["balancedness"], row["error"]) for row in found.rows]
    [(2, None, '4 experts do not fit 2 usable slots; add slots_per_rank or ranks'), (8, 0.5833333333333333, None)]
    """
    start, table = time.perf_counter(), Path(out)
    num_workers = _checked(settings, len(traces), workers, ray_address)
    stretch = Stretch(first=first, last=last, cost=cost)
    check_table_path(table)
    loads = {name: loads_of(name, trace) for name, trace in traces.items()}
    with closing(Journal(journal_path(table), _head(loads, settings, stretch))) as journal:
        found = list(journal.found)
        num_resumed = len(found)
        made = {(tried.trace, tried.setting) for tried in found}
        tasks = [(name, setting) for name in sorted(loads) for setting in settings if (name, setting) not in made]
        work = Work(traces=loads, tasks=tasks, stretch=stretch)
        total = num_resumed + len(tasks)
        _tell(progress, num_resumed, total)
        with closing(_trials(work, num_workers, ray_address)) as trials:
            for tried in trials:
                columns_of([tried])  # a name that comes twice is said now, not when all is made
                journal.add(tried)
                found.append(tried)
                _tell(progress, len(found), total)
        write_table(table, found)
        journal.remove()
    ordered = tuple(in_order(found))
    return Sweep(out=table, trials=ordered, num_resumed=num_resumed, seconds=time.perf_counter() - start)


def _trials(work: Work, num_workers: int, ray_address: str | None) -> Generator[Tried, None, None]:
    if ray_address is not None and work.tasks:
        return over_ray(work, ray_address)
    if num_workers and work.tasks:
        return over_processes(work, min(num_workers, len(work.tasks)))
    return in_this_process(work)


def _head(traces: Mapping[str, LoadTrace], settings: Sequence[Setting], stretch: Stretch) -> dict[str, Any]:
    """Return what the rows depend on, by the names under which an error lists what differs."""
    grid = hashlib.sha256("\n".join(sorted(setting.canonical for setting in settings)).encode()).hexdigest()
    return {
        "eplb": __version__,
        "settings": grid,
        "traces": {name: digest_of(traces[name]) for name in sorted(traces)},
        "first": stretch.first,
        "last": stretch.last,
        "cost": None if stretch.cost is None else repr(stretch.cost),
    }


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _checked(settings: Any, num_traces: int, workers: Any, ray_address: Any) -> int:
    """Return the number of workers, or raise what is wrong with what was asked for."""
    if not num_traces:
        raise OptionError("traces: expected at least one, got none")
    if not isinstance(settings, Sequence) or not settings:
        raise OptionError(f"settings: expected a list of at least one Setting, got {settings!r}")
    check_size(len(settings))
    check_size(len(settings) * num_traces, "trials")
    seen = set()
    for setting in settings:
        if not isinstance(setting, Setting):
            raise OptionError(f"settings: expected eplb.advising.Setting, got {type(setting).__name__}")
        if setting in seen:
            raise OptionError(f"settings: {setting} comes twice; give it once")
        seen.add(setting)
    if ray_address is not None:
        if not isinstance(ray_address, str) or not ray_address:
            raise OptionError(f"ray_address: expected a text such as 'auto', got {ray_address!r}")
        if workers is not None:
            raise OptionError("workers: a Ray cluster has its own; leave one of workers and ray_address out")
        require_ray()
    if workers is None:
        return num_processors()
    if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= MAX_WORKERS:
        raise OptionError(f"workers: expected an integer of 0 to {MAX_WORKERS}, got {workers!r}")
    return workers
