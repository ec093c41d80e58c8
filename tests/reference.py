"""Slow, obvious twins of the planner's fast paths, and brute force as the oracle of optimality."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from eplb import Topology


def highest_averages(loads, num_slots: int, max_count: int) -> list[int]:
    """Give each further replica to the largest loads / counts below the cap, the lowest id among equals."""
    counts = [1] * len(loads)
    for _ in range(num_slots - len(loads)):
        open_experts = [e for e in range(len(loads)) if counts[e] < max_count]
        if not open_experts:
            break
        best = max(open_experts, key=lambda e: (loads[e] / counts[e], -e))
        counts[best] += 1
    return counts


def pack(loads, counts, num_ranks: int, slots_per_rank: int) -> list[list[int]]:
    """Place replicas, heaviest first, each on the lightest rank with room and without that expert."""
    shares = [load / count for load, count in zip(loads, counts, strict=True)]
    ranks: list[list[int]] = [[] for _ in range(num_ranks)]
    times = [0.0] * num_ranks
    for expert in sorted(range(len(loads)), key=lambda e: (-shares[e], e)):
        for _ in range(counts[expert]):
            free = [r for r in range(num_ranks) if len(ranks[r]) < slots_per_rank and expert not in ranks[r]]
            rank = min(free, key=lambda r: (times[r], r))
            ranks[rank].append(expert)
            times[rank] += shares[expert]
    return ranks


def rank_times(slots, loads, topology: Topology) -> np.ndarray:
    """Return the time of every rank, [R], for the slots [P] of one layer under loads [E]: the even split."""
    counts = np.bincount([e for e in slots if e >= 0], minlength=len(loads))
    times = np.zeros(topology.num_ranks)
    for slot, expert in enumerate(slots):
        if expert >= 0:
            times[topology.rank_of_slot[slot]] += loads[expert] / counts[expert]
    return times / topology.speeds


def optimum(loads, topology: Topology, groups: int = 1) -> float:
    """Return the least largest rank time over all sound placements of one layer, by trying them all.

    Sound: every slot filled, every expert placed, distinct experts on a rank, every group on one node.
    """
    num_experts = len(loads)
    alive = np.flatnonzero(topology.alive)
    best = np.inf
    for allowed in _experts_by_rank(num_experts, topology, alive, groups):
        subsets = [
            np.array(
                [[e in chosen for e in range(num_experts)] for chosen in itertools.combinations(experts, slots)],
                dtype=np.float64,
            ).reshape(-1, num_experts)
            for experts, slots in zip(allowed, topology.slot_counts[alive], strict=True)
        ]
        best = min(best, _best_of_product(subsets, np.asarray(loads, dtype=np.float64), topology.speeds[alive]))
    return best


def _experts_by_rank(num_experts: int, topology: Topology, alive, groups: int) -> Iterator[list[tuple[int, ...]]]:
    """Yield, for every choice of nodes for the groups, the experts each rank may hold."""
    nodes = topology.node_of_rank[alive]
    if groups == 1:
        yield [tuple(range(num_experts))] * alive.size
        return
    size = num_experts // groups
    for choice in itertools.product(sorted(set(nodes.tolist())), repeat=groups):
        yield [tuple(e for e in range(num_experts) if choice[e // size] == node) for node in nodes]


def _best_of_product(subsets: list[np.ndarray], loads: np.ndarray, speeds: np.ndarray) -> float:
    """Return the least largest time over the product of the subsets of experts of each rank."""
    if any(len(options) == 0 for options in subsets):
        return np.inf
    grids = np.meshgrid(*[np.arange(len(options)) for options in subsets], indexing="ij")
    picks = [options[grid.ravel()] for options, grid in zip(subsets, grids, strict=True)]
    counts = sum(picks)
    covered = (counts > 0).all(axis=1)
    if not covered.any():
        return np.inf
    shares = loads / np.maximum(counts, 1)
    times = np.stack([(pick * shares).sum(axis=1) / speed for pick, speed in zip(picks, speeds, strict=True)])
    return float(times[:, covered].max(axis=0).min())
