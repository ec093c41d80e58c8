"""What a fresh process waits for: the import, the first plan with compiled code on disk, and the first plan ever.

python benchmarks/start_up.py --out start-up.md
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median
from typing import Any

from machine import heading, machine
from options import parser_for
from tables import publish

IMPORT = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""
FIRST_PLAN = """
import time
import eplb, numpy
loads = numpy.random.default_rng(0).lognormal(size=(58, 256))
topology = eplb.Topology(num_ranks=32, slots_per_rank=9)
start = time.perf_counter()
eplb.plan(loads, topology)
print(time.perf_counter() - start)
"""


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    facts = machine(options.note)
    _seconds(FIRST_PLAN)  # compiles
    warm, cold = options.repeats, options.cold_repeats
    rows = [
        _row("import numpy", [_seconds(IMPORT.format(module="numpy")) for _ in range(warm)]),
        _row("import eplb, numpy included", [_seconds(IMPORT.format(module="eplb")) for _ in range(warm)]),
        _row("first plan, compiled code on disk", [_seconds(FIRST_PLAN) for _ in range(warm)]),
        _row("first plan, nothing on disk", [_cold() for _ in range(cold)]),
    ]
    publish(markdown(facts, rows), facts, rows, options.out)


def markdown(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return one table under a heading."""
    lines = ["| fresh process | median s | least s | processes |", "|---|---|---|---|"]
    lines += [f"| {row['what']} | {row['median_s']:.2f} | {row['least_s']:.2f} | {row['processes']} |" for row in rows]
    shape = "Plans: 58 layers x 256 experts -> 288 slots on 32 ranks, effort balanced; the time of the call alone."
    return "\n\n".join([f"# Start-up, {facts['date']}", heading(facts), shape, "\n".join(lines)])


def _cold() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _seconds(FIRST_PLAN, NUMBA_CACHE_DIR=folder)


def _seconds(code: str, **environment: str) -> float:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _row(what: str, seconds: list[float]) -> dict[str, Any]:
    print(what, seconds, file=sys.stderr, flush=True)
    return {"what": what, "median_s": median(seconds), "least_s": min(seconds), "processes": len(seconds)}


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="processes with compiled code on disk (default 9)")
    parser.add_argument("--cold-repeats", type=int, default=3, help="processes that compile (default 3)")
    return parser


if __name__ == "__main__":
    main()
