"""Run every benchmark and write dated results.

python benchmarks/run_all.py --peer deepseek=path/to/eplb.py:rebalance_experts
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent


def main(args: list[str] | None = None) -> None:
    """Parse the command line and run the benchmarks one after another."""
    options = _parser().parse_args(args)
    peers = [word for peer in options.peer for word in ("--peer", peer)]
    thorough = ["--thorough"] if options.thorough else []
    traces = ["--traces", str(options.traces)] if options.traces else []
    scripts = {
        "side_by_side": [*peers, *thorough],
        "frontier": [*peers, *traces],
        "ablation": traces,
        "next_window": [],
        "splitting": [],
        "splits": traces,
        "routing": [],
        "cost_model": [],
        "sweep": [],
        "report": [],
        "transfers": [],
        "migration": [],
        "start_up": [],
        "large": [],
    }
    for script, more in scripts.items():
        out = options.results / f"{date.today().isoformat()}-{script.replace('_', '-')}.md"
        command = [sys.executable, str(HERE / f"{script}.py"), "--out", str(out), "--note", options.note, *more]
        subprocess.run(command, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE.py:FUNCTION", help="may be repeated")
    parser.add_argument("--thorough", action="store_true", help='also effort="thorough", which takes minutes in all')
    parser.add_argument("--traces", type=Path, help="folder of recorded traces (default shared/traces beside it)")
    parser.add_argument("--note", default="", help="a line for the head of the results")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder (default benchmarks/results)")
    return parser


if __name__ == "__main__":
    main()
