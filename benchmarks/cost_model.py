"""How well the cost model orders placements: predicted against measured times of one expert-parallel layer on a CPU.

A stand-in for four ranks: the experts of each rank are real matrix products, run one rank after another on one thread,
each timed alone; the layer takes as long as the slowest rank. Nothing is sent between ranks.

python benchmarks/cost_model.py --out cost-model.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cost_model_tables import markdown
from machine import machine
from numpy.typing import NDArray
from tables import Row, publish

import eplb
from eplb.replay import policy_named
from eplb.replay.cost import Calibration, calibrate

NUM_RANKS, NUM_EXPERTS, TOP_K = 4, 32, 4
SLOTS = (8, 10)
PLACEMENTS = ("contiguous", "random", "deepseek", "eplb")
FIT_TOKENS, UNSEEN_TOKENS = (8, 48, 384, 3072), (16, 96, 256, 768, 2048)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One placement that serves one batch: tokens of each slot, [P]."""

    placement: str
    num_tokens: int
    slots_per_rank: int
    slot_tokens: NDArray[np.int64]


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, fit, predict, print and write."""
    options = _parser().parse_args(args)
    torch.set_num_threads(1)
    facts = {**machine(options.note), **{name: getattr(options, name) for name in ("hidden", "size", "rounds", "seed")}}
    experts = _experts(options.hidden, options.size, options.seed)
    fitted = measured(cases(FIT_TOKENS, options.seed), experts, options.rounds)
    unseen = measured(cases(UNSEEN_TOKENS, options.seed + 1), experts, options.rounds)
    found = calibrate(*(np.concatenate([row[key] for row in fitted]) for key in ("tokens", "activated", "seconds")))
    rows = [_row(row, found, "fitted") for row in fitted] + [_row(row, found, "unseen") for row in unseen]
    facts |= summary(found, [row for row in rows if row["kind"] == "unseen"])
    publish(markdown(facts, rows), facts, rows, options.out)


def cases(batches: Sequence[int], seed: int) -> list[Case]:
    """Return a case for each batch size and kind of placement; slots a rank alternate."""
    rng, found = np.random.default_rng(seed), []
    for index, num_tokens in enumerate(batches):
        loads = _loads(rng, num_tokens)
        for number, name in enumerate(PLACEMENTS):
            slots = SLOTS[(index + number) % len(SLOTS)]
            placement = _placement(name, loads, slots, rng)
            found.append(
                Case(
                    placement=name,
                    num_tokens=num_tokens,
                    slots_per_rank=slots,
                    slot_tokens=_whole_tokens(placement, loads),
                )
            )
    return found


def _loads(rng: np.random.Generator, num_tokens: int) -> NDArray[np.int64]:
    """Return tokens of each expert when each token chooses `TOP_K` different ones, some far more often than others."""
    popularity = np.log(rng.permutation(1 / np.arange(1, NUM_EXPERTS + 1) ** rng.uniform(0.4, 1.2)))
    keys = popularity + rng.gumbel(size=(num_tokens, NUM_EXPERTS))
    chosen = np.argsort(-keys, axis=1)[:, :TOP_K]
    return np.bincount(chosen.ravel(), minlength=NUM_EXPERTS)


def _placement(name: str, loads: NDArray[np.int64], slots: int, rng: np.random.Generator) -> eplb.Placement:
    topology = eplb.Topology(num_ranks=NUM_RANKS, slots_per_rank=slots)
    if name == "random":
        more = rng.integers(0, NUM_EXPERTS, topology.num_slots - NUM_EXPERTS)
        return eplb.Placement(
            physical_to_logical=rng.permutation(np.concatenate([np.arange(NUM_EXPERTS), more]))[None],
            topology=topology,
        )
    return policy_named(name).place(eplb.LoadTrace(loads=loads[None]), topology, None, None)


def _whole_tokens(placement: eplb.Placement, loads: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tokens of each slot when replicas take turns."""
    slots, counts = placement.physical_to_logical[0], placement.replica_counts[0]
    turn = np.array([np.count_nonzero(slots[:slot] == expert) for slot, expert in enumerate(slots)])
    return np.asarray((loads[slots] + counts[slots] - 1 - turn) // counts[slots])


def _experts(hidden: int, size: int, seed: int) -> list[list[torch.Tensor]]:
    """Return gate, up and down projection of as many experts as there are slots, each with weights of its own."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((hidden, size), (hidden, size), (size, hidden))
    return [
        [torch.randn(shape, generator=generator) / hidden for shape in shapes] for _ in range(NUM_RANKS * max(SLOTS))
    ]


def measured(found: list[Case], experts: list[list[torch.Tensor]], rounds: int) -> list[dict[str, Any]]:
    """Return tokens, activated experts and least seconds of each rank; all cases take turns, `rounds` each."""
    batch = torch.randn((max(case.slot_tokens.max() for case in found), experts[0][0].shape[0]))
    seconds = np.full((len(found), NUM_RANKS), np.inf)
    for _ in range(rounds):
        for index, case in enumerate(found):
            for rank, tokens in enumerate(case.slot_tokens.reshape(NUM_RANKS, -1)):
                held = experts[rank * max(SLOTS) :][: case.slots_per_rank]
                seconds[index, rank] = min(seconds[index, rank], _timed(tokens.tolist(), held, batch))
    return [
        {
            "case": case,
            "tokens": case.slot_tokens.reshape(NUM_RANKS, -1).sum(axis=1),
            "activated": np.count_nonzero(case.slot_tokens.reshape(NUM_RANKS, -1), axis=1),
            "seconds": took,
        }
        for case, took in zip(found, seconds, strict=True)
    ]


def _timed(tokens: list[int], experts: list[list[torch.Tensor]], batch: torch.Tensor) -> float:
    """Return the processor's seconds for one rank's experts on their tokens; other programs do not count."""
    start = time.thread_time()
    for num_tokens, (gate, up, down) in zip(tokens, experts, strict=True):
        if num_tokens:
            inputs = batch[:num_tokens]
            (torch.nn.functional.silu(inputs @ gate) * (inputs @ up)) @ down
    return time.thread_time() - start


def _row(row: dict[str, Any], found: Calibration, kind: str) -> Row:
    case, rates = row["case"], found.rates
    predicted = rates.fixed_seconds + rates.seconds(row["tokens"], row["activated"]).max()
    return {
        "kind": kind,
        "placement": case.placement,
        "tokens": case.num_tokens,
        "slots_per_rank": case.slots_per_rank,
        "largest_tokens": int(row["tokens"].max()),
        "largest_activated": int(row["activated"].max()),
        "measured_us": float(row["seconds"].max()) * 1e6,
        "predicted_us": float(predicted) * 1e6,
    }


def summary(found: Calibration, rows: list[Row]) -> dict[str, Any]:
    """Return the fit, and how well it orders and predicts the rows that were not used for it."""
    took, predicted = (np.array([row[key] for row in rows]) for key in ("measured_us", "predicted_us"))
    batches = np.array([row["tokens"] for row in rows])
    same = [rank_correlation(took[batches == batch], predicted[batches == batch]) for batch in np.unique(batches)]
    return {
        "us_per_token": found.rates.seconds_per_token * 1e6,
        "us_per_activated_expert": found.rates.seconds_per_activated_expert * 1e6,
        "fixed_us": found.rates.fixed_seconds * 1e6,
        "overlap": found.rates.overlap,
        "fit_points": found.num_points,
        "fit_median_error": found.median_error,
        "fit_largest_error": found.largest_error,
        "unseen_median_error": float(np.median(np.abs(predicted / took - 1))),
        "rank_correlation": rank_correlation(took, predicted),
        "rank_correlation_of_placements": float(np.mean(same)),
    }


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation; equals share the mean of their ranks."""
    first, second = (_ranks(values) - (len(values) - 1) / 2 for values in (a, b))
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    less, equal = (relation(values[None], values[:, None]).sum(axis=1) for relation in (np.less, np.equal))
    return np.asarray(less + (equal - 1) / 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=256, help="values of a token (default 256)")
    parser.add_argument("--size", type=int, default=512, help="values inside an expert (default 512)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each case (default 9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="", help="a line for the head of the results")
    parser.add_argument("--out", type=Path, help="a .md file; the same as .json is written beside it")
    return parser


if __name__ == "__main__":
    main()
