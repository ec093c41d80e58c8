"""The rows of `routing.py` as Markdown."""

from __future__ import annotations

from typing import Any

from machine import heading
from tables import Row, chosen, table

BALANCE = (
    "Every rank routes as many tokens; medians of 16 batches. Placement and weights are made for what experts get on "
    "average; in each batch they are a fifth more or less popular. Only the exact split knows the batch."
)


def markdown(facts: dict[str, Any], rows: list[Row]) -> str:
    """Return one table of times for each batch, and one of balance, under a heading."""
    parts = [f"# Choosing replicas for tokens, {facts['date']}", heading(facts)]
    parts.append(
        f"Layer 0 of {facts['shape']}. {facts['rounds']} rounds, seed {facts['seed']}; torch on "
        f"{facts['torch_threads']} of the CPU's threads, eplb on one. GPU: {facts['gpu']}."
    )
    times = chosen(rows, kind="time")
    for batch in dict.fromkeys(row["batch"] for row in times):
        parts += [
            f"## {batch}: median microseconds (times the gather)",
            _times(chosen(times, batch=batch)),
        ]
    balance = chosen(rows, kind="balance")
    return "\n\n".join([*parts, "## Balance and distance", BALANCE, _balance(balance)])


def _times(rows: list[Row]) -> str:
    columns = list(dict.fromkeys((row["library"], row["dtype"]) for row in rows))
    lines = [
        [what, *(_cell(chosen(rows, what=what, library=library, dtype=dtype)) for library, dtype in columns)]
        for what in dict.fromkeys(row["what"] for row in rows)
    ]
    return table(["", *(" ".join(column) for column in columns)], lines)


def _cell(rows: list[Row]) -> str:
    return f"{rows[0]['median_us']:.1f} ({rows[0]['ratio']:.2f})"


def _balance(rows: list[Row]) -> str:
    columns = ["way", "tokens a rank", "largest / mean", "on their rank", "on their node"]
    lines = [
        [
            row["what"],
            str(row["tokens"]),
            f"{row['largest_over_mean']:.3f}",
            f"{row['on_rank']:.1%}",
            f"{row['on_node']:.1%}",
        ]
        for row in rows
    ]
    return table(columns, lines)
