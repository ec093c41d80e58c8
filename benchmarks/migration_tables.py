"""The rows of `migration.py` as Markdown."""

from __future__ import annotations

from typing import Any

from machine import heading
from tables import Row, table

NAMES = {
    "bare": "bare isend and irecv",
    "copied": "the same, then copied into place",
    "migrate": "Migrator",
    "unchecked": "Migrator, checksums taken out",
    "half": "Migrator, half the staging",
}
READING = (
    "Four processes, one thread each. *Bare* posts the messages of a layer at once, into buffers that are there, and "
    "waits for them; it checks and decides nothing, and leaves what came in the buffers. The ways take turns in every "
    "round; the ratio is the median over rounds of the time beside the bare one of the same round, and that of the "
    "medians. Processor seconds are those of all ranks; what the kernel does for sockets is only partly in them."
)
PHASES = (
    "Means over ranks of the medians. *transfer* is waiting for messages, *check* computing and comparing checksums, "
    "some of it while messages arrive, *decide* both meetings of a commit, waiting for the slowest rank included."
)


def markdown(facts: dict[str, Any], rows: list[Row]) -> str:
    """Return times, phases and memory, under a heading."""
    shape = (
        f"{facts['layers']} layers, {facts['moved']} experts of {facts['expert_bytes'] / 1e6:.2f} MB to each rank and "
        f"layer: {rows[0]['moved_mb']:.0f} MB in all, fp8 with scales, four parameters an expert; "
        f"{facts['rounds']} rounds."
    )
    parts = [f"# Moving weights, {facts['date']}", heading(facts), shape, READING, _times(rows)]
    parts += ["## Seconds of a rank by phase", PHASES, _phases(rows)]
    return "\n\n".join([*parts, "## Staging memory of a rank, MB", _memory(rows)])


def _times(rows: list[Row]) -> str:
    lines = [
        [
            *(NAMES[row["way"]], f"{row['median_s']:.3f}", f"{row['ratio']:.2f}"),
            *(f"{row['ratio_of_medians']:.2f}", f"{row['cpu_s']:.2f}"),
        ]
        for row in rows
    ]
    return table(["way", "median s", "ratio", "ratio of medians", "processor s"], lines)


def _phases(rows: list[Row]) -> str:
    moved = [row for row in rows if "phases" in row]
    names = list(moved[0]["phases"])
    lines = [[NAMES[row["way"]], *(f"{row['phases'][name]:.3f}" for name in names)] for row in moved]
    return table(["way", *names], lines)


def _memory(rows: list[Row]) -> str:
    sizes = ("limit_mb", "staging_mb", "risen_mb")
    lines = [
        [NAMES[row["way"]], str(row["commits"]), *(f"{row[size]:.1f}" for size in sizes)]
        for row in rows
        if "phases" in row
    ]
    return table(["way", "commits", "promised", "staging buffer", "resident memory rose by"], lines)
