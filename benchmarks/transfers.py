"""What planning the transfers between two placements costs, beside sorting the same rows, and what it saves.

python benchmarks/transfers.py --out transfers.md
"""

from __future__ import annotations

import argparse
import os

import numpy as np
from machine import machine
from numpy.typing import NDArray
from options import parser_for
from shapes import SHAPES, Shape, loads_for
from tables import Row, publish
from timing import peak_megabytes, side_by_side_ms
from transfers_tables import markdown

import eplb
from eplb.migration import Transfers, plan_transfers

EXPERT_BYTES = 44_000_000
Slots = NDArray[np.int32]


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    os.environ["EPLB_NUM_THREADS"] = str(options.threads)
    shape = SHAPES[options.shape]
    facts = {**machine(options.note), "threads": options.threads, "rounds": options.rounds}
    facts |= {"seed": options.seed, "shape": shape.title}
    rows = [_measured(what, *pair, options.rounds) for what, pair in _pairs(shape, options.share, options.seed).items()]
    publish(markdown(facts, rows), facts, rows, options.out)


def _pairs(shape: Shape, share: float, seed: int) -> dict[str, tuple[eplb.Placement, eplb.Placement]]:
    """Return pairs of placements: some slots trade places, all do, and a plan that follows other loads."""
    rng = np.random.default_rng(seed)
    old, later = (loads_for(shape, "zipf", seed + k) for k in range(2))
    start = eplb.plan(old, shape.topology).placement
    max_moves = int(share * shape.num_slots * shape.num_layers)
    planned = eplb.plan(later, shape.topology, previous=start, max_moves=max_moves).placement
    return {
        f"{share:.0%} of the slots trade places": (start, _traded(start, share, rng)),
        "all slots trade places": (start, _traded(start, 1.0, rng)),
        f"a plan for other loads, {share:.0%} moves": (start, planned),
    }


def _traded(placement: eplb.Placement, share: float, rng: np.random.Generator) -> eplb.Placement:
    """Return the placement with this share of the slots of each layer shuffled among themselves."""
    rows = placement.physical_to_logical.copy()
    for row in rows:
        chosen = rng.choice(row.size, max(2, round(share * row.size)), replace=False)
        row[chosen] = row[np.roll(chosen, 1)]
    return eplb.Placement(physical_to_logical=rows, topology=placement.topology, num_experts=placement.num_experts)


def _measured(what: str, old: eplb.Placement, new: eplb.Placement, rounds: int) -> Row:
    plan_transfers(old, new, EXPERT_BYTES)
    transfers, peak = peak_megabytes(lambda: plan_transfers(old, new, EXPERT_BYTES))
    slots = new.physical_to_logical
    times = side_by_side_ms(
        {"plan": lambda: plan_transfers(old, new, EXPERT_BYTES), "sort": lambda: np.argsort(slots, axis=1)}, rounds
    )
    return {
        "what": what,
        "transfers": len(transfers),
        "moved_share": len(transfers) / slots.size,
        "median_ms": times["plan"],
        "ratio": times["plan"] / times["sort"],
        "peak_mb": peak,
        "ours": _goals(transfers, transfers.source_rank),
        "lowest": _goals(transfers, _lowest_holders(old, transfers)),
    }


def _lowest_holders(old: eplb.Placement, transfers: Transfers) -> NDArray[np.int64]:
    """Return who would send if it were always the lowest rank that holds the expert."""
    ranks = old.topology.rank_of_slot
    slots = old.physical_to_logical[transfers.layer]
    return np.asarray(ranks[np.argmax(slots == transfers.expert[:, None], axis=1)])


def _goals(transfers: Transfers, sources: NDArray[np.int_]) -> dict[str, int]:
    """Return what these sources lead to, summed over layers."""
    nodes = transfers.topology.node_of_rank
    far = nodes[sources] != nodes[transfers.target_rank]
    shape = (transfers.num_layers, transfers.topology.num_ranks)
    sends, far_sends, receives = np.zeros((3, *shape), dtype=int)
    np.add.at(sends, (transfers.layer, sources), 1)
    np.add.at(far_sends, (transfers.layer[far], sources[far]), 1)
    np.add.at(receives, (transfers.layer, transfers.target_rank), 1)
    return {
        "largest_far_sends": int(far_sends.max(axis=1).sum()),
        "largest_sends": int(sends.max(axis=1).sum()),
        "far": int(far.sum()),
        "rounds": int(np.maximum(sends.max(axis=1), receives.max(axis=1)).sum()),
    }


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="v3-grouped")
    parser.add_argument("--share", type=float, default=0.1, help="share of the slots that moves (default 0.1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of eplb (default 2)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each call (default 15)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
