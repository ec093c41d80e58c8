"""The rows of `transfers.py` as Markdown."""

from __future__ import annotations

from typing import Any

from machine import heading
from tables import Row, table

GOALS = {
    "largest_far_sends": "most sends between nodes of a rank",
    "largest_sends": "most sends of a rank",
    "far": "sends between nodes",
    "rounds": "rounds",
}


def markdown(facts: dict[str, Any], rows: list[Row]) -> str:
    """Return a table of times and one of what the choice of sources saves, under a heading."""
    return "\n\n".join(
        [
            f"# Planning transfers, {facts['date']}",
            heading(facts),
            f"{facts['shape']}. {facts['threads']} threads, {facts['rounds']} rounds, seed {facts['seed']}.",
            "## Time and memory",
            "`plan_transfers`, from placements to sources, rounds and copies, beside `numpy.argsort` of the new rows.",
            _times(rows),
            "## Sources",
            "Sums over layers: as planned / from the lowest rank that holds the expert. In both, rounds are as few "
            "as the sources allow.",
            _sources(rows),
        ]
    )


def _times(rows: list[Row]) -> str:
    columns = ["", "transfers", "of the slots", "median ms", "x argsort", "peak MB"]
    lines = [
        [
            row["what"],
            str(row["transfers"]),
            f"{row['moved_share']:.1%}",
            f"{row['median_ms']:.2f}",
            f"{row['ratio']:.1f}",
            "" if row["peak_mb"] is None else f"{row['peak_mb']:.1f}",
        ]
        for row in rows
    ]
    return table(columns, lines)


def _sources(rows: list[Row]) -> str:
    lines = [[row["what"], *(f"{row['ours'][key]} / {row['lowest'][key]}" for key in GOALS)] for row in rows]
    return table(["", *GOALS.values()], lines)
