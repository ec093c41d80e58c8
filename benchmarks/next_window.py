"""How long planning for the next window takes, from scratch and from the plan of a window before, and what it moves.

python benchmarks/next_window.py --out next-window.md
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from contenders import ARGSORT
from drifting import KINDS, windows_for
from machine import machine
from next_window_tables import markdown
from numpy.typing import NDArray
from options import parser_for
from shapes import SHAPES, Shape
from tables import Row, publish
from timing import side_by_side_ms

import eplb

Loads = NDArray[np.float64]

NUM_WINDOWS = 8
BUDGET = 0.1
SPLITS = ("even", "weighted")
DEFAULT_SHAPES = ("v3-global", "qwen3", "kimi")
STAY = "left as it was"
ONE, SCRATCH = "the last window alone", "from scratch"
INCREMENTAL = LIMITED, UNLIMITED, FREE = (
    "incremental, 10% budget",
    "incremental, no limit",
    "incremental, no limit, moves free",
)
WEIGHTED_SCRATCH, WEIGHTED_STAY = "weighted, from scratch", "weighted, left as it was"
WEIGHTED_INCREMENTAL = WEIGHTED_LIMITED, WEIGHTED_UNLIMITED = "weighted, 10% budget", "weighted, no limit"


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    chosen = {"threads": options.threads, "rounds": options.rounds, "seed": options.seed, "num_windows": NUM_WINDOWS}
    facts = {**machine(options.note), **chosen}
    rows = [row for name in options.shapes for row in measure(SHAPES[name], options)]
    publish(markdown(facts, rows), facts, rows, options.out)


def measure(shape: Shape, options: argparse.Namespace) -> list[Row]:
    """Return a row for each kind of loads and way to plan, and one for `numpy.argsort`; all of them take turns."""
    random = np.random.default_rng(options.seed).random((shape.num_layers, shape.num_slots), dtype=np.float32)
    rows: list[Row] = [{"shape": shape.name, "loads": "", "what": ARGSORT}]
    calls: dict[tuple[str, str], Callable[[], Any]] = {("", ARGSORT): lambda: np.argsort(random, axis=1)}
    for loads in KINDS:
        print(f"{shape.name}, {loads}", file=sys.stderr, flush=True)
        windows = windows_for(shape, loads, NUM_WINDOWS + 2, options.seed)
        before = {split: eplb.plan(windows[:NUM_WINDOWS], shape.topology, split=split).placement for split in SPLITS}
        found = _calls(shape, windows[1:-1], before["even"]) | _weighted_calls(shape, windows[1:-1], before["weighted"])
        rows += [_row(shape, loads, what, call(), windows[-1]) for what, call in found.items()]
        for what, split in ((STAY, "even"), (WEIGHTED_STAY, "weighted")):
            rows.append({"shape": shape.name, "loads": loads, "what": what, **_score(before[split], windows[-1])})
        calls |= {(loads, what): call for what, call in found.items()}
    print(f"{shape.name}: timing", file=sys.stderr, flush=True)
    return _with_times(rows, calls, options.threads, options.rounds)


def _calls(shape: Shape, windows: Loads, previous: eplb.Placement) -> dict[str, Callable[[], eplb.Plan]]:
    topology, budget = shape.topology, _budget(shape)
    return {
        ONE: partial(eplb.plan, windows[-1], topology),
        SCRATCH: partial(eplb.plan, windows, topology),
        LIMITED: partial(eplb.plan, windows, topology, previous=previous, max_moves=budget),
        UNLIMITED: partial(eplb.plan, windows, topology, previous=previous),
        FREE: partial(eplb.plan, windows, topology, previous=previous, move_cost=0),
    }


def _weighted_calls(shape: Shape, windows: Loads, previous: eplb.Placement) -> dict[str, Callable[[], eplb.Plan]]:
    plan = partial(eplb.plan, windows, shape.topology, split="weighted")
    return {
        WEIGHTED_SCRATCH: plan,
        WEIGHTED_LIMITED: partial(plan, previous=previous, max_moves=_budget(shape)),
        WEIGHTED_UNLIMITED: partial(plan, previous=previous),
    }


def _budget(shape: Shape) -> int:
    return int(BUDGET * shape.num_layers * shape.num_slots)


def _row(shape: Shape, loads: str, what: str, plan: eplb.Plan, next_window: Loads) -> Row:
    row: Row = {"shape": shape.name, "loads": loads, "what": what, **_score(plan.placement, next_window)}
    if what in (*INCREMENTAL, *WEIGHTED_INCREMENTAL):
        row |= {"moves": plan.moves, "moved_share": plan.moves / (shape.num_layers * shape.num_slots)}
    return row


def _score(placement: eplb.Placement, next_window: Loads) -> Row:
    even, weighted = (float(eplb.evaluate(placement, next_window, split).balancedness[0]) for split in SPLITS)
    return {"balancedness": even, "weighted_balancedness": weighted}


def _with_times(
    rows: list[Row], calls: dict[tuple[str, str], Callable[[], Any]], threads: list[int], rounds: int
) -> list[Row]:
    """Return `rows` with median milliseconds, and with ratios to argsort and to a plan of the last window alone."""
    keys = {(f"{loads}/{what}/{count}"): (loads, what, count) for loads, what in calls for count in threads}
    turns = {key: partial(_threaded, count, calls[loads, what]) for key, (loads, what, count) in keys.items()}
    times = {keys[key]: value for key, value in side_by_side_ms(turns, rounds).items()}
    return [{**row, "by_threads": [_times(row, times, count) for count in threads]} for row in rows]


def _threaded(threads: int, call: Callable[[], Any]) -> Any:
    os.environ["EPLB_NUM_THREADS"] = str(threads)
    return call()


def _times(row: Row, times: dict[tuple[str, str, int], float], threads: int) -> Row:
    own = times.get((row["loads"], row["what"], threads))
    if own is None:
        return {"threads": threads}
    ratios = {"x_argsort": own / times["", ARGSORT, threads]}
    if row["loads"]:
        ratios["x_one_window"] = own / times[row["loads"], ONE, threads]
    return {"threads": threads, "median_ms": own, **ratios}


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=DEFAULT_SHAPES)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each call (default 5)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="threads of eplb (default 1 2)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
