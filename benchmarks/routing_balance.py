"""What ways to choose replicas do for the balance of a batch and for how far its tokens travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tables import Row

import eplb
from eplb.dispatch import Dispatcher, local_first_quotas, solve_split
from eplb.dispatch.routing import quotas as by_quotas

STEPS = 16
WIDTH = 8
TOKENS_A_RANK = (128, 8)
Loads = NDArray[np.float64]
Slots = NDArray[Any]
Way = Callable[[list[Any], NDArray[np.int64], int], list[Slots]]


def random_ids(rng: np.random.Generator, popularity: Loads, num_tokens: int, width: int = WIDTH) -> NDArray[np.int64]:
    """Return ids [T, k], all different in a token, drawn one after another in proportion to popularity [E]."""
    keys = np.log(popularity + 1e-12) + rng.gumbel(size=(num_tokens, popularity.size))
    return np.argsort(-keys, axis=1)[:, : min(width, popularity.size)]


def counted(rng: np.random.Generator, popularity: Loads, num_tokens: int) -> Loads:
    """Return how many of random tokens go to each expert, [E]."""
    parts = [random_ids(rng, popularity, min(4096, num_tokens)) for _ in range(-(-num_tokens // 4096))]
    return np.bincount(np.concatenate(parts).ravel(), minlength=popularity.size).astype(np.float64)


def balance_rows(placement: eplb.Placement, loads: Loads, popularity: Loads, seed: int) -> list[Row]:
    """Return a row for each way and number of tokens a rank: medians over batches that the weights did not know."""
    rng = np.random.default_rng(seed + 1)
    rows = []
    for num_tokens in TOKENS_A_RANK:
        batches = [_batch(rng, popularity, num_tokens, placement.topology.num_ranks) for _ in range(STEPS)]
        for what, way in _ways(placement, eplb.split(placement, loads)).items():
            scores = [_score(placement, way(ids, counts, step)) for step, (ids, counts) in enumerate(batches)]
            names = ("largest_over_mean", "on_rank", "on_node")
            medians = dict(zip(names, np.median(scores, axis=0).tolist(), strict=True))
            rows.append({"kind": "balance", "tokens": num_tokens, "what": what, **medians})
    return rows


def _batch(rng: Any, popularity: Loads, num_tokens: int, num_ranks: int) -> tuple[list[Any], NDArray[np.int64]]:
    """Return ids of every rank and their counts [R, E]; experts are a fifth more or less popular than they were."""
    drifted = popularity * rng.lognormal(0, 0.2, popularity.size)
    ids = [random_ids(rng, drifted, num_tokens) for _ in range(num_ranks)]
    return ids, np.array([np.bincount(mine.ravel(), minlength=drifted.size) for mine in ids])


def _ways(placement: eplb.Placement, weights: NDArray[np.float64]) -> dict[str, Way]:
    def each(ids: list[Any], counts: NDArray[np.int64], step: int, told: bool, **options: Any) -> list[Slots]:
        given = [counts] if told else []
        return [Dispatcher(placement, source_rank=r, **options)(mine, 0, step, *given) for r, mine in enumerate(ids)]

    def even(ids: list[Any], counts: NDArray[np.int64], step: int) -> list[Slots]:
        return [Dispatcher(placement, mode="even")(mine, 0) for mine in ids]

    apart = {"weights": weights, "rank_invariant": False}
    return {
        "nearest replica, no quotas": partial(_nearest, placement),
        "even": even,
        "weighted": partial(each, told=False, **apart),
        "weighted by source counts": partial(each, told=True, **apart),
        "local-first": partial(each, told=True, mode="local-first", **apart),
        "exact split of the batch, local-first": partial(_exact, placement),
    }


def _nearest(placement: eplb.Placement, ids: list[Any], counts: NDArray[np.int64], step: int) -> list[Slots]:
    """Send every token to a replica on its rank, else on its node, else anywhere, turning among those as near."""
    return [
        np.array([[candidates[e][t % len(candidates[e])] for e in token] for t, token in enumerate(mine)])
        for mine, candidates in zip(ids, _near_replicas(placement), strict=True)
    ]


def _near_replicas(placement: eplb.Placement) -> Iterator[list[NDArray[Any]]]:
    topology = placement.topology
    for rank in range(topology.num_ranks):
        found = []
        for row in placement.logical_to_physical[0]:
            slots = row[row >= 0]
            ranks = topology.rank_of_slot[slots]
            near = (ranks == rank) * 2 + (topology.node_of_rank[ranks] == topology.node_of_rank[rank])
            found.append(slots[near == near.max()])
        yield found


def _exact(placement: eplb.Placement, ids: list[Any], counts: NDArray[np.int64], step: int) -> list[Slots]:
    """Do what `dispatch_batch` does on every rank, in one process."""
    topology, replicas = placement.topology, placement.logical_to_physical[0].copy()
    tokens = solve_split(placement, counts.sum(axis=0)[None], layer=0, whole_tokens=True).tokens
    assert tokens is not None
    group = np.where(replicas >= 0, tokens[0][replicas], 0).cumsum(axis=1)
    ranks = np.where(replicas >= 0, topology.rank_of_slot[replicas], -1)
    quotas = [local_first_quotas(counts, group, ranks, topology.node_of_rank, r) for r in range(len(ids))]
    return [by_quotas(mine, replicas, quota)[0] for mine, quota in zip(ids, quotas, strict=True)]


def _score(placement: eplb.Placement, slots: list[Slots]) -> tuple[float, float, float]:
    """Return the largest rank load over the mean, and the shares of tokens that stay on their rank and node."""
    topology = placement.topology
    source = np.repeat(np.arange(len(slots)), [mine.size for mine in slots])
    target = topology.rank_of_slot[np.concatenate([mine.ravel() for mine in slots])]
    rank_loads = np.bincount(target, minlength=topology.num_ranks)
    same_node = topology.node_of_rank[source] == topology.node_of_rank[target]
    return rank_loads.max() / rank_loads.mean(), (source == target).mean(), same_node.mean()
