"""The rows of planning for the next window as Markdown."""

from __future__ import annotations

from typing import Any

from contenders import ARGSORT
from machine import heading
from shapes import SHAPES
from tables import Row, chosen, table

COLUMNS = ("loads", "plan", "median ms", f"x {ARGSORT}", "x one window", "moves", "of all slots")
SCORES = ("next window", "next window, weighted split")


def markdown(facts: dict[str, Any], rows: list[Row]) -> str:
    """Return a table for each shape under a heading."""
    how = (
        f"{facts['num_windows']} windows, effort balanced, seed {facts['seed']}; all calls of a shape take turns, "
        f"{facts['rounds']} each. Previous: the plan of as many windows that begin one earlier. "
        f"Entries with slashes: {' / '.join(map(str, facts['threads']))} threads."
    )
    parts = [f"# Planning for the next window, {facts['date']}", heading(facts), how]
    for name in dict.fromkeys(row["shape"] for row in rows):
        parts += [f"## {SHAPES[name].title}", table((*COLUMNS, *SCORES), map(_cells, chosen(rows, shape=name)), 2)]
    return "\n\n".join(parts)


def _cells(row: Row) -> list[str]:
    return [
        row["loads"],
        row["what"],
        _slashed(row, "median_ms", ".2f"),
        _slashed(row, "x_argsort", ".1f"),
        _slashed(row, "x_one_window", ".2f"),
        f"{row['moves']:,}" if "moves" in row else "",
        f"{row['moved_share']:.3f}" if "moves" in row else "",
        *(f"{row[key]:.4f}" if key in row else "" for key in ("balancedness", "weighted_balancedness")),
    ]


def _slashed(row: Row, key: str, form: str) -> str:
    return " / ".join(format(times[key], form) for times in row["by_threads"] if key in times)
