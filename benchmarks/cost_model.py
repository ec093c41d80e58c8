"""How well the cost model orders placements: predicted against measured times of an expert-parallel layer on a CPU.

The layer is that of `examples/expert_parallel`: its router and its replicas choose who computes which tokens, and
`experts.compute` is timed for each of its four ranks alone; the layer takes as long as the slowest. Nothing is sent.

python benchmarks/cost_model.py --out cost-model.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cost_model_tables import markdown
from machine import machine
from numpy.typing import NDArray
from options import parser_for
from tables import Row, publish
from torch import Tensor

import eplb
from eplb.replay import policy_named
from eplb.replay.cost import Calibration, calibrate

sys.path.append(str(Path(__file__).parents[1] / "examples" / "expert_parallel"))

from blocks import BLOCK_ROWS
from experts import compute
from replicas import MODES, Replicas
from router import normalise, route
from sizes import Sizes
from traffic import Traffic
from weights import WholeModel, slots_of, whole_model

NUM_RANKS = 4
SLOTS = (8, 10)
PLACEMENTS = ("contiguous", "random", "deepseek", "eplb")
FIT_TOKENS, UNSEEN_TOKENS = (4, 24, 192, 1536), (8, 48, 96, 384, 768)  # of a rank; they vary by a quarter
SPLIT = MODES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Tokens of all ranks, as the first layer's router sees them."""

    number: int
    hidden: list[Tensor]
    """Of each rank, [N, D]."""
    ids: list[Tensor]
    """The experts that they go to, [N, K]."""
    counts: Tensor
    """Tokens that each rank sends to each expert, [R, E]."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all ranks."""
        return sum(map(len, self.hidden))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One placement that serves one batch."""

    placement: str
    num_tokens: int
    slots_per_rank: int
    weights: list[list[Tensor]]
    """Of each rank: gate, up and down of its slots."""
    rows: list[Tensor]
    """What each rank computes, slot after slot."""
    slot_tokens: NDArray[np.int64]
    """Rows of each slot, [R, S]."""


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, fit, predict, print and write."""
    options = _parser().parse_args(args)
    torch.set_num_threads(1)
    names = ("width", "hidden_width", "rounds", "seed")
    facts = {**machine(options.note), **{name: getattr(options, name) for name in names}}
    sizes = Sizes(num_layers=1, width=options.width, hidden_width=options.hidden_width)
    model = whole_model(sizes, options.seed)
    fitted = measured(cases(FIT_TOKENS, sizes, model, options.seed), options.rounds)
    unseen = measured(cases(UNSEEN_TOKENS, sizes, model, options.seed + 1), options.rounds)
    found = fit(fitted)
    rows = [_row(row, found, "fitted") for row in fitted] + [_row(row, found, "unseen") for row in unseen]
    facts |= summary(found, [row for row in rows if row["kind"] == "unseen"])
    publish(markdown(facts, rows), facts, rows, options.out)


def cases(batches: Sequence[int], sizes: Sizes, model: WholeModel, seed: int) -> list[Case]:
    """Return a case for each batch size and kind of placement; slots a rank alternate.

    Placements and shares are made for the batch before the one that is served.
    """
    rng, found = np.random.default_rng(seed), []
    for index, tokens_per_rank in enumerate(batches):
        traffic = Traffic(replace(sizes, tokens_per_rank=tokens_per_rank), seed)
        before, batch = (routed(traffic, model, sizes, 10 * index + number) for number in range(2))
        loads = before.counts.sum(0, keepdim=True).numpy()
        for number, name in enumerate(PLACEMENTS):
            slots = SLOTS[(index + number) % len(SLOTS)]
            found.append(case(name, _placement(name, loads, slots, rng), loads, batch, model))
    return found


def routed(traffic: Traffic, model: WholeModel, sizes: Sizes, number: int) -> Batch:
    """Return batch `number`, and where the router sends it."""
    hidden = [normalise(traffic.batch(number, rank)) for rank in range(NUM_RANKS)]
    ids = [route(model.routers[0], rows, sizes.top_k)[0] for rows in hidden]
    counts = torch.stack([torch.bincount(each.flatten(), minlength=sizes.num_experts) for each in ids])
    return Batch(number=number, hidden=hidden, ids=ids, counts=counts)


def case(name: str, placement: eplb.Placement, loads: NDArray[np.int64], batch: Batch, model: WholeModel) -> Case:
    """Return what each rank computes of `batch`, as the all-to-all of the example would bring it there."""
    slots = torch.cat(
        [
            Replicas(placement, loads, SPLIT, rank).choose(ids, 0, batch.number, batch.counts).flatten()
            for rank, ids in enumerate(batch.ids)
        ]
    )
    per_rank = torch.bincount(slots, minlength=placement.topology.num_slots).view(NUM_RANKS, -1)
    rows = torch.cat(batch.hidden).repeat_interleave(batch.ids[0].shape[1], 0)[slots.argsort(stable=True)]
    return Case(
        placement=name,
        num_tokens=batch.num_tokens,
        slots_per_rank=per_rank.shape[1],
        weights=[slots_of(model, placement, rank)[0] for rank in range(NUM_RANKS)],
        rows=list(rows.split(per_rank.sum(1).tolist())),
        slot_tokens=per_rank.numpy(),
    )


def _placement(name: str, loads: NDArray[np.int64], slots: int, rng: np.random.Generator) -> eplb.Placement:
    topology, num_experts = eplb.Topology(num_ranks=NUM_RANKS, slots_per_rank=slots), loads.shape[1]
    if name == "random":
        more = rng.integers(0, num_experts, topology.num_slots - num_experts)
        return eplb.Placement(
            physical_to_logical=rng.permutation(np.concatenate([np.arange(num_experts), more]))[None],
            topology=topology,
        )
    return policy_named(name, split=SPLIT).place(eplb.LoadTrace(loads=loads[None]), topology, None, None)


def measured(found: list[Case], rounds: int) -> list[dict[str, Any]]:
    """Return tokens, activated experts and median seconds of each rank; all cases take turns, `rounds` each."""
    seconds = np.empty((rounds, len(found), NUM_RANKS))
    for turn in seconds:
        for index, served in enumerate(found):
            for rank in range(NUM_RANKS):
                turn[index, rank] = _timed(served, rank)
    return [
        {
            "case": served,
            "tokens": served.slot_tokens.sum(axis=1),
            "activated": np.count_nonzero(served.slot_tokens, axis=1),
            "seconds": took,
        }
        for served, took in zip(found, np.median(seconds, axis=0), strict=True)
    ]


def _timed(served: Case, rank: int) -> float:
    """Return the processor's seconds for one rank's experts on their rows; other programs do not count."""
    counts = served.slot_tokens[rank].tolist()
    start = time.thread_time()
    compute(served.weights[rank], served.rows[rank], counts)
    return time.thread_time() - start


def fit(rows: list[dict[str, Any]]) -> Calibration:
    """Return the rates that fit the ranks which computed anything."""
    tokens, activated, seconds = (
        np.concatenate([row[key] for row in rows]) for key in ("tokens", "activated", "seconds")
    )
    busy = tokens > 0
    return calibrate(tokens[busy], activated[busy], seconds[busy], tile_tokens=BLOCK_ROWS)


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
    parser = parser_for(__doc__)
    for name, value in (("width", Sizes().width), ("hidden-width", Sizes().hidden_width)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"of the layer (default {value})")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each case (default 9)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
