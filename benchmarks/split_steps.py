"""The weighted split of single decode steps, solved on each step's own counts, with tokens kept whole."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from remembered import Remembered
from sources import GPT_TOKENS, TINY_TOKENS
from split_machines import gone, topology_for
from tables import Row
from traces import path_of, stream_at

from eplb import LoadTrace, Placement, TokenStream, Topology, evaluate, plan
from eplb.replay import EplbPolicy, Replay, replay

BATCHES = {64: (64, 1), 256: (256, 1), 1024: (256, 4)}  # tokens of a step: requests, and tokens of each
WINDOW_TOKENS = 2048  # as the recorded traces have
STREAMS = (GPT_TOKENS, TINY_TOKENS)
ORDERS = ("random", "given")
BUDGET = 0.1
FIRST = 8
NUM_KNOWN = 16
WHOLE: dict[str, Any] = {"split": "weighted", "whole_tokens": True}
WAYS: dict[str, dict[str, Any]] = {"even": {}, "whole": WHOLE, "shared": {"split": "weighted"}}


def streams(folder: Path, files: Sequence[str] | None) -> Iterator[tuple[str, TokenStream]]:
    """Yield the streams of tokens called so, or all that are there; of others it is said that they are skipped."""
    for file in STREAMS if files is None else files:
        path = path_of(file, folder)
        if path is None:
            print(f"skipped {file}: not in {folder}", file=sys.stderr, flush=True)
        else:
            yield path.stem, stream_at(path)


def measure_steps(name: str, stream: TokenStream, machines: Sequence[str], history: int) -> list[Row]:
    """Return a row for each order of arrival, batch and machine; none of batches that leave too few windows."""
    rows = []
    for order, batch in itertools.product(ORDERS, BATCHES):
        steps, size = _steps(stream, order, batch), WINDOW_TOKENS // batch
        if steps is None or steps.num_windows < size * (FIRST + 1):
            print(f"skipped {name}, {order}, {batch} tokens: too few steps", file=sys.stderr, flush=True)
            continue
        for machine in machines:
            print(f"{name}, {order}, {batch} tokens, {machine}", file=sys.stderr, flush=True)
            row = {"kind": "steps", "stream": name, "order": order, "batch": batch, "machine": machine}
            rows.append({**row, **score_steps(steps, size, topology_for(machine, stream.num_experts), history)})
    return rows


def _steps(stream: TokenStream, order: str, batch: int) -> LoadTrace | None:
    """Return the loads of decode steps of `batch` tokens; None if there are too few requests."""
    num_requests, num_tokens = BATCHES[batch]
    if num_requests > stream.num_requests:
        return None
    return stream.decode_steps(num_requests, order).windows(num_tokens)


def score_steps(steps: LoadTrace, size: int, topology: Topology, history: int) -> Row:
    """Return what plans of windows of `size` steps do to the steps after: mean balancedness of steps."""
    windows = steps.windows(size)
    placed = {split: _placed(windows, topology, split, history) for split in ("even", "weighted")}
    scored = steps.loads[FIRST * size : windows.num_windows * size].reshape(-1, size, *steps.loads.shape[1:])
    means = {
        f"{planned}, {what}": _mean(placed[planned][0].placements, list(scored), how)
        for planned in placed
        for what, how in WAYS.items()
    }
    return {
        **means,
        "num_windows": len(scored),
        "num_steps": scored.shape[0] * size,
        "known": _known(scored.reshape(-1, *scored.shape[2:]), topology),
        "bound": whole_bound(scored, topology.num_ranks),
        "gone": gone(means["weighted, whole"], means["even, even"]),
        "moved_share": placed["weighted"][1].moved_share,
        "even_moved_share": placed["even"][1].moved_share,
    }


def whole_bound(loads: NDArray[Any], num_ranks: int) -> float:
    """Return the mean balancedness [..., L, E] that whole tokens allow at best: a rank gets the mean, rounded up."""
    means = loads.sum(axis=-1) / num_ranks
    return float((means.sum(axis=-1) / np.ceil(means).sum(axis=-1)).mean())


def _placed(windows: LoadTrace, topology: Topology, split: str, history: int) -> tuple[Remembered, Replay]:
    policy = Remembered(EplbPolicy(split=split))
    options: dict[str, Any] = {"history": history, "first": FIRST, "max_moves_share": BUDGET}
    return policy, replay(windows, topology, policy, split=split, **options)


def _mean(placements: list[Placement], scored: Sequence[Any], how: dict[str, Any]) -> float:
    each = [evaluate(placement, own, **how).balancedness for placement, own in zip(placements, scored, strict=True)]
    return float(np.concatenate(each).mean())


def _known(steps: NDArray[Any], topology: Topology) -> float:
    """Return the mean of a few steps that were known when their own placement was planned: a ceiling."""
    some = steps[np.linspace(0, len(steps) - 1, min(NUM_KNOWN, len(steps))).astype(np.int64)]
    placements = [plan(own, topology, split="weighted").placement for own in some]
    return _mean(placements, list(some), WHOLE)
