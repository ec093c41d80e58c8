"""Balancedness of windows that no plan has seen, against what each policy moves for it.

python benchmarks/frontier.py --peer deepseek-original=path/to/eplb.py:rebalance_experts --out frontier.md
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from frontier_tables import markdown
from machine import machine
from options import parser_for
from tables import Row, publish
from traces import Case, add_options, cases

from eplb import EplbError
from eplb.replay import EplbPolicy, Policy, Replay, policy_named, replay

BUDGETS = (0.02, 0.05, 0.1, 0.2, 1.0)
INTERVALS = (1, 4)
HISTORY = 24
KNOWS_NONE, NO_LIMIT = "knows none", "no limit"


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    os.environ["EPLB_NUM_THREADS"] = str(options.threads)
    facts = {**machine(options.note), "threads": options.threads, "history": HISTORY}
    found = cases(options.traces, options.only)
    peers = [policy_named(spec) for spec in options.peer]
    rows = [row for case in found for interval in options.intervals for row in measure(case, interval, peers)]
    publish(markdown(facts, rows, found), facts, rows, options.out)


def measure(case: Case, interval: int, peers: list[Policy]) -> list[Row]:
    """Return a row for each policy and budget; none where the trace is too short for a second plan."""
    if case.num_scored <= interval:
        return []
    print(f"{case.name}, every {interval}", file=sys.stderr, flush=True)
    rows = [_row(case, interval, policy, budget, share) for policy, budget, share in _entrants(peers)]
    return [{**row, "frontier": on_frontier(row, rows)} for row in rows]


def on_frontier(row: Row, rows: list[Row]) -> bool:
    """Whether no policy that can be run is as good as `row` in balancedness and moves, and better in one of them."""
    if "error" in row or row["sees_future"]:
        return False
    rivals = [other for other in rows if "error" not in other and not other["sees_future"]]
    return not any(_as_good(other, row) and not _as_good(row, other) for other in rivals)


def _as_good(one: Row, other: Row) -> bool:
    return bool(one["balancedness"] >= other["balancedness"] and one["moved_share"] <= other["moved_share"])


def _entrants(peers: list[Policy]) -> Iterator[tuple[Policy, str, float]]:
    """Yield each policy with its budget, in words and as a share of the slots."""
    for policy in (policy_named("contiguous"), policy_named("static"), policy_named("deepseek"), *peers):
        yield policy, KNOWS_NONE, 1.0
    for share in BUDGETS:
        yield EplbPolicy(), NO_LIMIT if share == 1 else f"{share:.0%}", share
    yield EplbPolicy(move_cost=0, name="eplb, moves free"), NO_LIMIT, 1.0
    yield policy_named("oracle"), KNOWS_NONE, 1.0


def _row(case: Case, interval: int, policy: Policy, budget: str, share: float) -> Row:
    name = getattr(policy, "name", type(policy).__name__)
    row = {"trace": case.name, "in_time": case.in_time, "interval": interval, "policy": name, "budget": budget}
    options = {"history": HISTORY, "interval": interval, "first": case.first, "max_moves_share": share}
    try:
        return row | _numbers(replay(case.trace, case.topology, policy, **options))
    except EplbError as exc:
        return row | {"error": f"{type(exc).__name__}: {exc}"}


def _numbers(found: Replay) -> Row:
    return {
        "sees_future": found.sees_future,
        "balancedness": found.mean_balancedness,
        "worst_window": found.worst_window[1],
        "moved_share": found.moved_share,
        "largest_moved_share": found.largest_moved_share,
        "most_received": found.most_received,
        "median_ms": found.median_planning_seconds * 1e3,
    }


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    add_options(parser)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE.py:FUNCTION", help="may be repeated")
    parser.add_argument("--intervals", nargs="+", type=int, default=INTERVALS, help="windows from plan to plan")
    parser.add_argument("--threads", type=int, default=2, help="threads of eplb (default 2)")
    return parser


if __name__ == "__main__":
    main()
