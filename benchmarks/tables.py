"""The rows of a run as Markdown for readers and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from contenders import ARGSORT, REFERENCE
from machine import heading
from shapes import SHAPES

Row = dict[str, Any]

COLUMNS = ("planner", "balancedness", "below bound", "duplicates", "median ms", f"x {REFERENCE}", "peak MB", "remarks")


def write(facts: dict[str, Any], rows: list[Row], out: Path | None) -> None:
    """Print the tables of `rows`; with `out`, write them there and the rows beside it as `.json`."""
    publish(markdown(facts, rows), facts, rows, out)


def publish(text: str, facts: dict[str, Any], rows: list[Row], out: Path | None) -> None:
    """Print `text`; with `out`, write it there, and the facts of the machine and the rows beside it as `.json`."""
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
        content = json.dumps({"machine": facts, "rows": rows}, indent=1, allow_nan=False)
        out.with_suffix(".json").write_text(content + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], num_texts: int = 1) -> str:
    """Return a Markdown table; the first `num_texts` columns are text, the others are numbers."""
    rule = ["---"] * num_texts + ["---:"] * (len(columns) - num_texts)
    return "\n".join(map(_line, [columns, rule, *rows]))


def chosen(rows: list[Row], **values: Any) -> list[Row]:
    """Return the rows that have all these values."""
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def markdown(facts: dict[str, Any], rows: list[Row]) -> str:
    """Return one table for each shape, with a column entry for each load, under a heading."""
    names = list(dict.fromkeys(row["loads"] for row in rows))
    parts = [
        f"# Planners side by side, {facts['date']}",
        heading(facts),
        f"{facts['threads']} threads, seed {facts['seed']}, {facts['rounds']} rounds. "
        f"Entries with slashes: {' / '.join(names)} loads. Milliseconds, ratios and memory: median over the loads.",
    ]
    for shape in dict.fromkeys(row["shape"] for row in rows):
        parts.append(f"## {SHAPES[shape].title}")
        parts.append(_table([row for row in rows if row["shape"] == shape]))
        parts.append(_beside_argsort([row for row in rows if row["shape"] == shape], shape))
    return "\n\n".join(parts)


def _table(rows: list[Row]) -> str:
    planners = dict.fromkeys(row["planner"] for row in rows)
    bound = ["upper bound", _shares(_per_load(rows, "bound")), *[""] * (len(COLUMNS) - 2)]
    lines = [_line(COLUMNS), _line("---" for _ in COLUMNS), _line(bound)]
    lines += [_line(_cells(name, [row for row in rows if row["planner"] == name])) for name in planners]
    return "\n".join(lines)


def _beside_argsort(rows: list[Row], shape: str) -> str:
    ratios = [1 / row["ratio"] for row in rows if row["planner"] == ARGSORT]
    size = f"[{SHAPES[shape].num_layers}, {SHAPES[shape].num_slots}]"
    each = " / ".join(f"{ratio:.1f}" for ratio in ratios)
    return f"{REFERENCE} takes {each} times as long as `numpy.argsort` of random float32 {size}."


def _per_load(rows: list[Row], key: str) -> list[float]:
    """Return the value of `key` once for each load, in order; of rows that have it."""
    return list({row["loads"]: row[key] for row in rows if key in row}.values())


def _cells(name: str, rows: list[Row]) -> list[str]:
    return [
        name,
        _shares(_per_load(rows, "balancedness")),
        _shares(_per_load(rows, "below_bound")),
        "/".join(str(row["duplicates"]) for row in rows if "duplicates" in row),
        _middle(rows, "median_ms", ".2f"),
        _middle(rows, "ratio", ".2f"),
        _middle(rows, "peak_mb", ".1f"),
        _remarks(rows),
    ]


def _remarks(rows: list[Row]) -> str:
    remarks = list(dict.fromkeys(f"raised {row['error']}" for row in rows if "error" in row))
    if any(row.get("split_groups") for row in rows):
        remarks.append("splits groups over nodes")
    if any(row.get("changed_input") for row in rows):
        remarks.append("changes its input")
    return "; ".join(remarks).replace("|", "\\|").replace("\n", " ")


def _shares(values: list[float]) -> str:
    return "/".join(f"{value:.4f}".replace("0.", ".", 1).replace("-.0000", ".0000") for value in values)


def _middle(rows: list[Row], key: str, form: str) -> str:
    values = [row[key] for row in rows if row.get(key) is not None]
    return format(median(values), form) if values else ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
