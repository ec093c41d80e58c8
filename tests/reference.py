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


# ---- several windows


def recency_weights(num_windows: int, recency: float) -> np.ndarray:
    """Return weights [T] that sum to 1, each `recency` times the next."""
    weights = np.array([recency ** (num_windows - 1 - t) for t in range(num_windows)])
    return weights / weights.sum()


def scenarios(windows, forecasts, recency: float, ahead: int = 1, spread: float = 1.0, together: bool = True):
    """Return the 2 T + 1 scenarios [L, E, S]: the `windows` [T, L, E], the forecast plus each error, the forecast."""
    num_windows, _, num_experts = windows.shape
    expected = np.empty_like(windows)
    for t in range(num_windows):
        made_at = t - 1 - (num_windows - 1 - t) % ahead
        expected[t] = forecasts[made_at] if made_at >= 0 else windows.mean(axis=0)
    errors = windows - expected
    errors = errors - np.tensordot(recency_weights(num_windows, recency), errors, axes=1)
    if not together:
        shifted = [np.roll(errors[:, :, e], -e, axis=0) for e in range(num_experts)]
        errors = np.stack(shifted, axis=2)
    coming = np.maximum(0.0, forecasts[-1] + spread * errors)
    return np.concatenate([windows, coming, forecasts[-1:]]).transpose(1, 2, 0)


def expected_time(slots, loads, weights, topology: Topology, extras=None) -> float:
    """Return the weighted mean over scenarios of the largest rank time, for the slots [P] of one layer.

    `loads` [E, S] of each scenario are split evenly; `extras` [E, S] are what a slot costs whatever its share.
    """
    total = 0.0
    for s, weight in enumerate(weights):
        times = rank_times(slots, loads[:, s], topology)
        if extras is not None:
            times = times + slot_costs(slots, extras[:, s], topology)
        total += weight * times.max()
    return total


def slot_costs(slots, extras, topology: Topology) -> np.ndarray:
    """Return the time of every rank, [R], when each slot takes the `extras` [E] of its expert."""
    times = np.zeros(topology.num_ranks)
    for slot, expert in enumerate(slots):
        if expert >= 0:
            times[topology.rank_of_slot[slot]] += extras[expert]
    return times / topology.speeds


def held_by(slots, topology: Topology) -> list[set[int]]:
    """Return the experts on each rank, for the slots [P] of one layer."""
    edges = topology.slot_offsets
    return [{int(e) for e in slots[edges[r] : edges[r + 1]] if e >= 0} for r in range(topology.num_ranks)]


def received(slots, topology: Topology, before: list[set[int]]) -> list[int]:
    """Return how many experts each rank holds that it did not hold before."""
    now = held_by(slots, topology)
    return [len(mine - before[r]) if r < len(before) else len(mine) for r, mine in enumerate(now)]


def expected_optimum(
    loads, weights, topology: Topology, extras=None, before=None, max_moves=np.inf, max_received=np.inf
) -> float:
    """Return the least expected time of one layer over the placements with distinct experts on every rank.

    Of all of them, or of those within `max_moves` of what ranks held `before`, and `max_received` for each rank.
    """
    num_experts = len(loads)
    alive = np.flatnonzero(topology.alive)
    ranks = [list(itertools.combinations(range(num_experts), topology.slot_counts[r])) for r in alive]
    best = np.inf
    for chosen in itertools.product(*ranks):
        if before is not None:
            new = [len(set(mine) - before[r]) for r, mine in zip(alive, chosen, strict=True)]
            if sum(new) > max_moves or max(new) > max_received:
                continue
        held = np.array([[e in mine for e in range(num_experts)] for mine in chosen], dtype=np.float64)
        counts = held.sum(axis=0)
        if counts.min() < 1:
            continue
        sizes = loads / counts[:, None] + (0.0 if extras is None else extras)
        best = min(best, float((held @ sizes / topology.speeds[alive, None]).max(axis=0) @ weights))
    return best


# ---- forecasts


def discounted(loads, decay: float, pull: float) -> np.ndarray:
    """Return forecasts [T, L, E]: each the mean of the windows so far by age, pulled towards their plain mean."""
    forecasts = np.empty(loads.shape)
    for t in range(len(loads)):
        so_far = loads[: t + 1]
        weights = np.array([decay**age if age else 1.0 for age in range(t, -1, -1)])
        recent = np.tensordot(weights / weights.sum(), so_far, axes=1)
        forecasts[t] = (1 - pull) * recent + pull * so_far.mean(axis=0)
    return forecasts


def drifting(loads, slowest: float, gain: float = 0.3) -> np.ndarray:
    """Return forecasts [T, L, E]: a level that follows by the square of the tracking signal of its layer."""
    level = loads[0].copy()
    bias, spread = np.zeros(level.shape), np.zeros(level.shape)
    forecasts = np.empty(loads.shape)
    for t, window in enumerate(loads):
        error = window - level
        bias = (1 - gain) * bias + gain * error
        spread = (1 - gain) * spread + gain * abs(error)
        signed, absolute = abs(bias).sum(axis=1), spread.sum(axis=1)
        signal = np.divide(signed, absolute, out=np.zeros_like(signed), where=absolute > 0)
        level = level + np.maximum(slowest, signal**2)[:, None] * error
        forecasts[t] = level
    return forecasts


def squared_errors(loads, forecasts, forgetting: float) -> np.ndarray:
    """Return the discounted squared errors of `forecasts` [C, T, L, E] up to each window, [C, T, L]."""
    errors = np.zeros(forecasts.shape[:3])
    for t in range(len(loads)):
        for past in range(1, t + 1):
            misses = loads[past] - forecasts[:, past - 1]
            errors[:, t] += forgetting ** (t - past) * (misses**2).sum(axis=2)
    return errors


# ---- moves


def best_assignment(costs) -> float:
    """Return the least total cost of giving each row a column of its own, by trying all permutations."""
    size = len(costs)
    return min(sum(costs[i][p[i]] for i in range(size)) for p in itertools.permutations(range(size)))


def after(slots, steps) -> np.ndarray:
    """Return the slots [P] after `steps` [K, 2]: (slot, other slot) swaps, (slot, -1 - expert) re-grants."""
    slots = np.array(slots)
    for slot, other in steps:
        if other >= 0:
            slots[[slot, other]] = slots[[other, slot]]
        else:
            slots[slot] = -1 - other
    return slots


def most_gain(gains, moves, max_moves: int) -> float:
    """Return the most that prefixes gain together: ``gains[l][k]`` and ``moves[l][k]`` are those after k steps."""
    best = 0.0
    for chosen in itertools.product(*[range(len(of_layer)) for of_layer in gains]):
        if sum(of_layer[k] for of_layer, k in zip(moves, chosen, strict=True)) <= max_moves:
            best = max(best, sum(of_layer[k] for of_layer, k in zip(gains, chosen, strict=True)))
    return best


def carry(loads, held, sizes, speeds, nodes, home_of, fill: bool) -> tuple[list[list[int]], set[int]]:
    """Return what every rank holds on a new machine (-1: nothing may go there), and the experts without a replica left.

    ``held[r]`` is what rank r held (-1: nothing), ``sizes[r]`` its slots now, ``home_of[e]`` the node of e or -1.
    """
    experts = range(len(loads))
    counts = [sum(row.count(e) for row in held) for e in experts]

    def spares_best(candidates):
        """Return the (where, expert) whose expert has a replica to spare, and least load each after giving it."""
        return min(candidates, key=lambda c: (counts[c[1]] < 2, loads[c[1]] / max(1, counts[c[1]] - 1)))

    def allowed(rank, expert):
        return home_of[expert] in (-1, nodes[rank])

    def free_rank(expert, distinct):
        """Return the rank with a free slot and least time, without the expert if `distinct`."""
        free = [r for r in range(len(ranks)) if -1 in ranks[r] and allowed(r, expert)]
        free = [r for r in free if not (distinct and expert in ranks[r])]
        times = {r: sum(loads[e] / counts[e] for e in ranks[r] if e >= 0) / speeds[r] for r in free}
        return min(free, key=lambda r: (times[r], r), default=None)

    ranks = []
    for old, size in zip(held, sizes, strict=True):
        old = list(old)
        while sum(e >= 0 for e in old) > size:
            place, expert = spares_best([(k, e) for k, e in enumerate(old) if e >= 0])
            counts[expert] -= 1
            old[place] = -1
        new = old[:size] + [-1] * (size - len(old))
        for expert in (e for e in old[size:] if e >= 0):
            new[new.index(-1)] = expert
        ranks.append(new)
    lost = {e for e in experts if counts[e] == 0}
    for expert in sorted(lost, key=lambda e: (-loads[e], e)):
        rank = free_rank(expert, distinct=False)
        if rank is not None:
            place = ranks[rank].index(-1)
        else:
            spare = [
                ((r, k), e)
                for r, row in enumerate(ranks)
                for k, e in enumerate(row)
                if e >= 0 and counts[e] > 1 and allowed(r, expert)
            ]
            if not spare:
                return ranks, lost
            (rank, place), given = spares_best(spare)
            counts[given] -= 1
        ranks[rank][place] = expert
        counts[expert] = 1
    while fill:
        hungry = sorted((e for e in experts if counts[e]), key=lambda e: (-loads[e] / counts[e], e))
        expert = next((e for e in hungry if free_rank(e, distinct=True) is not None), None)
        if expert is None:
            break
        rank = free_rank(expert, distinct=True)
        ranks[rank][ranks[rank].index(-1)] = expert
        counts[expert] += 1
    for rank, row in enumerate(ranks):
        while -1 in row:
            mine = [e for e in row if e >= 0]
            if mine:
                again = min(mine, key=lambda e: loads[e])
            elif any(allowed(rank, e) for e in experts):
                again = max((e for e in experts if allowed(rank, e)), key=lambda e: (loads[e] / counts[e], -e))
            else:
                return ranks, lost
            row[row.index(-1)] = again
            counts[again] += 1
    return ranks, lost
