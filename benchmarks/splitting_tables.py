"""The rows of `splitting.py` as Markdown."""

from __future__ import annotations

from statistics import median
from typing import Any

from machine import heading
from shapes import SHAPES
from splitting_calls import ALL, ARGSORT, ONE, PLANNED
from tables import Row, chosen, table

TEXTS = {ONE: 1, ALL: 2}


def markdown(facts: dict[str, Any], rows: list[Row]) -> str:
    """Return for each shape a table of one layer and one of all layers, under a heading."""
    loads = " / ".join(dict.fromkeys(row["loads"] for row in rows))
    how = (
        f"{facts['rounds']} rounds, seed {facts['seed']}; the calls of a batch take turns. Entries with slashes: "
        f"{loads} loads; ratios: median over loads and placements. Tokens drifted by {facts['drift']:.0%} "
        "from the loads that the placement was planned for, for the even or the weighted split."
    )
    parts = [f"# The exact weighted split, {facts['date']}", heading(facts), how, _about_highs(facts, rows)]
    for name in dict.fromkeys(row["shape"] for row in rows):
        own = chosen(rows, shape=name)
        parts += [f"## {SHAPES[name].title}", _of_one(chosen(own, layers=ONE)), _of_all(chosen(own, layers=ALL))]
    return "\n\n".join(parts)


def _about_highs(facts: dict[str, Any], rows: list[Row]) -> str:
    if facts["scipy"] is None:
        return "HiGHS: not measured, as there was no scipy."
    worst = max(row["largest_difference"] for row in rows if "largest_difference" in row)
    return f"scipy {facts['scipy']}. HiGHS's largest rank loads and ours differ by {worst:.0e} of them at most."


def _of_one(rows: list[Row]) -> str:
    columns = ["one layer, one thread", *(f"us, planned {planned}" for planned in PLANNED)]
    lines = []
    for what in dict.fromkeys(row["what"] for row in rows):
        own = chosen(rows, what=what)
        ratios = [_middle(own, "x_argsort"), _middle(own, "highs_over_this")]
        lines.append([what, *(_slashed(own, planned, "median_us", 1, ".1f") for planned in PLANNED), *ratios])
    slowest = [row for row in rows if "slowest_layer_us" in row]
    times = [_slashed(slowest, planned, "slowest_layer_us", 1, ".1f") for planned in PLANNED]
    lines.insert(1, ["compiled, slowest layer", *times, "", ""])
    return table([*columns, f"x {ARGSORT}", "linprog takes x this"], lines, TEXTS[ONE])


def _of_all(rows: list[Row]) -> str:
    columns = ["all layers", "threads", *(f"ms, planned {planned}" for planned in PLANNED), f"x {ARGSORT}"]
    lines = []
    for what, threads in dict.fromkeys((row["what"], row["threads"]) for row in rows):
        own = chosen(rows, what=what, threads=threads)
        times = [_slashed(own, planned, "median_us", 1e-3, ".2f") for planned in PLANNED]
        lines.append([what, str(threads), *times, _middle(own, "x_argsort")])
    return table(columns, lines, TEXTS[ALL])


def _slashed(rows: list[Row], planned: str, key: str, factor: float, form: str) -> str:
    return " / ".join(format(row[key] * factor, form) for row in chosen(rows, planned=planned))


def _middle(rows: list[Row], key: str) -> str:
    values = [row[key] for row in rows if key in row]
    return f"{median(values):,.1f}" if values else ""
