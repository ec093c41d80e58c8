"""How a sweep scales: the same 500 settings on the bundled trace by one worker and by several, in turns.

python benchmarks/sweep.py --out sweep.md
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from machine import heading, machine
from options import parser_for
from tables import publish, table

import eplb
from eplb.advising import Setting, grid, sweep

CHOICES = {
    "num_ranks": 8,
    "slots_per_rank": [5, 6, 7, 8, 9],
    "interval": [1, 2, 4, 8],
    "threshold": [0.0, 0.02, 0.05, 0.1, 0.2],
    "max_moves_share": [0.02, 0.05, 0.1, 0.3, 1.0],
}
COLUMNS = ("workers", "median s", "trials/s", "x one worker", "processor s", "runs")


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    facts = machine(options.note)
    trace = eplb.LoadTrace.load(files("eplb") / "data" / "tiny_moe.npz")
    settings = grid(CHOICES)[:: options.every]
    eplb.warm_up("even")
    rows = measured(trace, settings, options.workers, options.rounds)
    publish(markdown(facts, rows, len(settings)), facts, rows, options.out)


def measured(
    trace: eplb.LoadTrace, settings: list[Setting], workers: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """Return wall and processor seconds of whole sweeps, start and end of workers included, for each number of workers.

    Raises
    ------
    RuntimeError
        If two sweeps do not write the same table.
    """
    runs: dict[int, list[tuple[float, float]]] = {number: [] for number in workers}
    tables = set()
    for _ in range(rounds):
        for number in workers:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "grid.csv"
                start, busy = time.perf_counter(), _processor_seconds()
                sweep({"tiny_moe": trace}, settings, out, workers=number)
                runs[number].append((time.perf_counter() - start, _processor_seconds() - busy))
                tables.add(out.read_bytes())
            print(f"{number} workers", *runs[number][-1], file=sys.stderr, flush=True)
    if len(tables) > 1:
        raise RuntimeError(f"{len(tables)} different tables were written")
    return [_row(number, runs[number], len(settings), median(s for s, _ in runs[workers[0]])) for number in workers]


def markdown(facts: dict[str, Any], rows: list[dict[str, Any]], num_settings: int) -> str:
    """Return one table under a heading."""
    cells = [
        (
            f"{row['workers']}",
            f"{row['median_s']:.1f}",
            f"{row['trials_per_s']:.2f}",
            f"{row['speedup']:.2f}",
            f"{row['processor_s']:.1f}",
            f"{row['runs']}",
        )
        for row in rows
    ]
    what = (
        f"{num_settings} settings of 8 ranks on the bundled trace (96 windows x 6 layers x 32 experts), policy eplb: "
        "whole sweeps in turns, with the start of the workers. All wrote the same bytes. *Processor s*: used by the "
        "sweep and its workers; where other work takes processors, they say whether the work grows with workers."
    )
    return "\n\n".join([f"# Sweep, {facts['date']}", heading(facts), what, table(COLUMNS, cells, num_texts=0)])


def _row(number: int, runs: list[tuple[float, float]], num_settings: int, one_s: float) -> dict[str, Any]:
    seconds = median(s for s, _ in runs)
    return {
        "workers": number,
        "median_s": seconds,
        "trials_per_s": num_settings / seconds,
        "speedup": one_s / seconds,
        "processor_s": median(s for _, s in runs),
        "runs": len(runs),
    }


def _processor_seconds() -> float:
    """Return what this process and those of its children that ended have used."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="the first is what others are held against"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--every", type=int, default=1, help="take every N-th setting (default 1: all 500)")
    return parser


if __name__ == "__main__":
    main()
