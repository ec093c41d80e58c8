"""Measure our planner beside any function with DeepSeek's signature, in one process, on the same loads.

python benchmarks/side_by_side.py --peer deepseek=path/to/eplb.py:rebalance_experts --out results.md
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import numpy as np
import tables
from contenders import ARGSORT, REFERENCE, Contender, ours, peer
from machine import machine
from numpy.typing import NDArray
from options import parser_for
from scoring import score
from shapes import DEFAULT_SHAPES, LOADS, SHAPES, Shape, loads_for
from timing import peak_megabytes, side_by_side_ms

import eplb


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    os.environ["EPLB_NUM_THREADS"] = str(options.threads)
    _limit_torch(options.threads)
    facts = {**machine(options.note), "threads": options.threads, "seed": options.seed, "rounds": options.rounds}
    contenders = [*ours(options.thorough), *map(peer, options.peer)]
    rows = []
    for shape in (SHAPES[name] for name in options.shapes):
        for loads in options.loads:
            rows += measure(shape, loads, contenders, options.rounds, options.seed)
    tables.write(facts, rows, options.out)


def measure(shape: Shape, loads_name: str, contenders: list[Contender], rounds: int, seed: int) -> list[dict[str, Any]]:
    """Return one row for each contender, and one for `numpy.argsort` of as many floats as there are slots."""
    loads = loads_for(shape, loads_name, seed)
    bound = _bound(loads, shape, thorough=any(contender.name.endswith("thorough") for contender in contenders))
    rows, calls = [], {}
    for contender in contenders:
        _say(f"{shape.name} {loads_name}: {contender.name}")
        row, call = _first_call(contender, shape, loads, bound)
        rows.append({"shape": shape.name, "loads": loads_name, "planner": contender.name, "bound": bound.mean(), **row})
        if call is not None:
            calls[contender.name] = call
    random = np.random.default_rng(seed).random((shape.num_layers, shape.num_slots), dtype=np.float32)
    calls[ARGSORT] = lambda: np.argsort(random, axis=1)
    rows.append({"shape": shape.name, "loads": loads_name, "planner": ARGSORT})
    _say(f"{shape.name} {loads_name}: timing")
    times = side_by_side_ms(calls, rounds)
    for row in rows:
        milliseconds = times.get(row["planner"])
        if milliseconds is not None and np.isnan(milliseconds):
            row["error"] = "raised when called again"
        elif milliseconds is not None:
            row |= {"median_ms": milliseconds, "ratio": milliseconds / times[REFERENCE]}
    return rows


def _first_call(
    contender: Contender, shape: Shape, loads: NDArray[np.float32], bound: NDArray[np.float64]
) -> tuple[dict[str, Any], Any]:
    """Return the score and peak memory of a plan, and the call to time; of a planner that raises, what it raised."""
    own = contender.read(loads)
    try:
        contender.plan(contender.read(loads), shape)  # compiles, and starts threads
        result, peak = peak_megabytes(lambda: contender.plan(own, shape))
        found = score(contender.slots(result), loads, shape, bound)
    except Exception as exc:
        return {"error": f"{type(exc).__name__}: {exc}"}, None
    return {
        "balancedness": found.balancedness,
        "below_bound": found.below_bound,
        "duplicates": found.duplicates,
        "split_groups": found.split_groups,
        "changed_input": not np.array_equal(np.asarray(own), loads),
        "peak_mb": peak,
    }, lambda: contender.plan(own, shape)


def _bound(loads: NDArray[np.float32], shape: Shape, thorough: bool) -> NDArray[np.float64]:
    """Return the balancedness that no plan of each layer exceeds: the best proof of the efforts that take part."""
    efforts = ("balanced", "thorough") if thorough else ("balanced",)
    plans = [eplb.plan(loads, shape.topology, groups=shape.num_groups, effort=effort) for effort in efforts]
    return np.min([plan.certificate.per_layer.best_balancedness for plan in plans], axis=0)


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE.py:FUNCTION", help="may be repeated")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=DEFAULT_SHAPES)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=tuple(LOADS))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each planner (default 9)")
    parser.add_argument("--threads", type=int, default=2, help="threads of eplb and of torch (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thorough", action="store_true", help='also effort="thorough", which takes seconds')
    return parser


def _limit_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
