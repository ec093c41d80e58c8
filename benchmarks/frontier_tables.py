"""The rows of the frontier as Markdown."""

from __future__ import annotations

from statistics import mean
from typing import Any

from machine import heading
from tables import Row, chosen, table
from traces import Case, described, in_means

COLUMNS = (
    "policy",
    "budget",
    "balancedness",
    "worst window",
    "moved",
    "largest replan",
    "most to a rank",
    "median ms",
    "frontier",
)
TEXTS = 2


def markdown(facts: dict[str, Any], rows: list[Row], found: list[Case]) -> str:
    """Return a summary for each interval, and a table for each trace and interval, under a heading."""
    how = (
        f"{facts['threads']} threads; at most {facts['history']} windows are shown; even split. "
        "Moves are shares of all slots. The oracle sees the windows that it is scored on."
    )
    parts = [f"# Balancedness against moves, {facts['date']}", heading(facts), how, described(found)]
    for interval in dict.fromkeys(row["interval"] for row in rows):
        parts += [f"## {_every(interval)}: balancedness / moved a window", _summary(chosen(rows, interval=interval))]
    for name, interval in dict.fromkeys((row["trace"], row["interval"]) for row in rows):
        own = chosen(rows, trace=name, interval=interval)
        parts += [f"### {name}, {_every(interval).lower()}", table(COLUMNS, map(_cells, own), TEXTS)]
    return "\n\n".join(parts)


def _every(interval: int) -> str:
    return "A plan every window" if interval == 1 else f"A plan every {interval} windows"


def _summary(rows: list[Row]) -> str:
    """Return a line a policy and budget, a column a trace, and the mean of the traces."""
    names = list(dict.fromkeys(row["trace"] for row in rows))
    lines = []
    for policy, budget in dict.fromkeys((row["policy"], row["budget"]) for row in rows):
        own = chosen(rows, policy=policy, budget=budget)
        lines.append([policy, budget, _mean(in_means(own)), *map(_point, own)])
    return table(("policy", "budget", "mean", *names), lines, TEXTS)


def _mean(rows: list[Row]) -> str:
    if any("error" in row for row in rows):
        return ""
    return _point({key: mean(row[key] for row in rows) for key in ("balancedness", "moved_share")})


def _point(row: Row) -> str:
    return "raised" if "error" in row else f"{row['balancedness']:.4f} / {row['moved_share']:.3f}"


def _cells(row: Row) -> list[str]:
    if "error" in row:
        return [row["policy"], row["budget"], f"raised {row['error']}".replace("|", "\\|"), *[""] * 6]
    return [
        row["policy"],
        row["budget"],
        f"{row['balancedness']:.4f}",
        f"{row['worst_window']:.4f}",
        f"{row['moved_share']:.3f}",
        f"{row['largest_moved_share']:.3f}",
        str(row["most_received"]),
        f"{row['median_ms']:.2f}",
        "*" if row["frontier"] else "",
    ]
