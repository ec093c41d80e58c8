"""What the weighted split is worth: balancedness of windows, and of decode steps, that no plan has seen.

python benchmarks/splits.py --out splits.md
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from machine import machine
from options import parser_for
from remembered import Remembered
from sources import SOURCES
from split_machines import MACHINES, gone, topology_for
from split_steps import measure_steps, streams
from splits_tables import KNOWS_NONE, NO_LIMIT, markdown, reference_budget
from tables import Row, chosen, publish
from traces import Case, add_options, cases

from eplb.replay import EplbPolicy, OraclePolicy, Policy, policy_named, replay

BUDGETS = (0.02, 0.1, 1.0)
HISTORY = 24
SCORED = {"even": ("even", "weighted", "weighted-lagged"), "weighted": ("weighted", "weighted-lagged")}
Entrant = tuple[Policy, str, float, tuple[str, ...]]


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    os.environ["EPLB_NUM_THREADS"] = str(options.threads)
    facts = {**machine(options.note), "threads": options.threads, "history": HISTORY}
    found = cases(options.traces, options.only)
    rows = [row for name in options.machines for case in found for row in measure(case, name, options.budgets)]
    for stream in streams(options.traces, options.streams):
        rows += measure_steps(*stream, options.machines, HISTORY)
    publish(markdown(facts, rows, found), facts, rows, options.out)


def measure(case: Case, name: str, budgets: Sequence[float] = BUDGETS) -> list[Row]:
    """Return a row for each policy, budget and split, on the machine called `name`."""
    print(f"{case.name}, {name}", file=sys.stderr, flush=True)
    rows: list[Row] = []
    for policy, budget, share, splits in _entrants(budgets):
        rows += [
            {"kind": "windows", "trace": case.name, "in_time": case.in_time, "machine": name, "budget": budget, **row}
            for row in _scored(case, name, Remembered(policy), getattr(policy, "split", "even"), share, splits)
        ]
    even = {row["budget"]: row["balancedness"] for row in chosen(rows, policy="eplb", planned="even", scored="even")}
    return [{**row, "gone": gone(row["balancedness"], even[reference_budget(row["budget"])])} for row in rows]


def _entrants(budgets: Sequence[float]) -> Iterator[Entrant]:
    """Yield each policy with its budget, in words and as a share of the slots, and the splits that it is scored by."""
    yield policy_named("deepseek"), KNOWS_NONE, 1.0, ("even", "weighted")
    for share in budgets:
        for planned, splits in SCORED.items():
            yield EplbPolicy(split=planned), NO_LIMIT if share == 1 else f"{share:.0%}", share, splits
    for planned in SCORED:
        yield OraclePolicy(split=planned), KNOWS_NONE, 1.0, (planned,)


def _scored(
    case: Case, name: str, policy: Remembered, planned: str, share: float, splits: tuple[str, ...]
) -> Iterator[Row]:
    """Yield a row for each split; planned once."""
    topology = topology_for(name, case.trace.num_experts)
    median_ms = None
    for split in splits:
        options = {"history": HISTORY, "first": case.first, "max_moves_share": share, "split": split}
        found = replay(case.trace, topology, policy, **options)
        policy.again()
        median_ms = found.median_planning_seconds * 1e3 if median_ms is None else median_ms
        yield {
            "policy": policy.name,
            "planned": planned,
            "scored": split,
            "balancedness": found.mean_balancedness,
            "worst_window": found.worst_window[1],
            "moved_share": found.moved_share,
            "median_ms": median_ms,
        }


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    add_options(parser)
    parser.set_defaults(only=tuple(name for name, source in SOURCES.items() if source.in_time))
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=tuple(MACHINES), help="ranks x slots")
    parser.add_argument("--streams", nargs="*", help="files of token ids to decode anew (default all that are there)")
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS, help="shares that may move (1: no limit)")
    parser.add_argument("--threads", type=int, default=2, help="threads of eplb (default 2)")
    return parser


if __name__ == "__main__":
    main()
