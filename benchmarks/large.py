"""Time and peak memory of a plan far larger than any model of today, each in a fresh process.

python benchmarks/large.py --out large.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

from machine import heading, machine
from options import parser_for
from shapes import LOADS, Shape, loads_for
from tables import publish
from timing import peak_megabytes

import eplb

LARGE = Shape(name="large", num_layers=1_000, num_experts=1_024, num_slots=2_048, num_ranks=256)
CALLS = 5


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    if options.child:
        print(json.dumps(measure(options.child, options.effort)))
        return
    facts = {**machine(options.note), "threads": options.threads}
    rows = [_in_child(loads, options) for loads in LOADS]
    publish(markdown(facts, rows), facts, rows, options.out)


def measure(loads_name: str, effort: str) -> dict[str, Any]:
    """Return the rise of memory in the first plan of this process, and the median seconds of the next ones."""
    loads = loads_for(LARGE, loads_name)
    eplb.warm_up()
    plan, peak = peak_megabytes(lambda: eplb.plan(loads, LARGE.topology, effort=effort))
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        eplb.plan(loads, LARGE.topology, effort=effort)
        seconds.append(time.perf_counter() - start)
    return {
        "loads": loads_name,
        "effort": effort,
        "median_s": median(seconds),
        "peak_mb": peak,
        "result_mb": plan.placement.physical_to_logical.nbytes / 1e6 + plan.placement.replica_counts.nbytes / 1e6,
        "balancedness": plan.certificate.balancedness,
        "gap": plan.certificate.gap,
    }


def markdown(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return one table under a heading."""
    lines = ["| loads | effort | median s | peak MB above start | result MB | balancedness | gap |", "|" + "---|" * 7]
    for row in rows:
        peak = "" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
        lines.append(
            f"| {row['loads']} | {row['effort']} | {row['median_s']:.2f} | {peak} | {row['result_mb']:.0f} "
            f"| {row['balancedness']:.4f} | {row['gap']:.3%} |"
        )
    shape = f"{LARGE.title}. {facts['threads']} threads; median of {CALLS} plans after the first."
    return "\n\n".join([f"# A large plan, {facts['date']}", heading(facts), shape, "\n".join(lines)])


def _in_child(loads: str, options: argparse.Namespace) -> dict[str, Any]:
    print(f"large: {loads}", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--child", loads, "--effort", options.effort]
    environment = {**os.environ, "EPLB_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--threads", type=int, default=2, help="threads of eplb (default 2)")
    parser.add_argument("--child", choices=LOADS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
