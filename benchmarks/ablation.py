"""What each term of the planner is worth: balancedness of windows that no plan has seen, with the term taken out.

python benchmarks/ablation.py --out ablation.md
"""

from __future__ import annotations

import argparse
import os
import sys
from statistics import mean, stdev
from typing import Any

from machine import heading, machine
from options import parser_for
from tables import Row, chosen, publish, table
from traces import Case, add_options, cases, described, in_means
from variants import FULL, variants

from eplb.replay import replay

HISTORY = 24
SETTINGS = {  # share of the slots that a plan may move, and what a move costs
    "a budget of 10%, the default price": (0.1, None),
    "no limit, moves free": (1.0, 0.0),
}


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    os.environ["EPLB_NUM_THREADS"] = str(options.threads)
    facts = {**machine(options.note), "threads": options.threads, "history": HISTORY}
    found = cases(options.traces, options.only)
    rows = [row for case in found for setting in SETTINGS for row in measure(case, setting)]
    publish(markdown(facts, rows, found), facts, rows, options.out)


def measure(case: Case, setting: str) -> list[Row]:
    """Return a row for each variant of the planner."""
    print(f"{case.name}, {setting}", file=sys.stderr, flush=True)
    share, move_cost = SETTINGS[setting]
    rows = []
    for variant in variants(move_cost):
        found = replay(case.trace, case.topology, variant, history=HISTORY, first=case.first, max_moves_share=share)
        row = {"trace": case.name, "in_time": case.in_time, "setting": setting, "variant": variant.name}
        rows.append({**row, "balancedness": found.mean_balancedness, "moved_share": found.moved_share})
    return rows


def markdown(facts: dict[str, Any], rows: list[Row], found: list[Case]) -> str:
    """Return a table for each setting under a heading."""
    how = f"A plan every window, at most {facts['history']} windows are shown; even split; effort balanced."
    parts = [f"# The terms of the planner, one taken out at a time, {facts['date']}", heading(facts), how]
    parts.append(described(found))
    for setting in SETTINGS:
        parts += [f"## Balancedness with {setting}", _table(chosen(rows, setting=setting))]
    return "\n\n".join(parts)


def _table(rows: list[Row]) -> str:
    """Return a line a variant and a column a trace."""
    names = list(dict.fromkeys(row["trace"] for row in rows))
    full = chosen(rows, variant=FULL)
    columns = ("planner", "mean", "less full", "better than full", "moved", *names)
    return table(
        columns, (_cells(chosen(rows, variant=name), full) for name in dict.fromkeys(r["variant"] for r in rows))
    )


def _cells(rows: list[Row], full: list[Row]) -> list[str]:
    counted = in_means(rows)
    moved = mean(row["moved_share"] for row in counted)
    return [
        rows[0]["variant"],
        f"{mean(row['balancedness'] for row in counted):.4f}",
        *(("", "") if rows == full else _beside(counted, in_means(full))),
        f"{moved:.3f}",
        *(f"{row['balancedness']:.4f}" for row in rows),
    ]


def _beside(rows: list[Row], full: list[Row]) -> tuple[str, str]:
    """Return the mean difference to the full planner with its standard error over traces, and how often it is above."""
    less = [row["balancedness"] - other["balancedness"] for row, other in zip(rows, full, strict=True)]
    error = f" ± {stdev(less) / len(less) ** 0.5:.4f}" if len(less) > 1 else ""
    return f"{mean(less):+.4f}{error}", f"{sum(difference > 0 for difference in less)} of {len(less)}"


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    add_options(parser)
    parser.add_argument("--threads", type=int, default=2, help="threads of eplb (default 2)")
    return parser


if __name__ == "__main__":
    main()
