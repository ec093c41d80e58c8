"""What choosing replicas for routed tokens costs, beside a plain gather, and what it does for balance and locality.

python benchmarks/routing.py --out routing.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from machine import machine
from numpy.typing import NDArray
from options import parser_for
from routing_balance import balance_rows, counted, random_ids
from routing_tables import markdown
from shapes import SHAPES, loads_for
from tables import Row, publish
from timing import side_by_side_ms

import eplb
from eplb.dispatch import Dispatcher, dispatch_batch

TOKENS = (4096, 64)
SAMPLE = 2**16
GATHER = "table[topk_ids]"
Ids = NDArray[Any]
Loads = NDArray[np.float64]


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    shape = SHAPES[options.shape]
    facts = {**machine(options.note), "rounds": options.rounds, "seed": options.seed, "shape": shape.title}
    facts |= {"torch_threads": options.torch_threads, "gpu": _gpu()}
    torch.set_num_threads(options.torch_threads)
    popularity = loads_for(shape, "zipf")[0].astype(np.float64)
    loads = counted(np.random.default_rng(options.seed), popularity, SAMPLE)[None]
    placement = eplb.plan(loads, shape.topology).placement
    rows: list[Row] = []
    for num_tokens in options.tokens:
        for dtype in (np.int64, np.int32):
            ids = random_ids(np.random.default_rng(options.seed), popularity, num_tokens).astype(dtype)
            rows += _times(placement, loads, ids, options.rounds)
    rows += balance_rows(placement, loads, popularity, options.seed)
    publish(markdown(facts, rows), facts, rows, options.out)


def _times(placement: eplb.Placement, loads: Loads, ids: Ids, rounds: int) -> list[Row]:
    """Return a row for each way to choose, as numpy and as torch; all of them take turns."""
    calls = {("numpy", what): call for what, call in _calls(placement, loads, ids).items()}
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        found = _calls(placement, loads, torch.from_numpy(ids).to(device))
        calls |= {(f"torch {device}", what): partial(_finished, call, device) for what, call in found.items()}
    times = side_by_side_ms({"/".join(key): call for key, call in calls.items()}, rounds)
    return [
        {
            "kind": "time",
            "batch": f"{ids.shape[0]} tokens x {ids.shape[1]}",
            "dtype": ids.dtype.name,
            "library": library,
            "what": what,
            "median_us": 1e3 * times[f"{library}/{what}"],
            "ratio": times[f"{library}/{what}"] / times[f"{library}/{GATHER}"],
        }
        for library, what in calls
    ]


def _calls(placement: eplb.Placement, loads: Loads, ids: Any) -> dict[str, Callable[[], Any]]:
    """Return what is measured on ids; source counts are those of a group whose ranks have the same ids."""
    weights, num_ranks = eplb.split(placement, loads), placement.topology.num_ranks
    is_array = isinstance(ids, np.ndarray)
    table = placement.logical_to_physical[0, :, 0].astype(str(ids.dtype).removeprefix("torch."))
    counts = np.bincount(np.asarray(ids.ravel() if is_array else ids.cpu().ravel()), minlength=placement.num_experts)
    source_counts: Any = np.tile(counts, (num_ranks, 1))
    step: Any = 7
    if not is_array:
        table, source_counts = (torch.from_numpy(array).to(ids.device) for array in (table, source_counts))
        step = torch.tensor([7], device=ids.device)
    make, apart = partial(Dispatcher, placement), {"rank_invariant": False, "source_rank": 3}
    dispatchers = {
        "even": make(mode="even"),
        "even, unchecked": make(mode="even", checked=False),
        "weighted": make(weights),
        "weighted, unchecked": make(weights, checked=False),
    }
    grouped = {
        "weighted by source counts": make(weights, **apart),
        "weighted by source counts, unchecked": make(weights, checked=False, **apart),
        "local-first": make(weights, "local-first", **apart),
        "local-first, unchecked": make(weights, "local-first", checked=False, **apart),
    }
    return {
        GATHER: lambda: table[ids],
        **{what: partial(dispatcher, ids, 0, step) for what, dispatcher in dispatchers.items()},
        **{what: partial(dispatcher, ids, 0, step, source_counts) for what, dispatcher in grouped.items()},
        "exact split of the batch": partial(dispatch_batch, placement, ids, 0),
    }


def _finished(call: Callable[[], Any], device: str) -> None:
    call()
    if device == "cuda":
        torch.cuda.synchronize()


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none here, so CUDA is unmeasured"


def _parser() -> argparse.ArgumentParser:
    parser = parser_for(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="v3-grouped")
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS, help="tokens of a batch (default 4096 64)")
    parser.add_argument("--torch-threads", type=int, default=1, help="eplb routes on one (default 1)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each call (default 15)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
