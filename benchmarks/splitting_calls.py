"""The ways to split a batch that are timed: ours, compiled alone and as a user calls it, sorting, and HiGHS.

HiGHS: Huangfu and Hall, doi:10.1007/s12532-017-0130-5.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
from contenders import ARGSORT
from numpy.typing import NDArray
from timing import Call, side_by_side_ms

import eplb
from eplb.dispatch import solve_split
from eplb.kernels.split.layers import split_layers

PLANNED = ("even", "weighted")
ONE, ALL = "one", "all"
HIGHS, LEANER = "HiGHS, scipy's linprog", "HiGHS, scipy's milp"
WHOLE = "whole tokens"
Calls = dict[tuple[str, str, int], Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Tokens [L, E], whole ones, and the placement that they are split on."""

    placement: eplb.Placement
    tokens: NDArray[np.float64]

    @property
    def num_layers(self) -> int:
        """Layers L."""
        return len(self.tokens)

    def layer(self, layer: int) -> Batch:
        """Return one layer of it."""
        slots, topology = self.placement.physical_to_logical[layer : layer + 1], self.placement.topology
        placement = eplb.Placement(physical_to_logical=slots, topology=topology, num_experts=self.tokens.shape[1])
        return Batch(placement=placement, tokens=self.tokens[layer : layer + 1].copy())


def calls_for(batch: Batch, threads: Sequence[int]) -> Calls:
    """Return what takes turns, by layers, way and threads. Of one layer, each call takes the next one."""
    layers = [batch.layer(layer) for layer in range(batch.num_layers)]
    calls: Calls = {(ONE, what, 1): _threaded(1, _in_turn(own)) for what, own in _of_one(batch, layers).items()}
    whole = partial(solve_split, batch.placement, batch.tokens, whole_tokens=True)
    for count in threads:
        calls[ALL, "eplb.split", count] = _threaded(count, partial(eplb.split, batch.placement, batch.tokens))
        calls[ALL, WHOLE, count] = _threaded(count, whole)
    calls[ALL, ARGSORT, 1] = partial(np.argsort, batch.tokens, axis=1)
    return calls


def compiled(batch: Batch, whole: bool = False) -> list[Call]:
    """Return the compiled split of each layer, without the checks and the result around it."""
    topology, slots = batch.placement.topology, batch.placement.physical_to_logical
    shares, levels = np.empty((1, *slots.shape)), np.empty((1, len(slots)))
    tight, fixed = np.empty((1, len(slots), topology.num_ranks), dtype=np.bool_), np.zeros((1, 1, topology.num_ranks))
    machine = (fixed, topology.speeds.copy(), topology.slot_offsets.astype(np.int64), slots.astype(np.int64))
    args = (batch.tokens[None].copy(), *machine, whole, shares, levels, tight)
    return [partial(split_layers, layer, layer + 1, *args) for layer in range(batch.num_layers)]


def slowest_us(batch: Batch) -> float:
    """Return the median microseconds of the layer that takes longest, compiled alone."""
    calls = {str(layer): call for layer, call in enumerate(compiled(batch))}
    return max(side_by_side_ms(calls, rounds=5, burst_s=5e-4).values()) * 1e3


def linear_programs(batch: Batch) -> dict[str, Call]:
    """Return calls that solve the split of one layer: the least level with rank loads <= level x speed.

    Both hand the same matrices, made before, to HiGHS; `milp`, without an integer in it, adds less of its own.
    """
    from scipy.optimize import LinearConstraint, linprog, milp
    from scipy.sparse import coo_array

    topology, slots = batch.placement.topology, batch.placement.physical_to_logical[0]
    places, num_ranks, loads = np.arange(slots.size), topology.num_ranks, batch.tokens[0]
    of_expert = coo_array((np.ones(slots.size), (slots, places)), (loads.size, slots.size + 1)).tocsr()
    rows = np.concatenate([topology.rank_of_slot, np.arange(num_ranks)])
    columns = np.concatenate([places, np.full(num_ranks, slots.size)])
    values = np.concatenate([np.ones(slots.size), -topology.speeds])
    of_rank = coo_array((values, (rows, columns)), (num_ranks, slots.size + 1)).tocsr()
    cost, zero = np.append(np.zeros(slots.size), 1.0), np.zeros(num_ranks)
    sums = [LinearConstraint(of_rank, -np.inf, zero), LinearConstraint(of_expert, loads, loads)]
    return {
        HIGHS: partial(linprog, cost, A_ub=of_rank, b_ub=zero, A_eq=of_expert, b_eq=loads, method="highs"),
        LEANER: partial(milp, cost, constraints=sums),
    }


def difference(batch: Batch) -> float:
    """Return by how much of itself the largest rank load of the linear program is off ours, in the worst layer."""
    ours = solve_split(batch.placement, batch.tokens).largest_loads
    theirs = [linear_programs(batch.layer(layer))[HIGHS]().fun for layer in range(batch.num_layers)]
    return float(np.abs(ours / theirs - 1.0).max())


def scipy_version() -> str | None:
    """Return the version of scipy, or None without one."""
    try:
        return metadata.version("scipy")
    except metadata.PackageNotFoundError:
        return None


def _of_one(batch: Batch, layers: list[Batch]) -> dict[str, list[Call]]:
    """Return the calls of each way to split one layer, one for each layer."""
    ways = {
        "compiled": compiled(batch),
        "eplb.split": [partial(eplb.split, own.placement, own.tokens) for own in layers],
        f"{WHOLE}, compiled": compiled(batch, whole=True),
        WHOLE: [partial(solve_split, own.placement, own.tokens, whole_tokens=True) for own in layers],
        ARGSORT: [partial(np.argsort, own.tokens[0]) for own in layers],
    }
    if scipy_version() is not None:
        programs = [linear_programs(own) for own in layers]
        ways |= {what: [both[what] for both in programs] for what in (HIGHS, LEANER)}
    return ways


def _in_turn(calls: list[Call]) -> Call:
    forever = itertools.cycle(calls)
    return lambda: next(forever)()


def _threaded(threads: int, call: Call) -> Call:
    def run() -> Any:
        os.environ["EPLB_NUM_THREADS"] = str(threads)
        return call()

    return run
