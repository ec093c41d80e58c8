"""The rows of `splits.py` as Markdown."""

from __future__ import annotations

from statistics import mean
from typing import Any

from machine import heading
from split_machines import gone
from tables import Row, chosen, table
from traces import Case, described, in_means

KEYS = ("policy", "budget", "planned", "scored")
COLUMNS = ("policy", "budget", "planned for", "split")
KNOWS_NONE, NO_LIMIT = "knows none", "no limit"
NUMBERS = ("balancedness", "imbalance gone", "moved", "planning ms")
STEPS = {
    "even, even": "even / even",
    "even, whole": "even / weighted",
    "weighted, whole": "weighted / weighted",
    "weighted, shared": "tokens shared",
    "known": "step known",
    "bound": "bound",
}
MOVED = ("moved, even", "moved, weighted")


def markdown(facts: dict[str, Any], rows: list[Row], found: list[Case]) -> str:
    """Return a table of means for each machine, one for each trace on it, and one of decode steps, under a heading."""
    how = (
        f"{facts['threads']} threads; a plan every window; at most {facts['history']} windows are shown. "
        "Moves are shares of all slots. The oracle sees the windows that it is scored on."
    )
    about = described(found, ", ".join(dict.fromkeys(row["machine"] for row in rows)))
    parts = [f"# The weighted split on windows not seen, {facts['date']}", heading(facts), how, about]
    windows, steps = chosen(rows, kind="windows"), chosen(rows, kind="steps")
    for machine in dict.fromkeys(row["machine"] for row in windows):
        own = chosen(windows, machine=machine)
        parts += [f"## {machine} slots: means over traces, and balancedness of each", _summary(own)]
    if steps:
        parts += ["## Decode steps: balancedness by what is planned for / split, a budget of 10%", _of_steps(steps)]
    for machine, name in dict.fromkeys((row["machine"], row["trace"]) for row in windows):
        own = chosen(windows, machine=machine, trace=name)
        parts += [f"### {name}, {machine} slots", _of_trace(own)]
    return "\n\n".join(parts)


def reference_budget(budget: str) -> str:
    """Return the budget of the even plan that a row of `budget` is measured by."""
    return NO_LIMIT if budget == KNOWS_NONE else budget


def _summary(rows: list[Row]) -> str:
    names = list(dict.fromkeys(row["trace"] for row in rows))
    own = {key: chosen(rows, **dict(zip(KEYS, key, strict=True))) for key in map(_key, rows)}
    means = {key: _mean(in_means(same)) for key, same in own.items()}
    lines = []
    for key, line in means.items():
        even = means["eplb", reference_budget(key[1]), "even", "even"]
        line["gone"] = gone(line["balancedness"], even["balancedness"])
        lines.append([*key, *_numbers(line), *(f"{row['balancedness']:.4f}" for row in own[key])])
    return table((*COLUMNS, *NUMBERS, *names), lines, len(COLUMNS))


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[key] for key in KEYS)


def _mean(rows: list[Row]) -> Row:
    return {key: mean(row[key] for row in rows) for key in ("balancedness", "moved_share", "median_ms")}


def _of_trace(rows: list[Row]) -> str:
    lines = [[*_key(row), *_numbers(row), f"{row['worst_window']:.4f}"] for row in rows]
    return table((*COLUMNS, *NUMBERS, "worst window"), lines, len(COLUMNS))


def _numbers(row: Row) -> list[str]:
    return [f"{row['balancedness']:.4f}", f"{row['gone']:.0%}", f"{row['moved_share']:.3f}", f"{row['median_ms']:.2f}"]


def _of_steps(rows: list[Row]) -> str:
    columns = ("tokens", "arrivals", "machine", "batch", "steps", *STEPS.values(), "imbalance gone", *MOVED)
    lines = [
        [
            *(row["stream"], row["order"], row["machine"]),
            *(f"{row['batch']:,}", f"{row['num_steps']:,}"),
            *(f"{row[key]:.4f}" for key in STEPS),
            *(f"{row['gone']:.0%}", f"{row['even_moved_share']:.3f}", f"{row['moved_share']:.3f}"),
        ]
        for row in rows
    ]
    return table(columns, lines, 3)
