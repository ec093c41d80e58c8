"""A sweep as text: what is tried, the best of it, and where the rest is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

import eplb
from eplb.advising import Setting, Sweep, Tried
from eplb.advising.journal import journal_path
from eplb.advising.rows import columns_of
from eplb.cli.console import one_line
from eplb.cli.summary import counted
from eplb.errors import OptionError

SHOWN = 5
STEP = "step_us"
HEADERS = {
    "num_ranks": "ranks",
    "slots_per_rank": "slots",
    "num_nodes": "nodes",
    "max_moves_share": "may move",
}


def before_facts(
    traces: Mapping[str, eplb.LoadTrace],
    settings: Sequence[Setting],
    out: Path,
    who: str,
    num_resumed: int,
    notes: Sequence[str],
) -> list[tuple[str, str]]:
    """Return what is tried, by whom, what was assumed, and what happens to it on the way."""
    rows: list[tuple[str, str]] = []
    for name, trace in list(traces.items())[:SHOWN]:
        shape = (
            f"{counted(trace.num_windows, 'window')} x {counted(trace.num_layers, 'layer')} x "
            f"{counted(trace.num_experts, 'expert')}"
        )
        rows.append(("" if rows else "traces", f"{name}: {shape}"))
    if len(traces) > SHOWN:
        rows.append(("", f"and {len(traces) - SHOWN:,} more"))
    size = f"{counted(len(settings), 'setting')} x {counted(len(traces), 'trace')}"
    rows.append(("grid", f"{size}: {counted(len(settings) * len(traces), 'trial')}, {who}"))
    rows += [("note", note) for note in notes]
    journal = journal_path(out)
    if num_resumed:
        rows.append(("resumed", f"the trials in {journal} are not made again"))
    return [*rows, ("kept", f"each trial, once made, in {journal}: after a kill the same command goes on")]


def after_facts(found: Sweep) -> list[tuple[str, str]]:
    """Return what was made, and where it is."""
    made = f"{counted(len(found.trials), 'row')} x {counted(len(columns_of(found.trials)), 'column')}"
    rows = [("written", f"{found.out}: {made}, in {found.seconds:.1f} s")]
    if found.num_resumed:
        rows.append(("", f"{found.num_resumed:,} of the trials had been made before"))
    if found.num_failed:
        first = next(tried for tried in found.trials if tried.outcome is None)
        rows.append(("no outcome", f"{counted(found.num_failed, 'row')}, whose column error says why; the first:"))
        rows.append(("", str(first.error)))
    reader = "read_parquet" if found.out.suffix.lower() == ".parquet" else "read_csv"
    return [*rows, ("read it", f'import pandas; table = pandas.{reader}("{found.out}")')]


def check_outcomes(found: Sweep) -> None:
    """Raise why, if not a single trial has an outcome.

    Raises
    ------
    OptionError
        With what the first row says.
    """
    if found.num_failed == len(found.trials):
        rows = counted(found.num_failed, "trial")
        raise OptionError(f"{found.out}: expected an outcome, got none of {rows}; the first: {found.trials[0].error}")


def best_of(trials: Sequence[Tried], number: int = SHOWN) -> list[Tried]:
    """Return the best trials of policies that can be run: by step time where it is known, else by balancedness.

    Those that keep to their budget of moves come first, and of equally good ones those that move less.
    """
    runnable = [tried for tried in trials if tried.outcome is not None and tried.setting.policy != "oracle"]
    return sorted(runnable, key=_order)[:number]


def _order(tried: Tried) -> tuple[Any, ...]:
    outcome = tried.outcome
    assert outcome is not None
    by_time = outcome.costs.get(STEP, 0.0)
    return outcome.num_over_budget > 0, by_time, -outcome.balancedness, outcome.moved_share


def best_table(trials: Sequence[Tried]) -> Table:
    """Return the best trials of one trace; of their settings, what differs between the trials."""
    varied = _varied(trials)
    best = best_of(trials)
    costed = any(tried.outcome and STEP in tried.outcome.costs for tried in best)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in varied:
        table.add_column(HEADERS.get(name, name), justify="left" if name in ("policy", "split", "effort") else "right")
    for header in ("mean", "worst", "at best", "moved", *(["step, us"] if costed else [])):
        table.add_column(header, justify="right", no_wrap=True)
    for tried in best:
        values = tried.setting.to_dict()
        table.add_row(*(one_line(f"{values[name]}") for name in varied), *_cells(tried, costed))
    return table


def _cells(tried: Tried, costed: bool) -> list[str]:
    outcome = tried.outcome
    assert outcome is not None
    cells = [
        f"{outcome.balancedness:.4f}",
        f"{outcome.worst:.4f}",
        f"{outcome.bound:.4f}",
        f"{outcome.moved_share:.1%}",
    ]
    return [*cells, f"{outcome.costs[STEP]:,.1f}"] if costed else cells


def _varied(trials: Sequence[Tried]) -> list[str]:
    """Return the names of values that differ between the settings; without any, those of the machine."""
    settings = [tried.setting.to_dict() for tried in trials]
    names = [name for name in settings[0] if any(values[name] != settings[0][name] for values in settings)]
    return names or ["num_ranks", "slots_per_rank", "policy"]
