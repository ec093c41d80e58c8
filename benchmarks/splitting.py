"""What the exact weighted split of a batch costs, beside a linear program and beside sorting the same loads.

python benchmarks/splitting.py --out splitting.md
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from machine import machine
from options import parser_for
from shapes import DEFAULT_SHAPES, LOADS, SHAPES, Shape, loads_for
from splitting_calls import ARGSORT, HIGHS, ONE, PLANNED, Batch, calls_for, difference, scipy_version, slowest_us
from splitting_tables import markdown
from tables import Row, chosen, publish
from timing import side_by_side_ms

import eplb

DRIFT = 0.2  # experts of the batch are that much more or less popular than they were when the placement was planned


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    more = {"threads": options.threads, "rounds": options.rounds, "seed": options.seed, "drift": DRIFT}
    facts = {**machine(options.note), **more, "scipy": scipy_version()}
    if facts["scipy"] is None:
        print("skipped HiGHS: no scipy here; pip install scipy", file=sys.stderr, flush=True)
    rows = [row for name in options.shapes for row in measure(SHAPES[name], options)]
    publish(markdown(facts, rows), facts, rows, options.out)


def measure(shape: Shape, options: argparse.Namespace) -> list[Row]:
    """Return a row for each kind of loads, placement, and way to split; those of a batch take turns."""
    rows: list[Row] = []
    for loads in options.loads:
        print(f"{shape.name}, {loads}", file=sys.stderr, flush=True)
        for planned in PLANNED:
            cell = {"shape": shape.name, "loads": loads, "planned": planned}
            rows += [{**cell, **row} for row in _times(batch_for(shape, loads, planned, options.seed), options)]
    return rows


def batch_for(shape: Shape, loads: str, planned: str, seed: int) -> Batch:
    """Return whole tokens that drifted from `loads`, and a placement that was planned for what they were before."""
    before = loads_for(shape, loads, seed).astype(np.float64)
    tokens = np.rint(before * np.random.default_rng(seed).lognormal(0.0, DRIFT, before.shape))
    placement = eplb.plan(before, shape.topology, groups=shape.num_groups, split=planned).placement
    return Batch(placement=placement, tokens=tokens)


def _times(batch: Batch, options: argparse.Namespace) -> list[Row]:
    """Return a row for each way to split a batch, with ratios to sorting and of the linear program to it."""
    calls = calls_for(batch, options.threads)
    medians = side_by_side_ms({"/".join(map(str, key)): call for key, call in calls.items()}, options.rounds)
    rows: list[Row] = []
    for layers, what, threads in calls:
        own = medians[f"{layers}/{what}/{threads}"]
        row: Row = {"layers": layers, "what": what, "threads": threads, "median_us": own * 1e3}
        row["x_argsort"] = own / medians[f"{layers}/{ARGSORT}/1"]
        if layers == ONE and f"{ONE}/{HIGHS}/1" in medians:
            row["highs_over_this"] = medians[f"{ONE}/{HIGHS}/1"] / own
        rows.append(row)
    _find(rows, ONE, "compiled")["slowest_layer_us"] = slowest_us(batch)
    if scipy_version() is not None:
        _find(rows, ONE, HIGHS)["largest_difference"] = difference(batch)
    return rows


def _find(rows: list[Row], layers: str, what: str) -> Row:
    return chosen(rows, layers=layers, what=what)[0]


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=DEFAULT_SHAPES)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=tuple(LOADS))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each call (default 9)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="threads for all layers (default 1 2)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
