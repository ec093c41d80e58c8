"""The weighted split by its theorem: no split is better than what the worst set of ranks allows, and one is as good.

All 2**R sets are tried, so ranks must be few. In exact arithmetic if loads, costs and speeds are integers or fractions.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import floor

import numpy as np

from eplb import Topology


def ranks_with(expert: int, slots, topology: Topology) -> list[int]:
    """Return the ranks that hold `expert` in the slots [P] of one layer, each once."""
    return sorted({int(topology.rank_of_slot[slot]) for slot, held in enumerate(slots) if held == expert})


def sums_of_subsets(values: np.ndarray) -> np.ndarray:
    """Return for each set the sum of `values` [2**R, ...] over its subsets: the zeta transform. Bit r: r is in it."""
    sums = values.copy()
    for r in range(len(values).bit_length() - 1):
        without_r, with_r = np.moveaxis(sums.reshape(-1, 2, 2**r, *values.shape[1:]), 1, 0)
        with_r += without_r
    return sums


def confined(slots, loads, topology: Topology, fixed=None) -> np.ndarray:
    """Return the tokens that cannot leave each set of working ranks, [2**R, ...], and `fixed` [R, ...] of its ranks.

    `loads` are [E], or [E, S] for scenarios. Bit r of a set stands for the r-th rank that works.
    """
    loads = np.asarray(loads, dtype=object if isinstance(loads[0], Fraction) else np.float64)
    bits = {int(rank): 1 << bit for bit, rank in enumerate(np.flatnonzero(topology.alive))}
    own = np.zeros((1 << len(bits), *loads.shape[1:]), dtype=loads.dtype)
    for expert, load in enumerate(loads):
        own[sum(bits[rank] for rank in ranks_with(expert, slots, topology))] += load
    if fixed is not None:
        for rank, bit in bits.items():
            own[bit] += fixed[rank]
    return sums_of_subsets(own)


def speeds_of_sets(topology: Topology, kind=np.float64) -> np.ndarray:
    """Return the total speed of each set of working ranks, [2**R]."""
    speeds = topology.speeds[topology.alive]
    own = np.zeros(1 << speeds.size, dtype=object if kind is Fraction else kind)
    own[[1 << r for r in range(speeds.size)]] = [kind(speed) for speed in speeds]
    return sums_of_subsets(own)


def level(slots, loads, topology: Topology, fixed=None):
    """Return the least largest rank time of any split, of loads [E] or of each scenario [E, S]."""
    tokens = confined(slots, loads, topology, fixed)
    return (tokens[1:].T / speeds_of_sets(topology)[1:]).max(axis=-1)


def exact_level(slots, loads, topology: Topology, fixed=None) -> Fraction:
    """Return the same as a fraction, for whole `loads` [E] and `fixed` [R]."""
    tokens = confined(slots, fractions(loads), topology, None if fixed is None else fractions(fixed))
    return max(tokens[1:] / speeds_of_sets(topology, Fraction)[1:])


def fractions(values) -> np.ndarray:
    """Return an array of the values as fractions."""
    return np.array([Fraction(value) for value in values], dtype=object)


def level_of_set(members, slots, loads, topology: Topology, fixed=None):
    """Return the time that the ranks where `members` [R] is true need for what cannot leave them, by plain loops."""
    chosen = [rank for rank in range(topology.num_ranks) if members[rank]]
    total = sum(loads[e] for e in range(len(loads)) if set(ranks_with(e, slots, topology)) <= set(chosen))
    total += 0 if fixed is None else sum(fixed[rank] for rank in chosen)
    return total / sum(type(total)(topology.speeds[rank]) for rank in chosen)


def whole_level(slots, loads, topology: Topology, fixed=None) -> Fraction:
    """Return the least largest time of whole tokens: every set of ranks has room for what cannot leave it (Hall)."""
    fixed = [0] * topology.num_ranks if fixed is None else [int(cost) for cost in fixed]
    tokens = confined(slots, fractions(loads), topology)
    alive = np.flatnonzero(topology.alive)
    sets = [[int(rank) for bit, rank in enumerate(alive) if chosen >> bit & 1] for chosen in range(len(tokens))]
    least = exact_level(slots, loads, topology, fixed)
    for need, chosen in zip(tokens[1:], sets[1:], strict=True):
        while sum(_room(least, rank, topology, fixed) for rank in chosen) < need:
            least = min(
                (_room(least, rank, topology, fixed) + 1 + fixed[rank]) / Fraction(topology.speeds[rank])
                for rank in chosen
            )
    return least


def _room(time: Fraction, rank: int, topology: Topology, fixed) -> int:
    """Return the whole tokens that a rank can handle in `time` besides its fixed costs."""
    return floor(time * Fraction(topology.speeds[rank])) - fixed[rank]


def least_by_trying(slots, loads, topology: Topology, fixed) -> Fraction:
    """Return the least largest time over all ways to put whole tokens on ranks, by trying them all."""
    holders = [ranks_with(expert, slots, topology) for expert in range(len(loads))]
    best = None
    for ways in itertools.product(*[ways_to_share(int(n), len(r)) for n, r in zip(loads, holders, strict=True)]):
        times = [Fraction(int(cost)) for cost in fixed]
        for ranks, way in zip(holders, ways, strict=True):
            for rank, tokens in zip(ranks, way, strict=True):
                times[rank] += tokens
        largest = max(times[r] / Fraction(topology.speeds[r]) for r in np.flatnonzero(topology.alive))
        best = largest if best is None else min(best, largest)
    return best


def ways_to_share(tokens: int, num_ranks: int) -> list[tuple[int, ...]]:
    """Return all ways to give each of the ranks some of the tokens."""
    if num_ranks == 1:
        return [(tokens,)]
    return [(n, *rest) for n in range(tokens + 1) for rest in ways_to_share(tokens - n, num_ranks - 1)]


# ---- placements


def slot_costs(slots, extras, topology: Topology) -> np.ndarray:
    """Return what the slots of each rank cost besides, [R, S], for `extras` [E, S] of a slot of each expert."""
    costs = np.zeros((topology.num_ranks, extras.shape[1]))
    for slot, expert in enumerate(slots):
        if expert >= 0:
            costs[topology.rank_of_slot[slot]] += extras[expert]
    return costs


def expected_level(slots, loads, weights, topology: Topology, extras=None) -> float:
    """Return the weighted mean over scenarios `loads` [E, S] of the least largest time, for the slots [P]."""
    fixed = None if extras is None else slot_costs(slots, extras, topology)
    return float(level(slots, loads, topology, fixed) @ weights)


def expected_optimum(
    loads, weights, topology: Topology, extras=None, before=None, max_moves=np.inf, max_received=np.inf, homes=None
) -> float:
    """Return the least `expected_level` over the placements with distinct experts on every rank, by trying them all.

    Of all of them, or of those within `max_moves` of what ranks held `before`, `max_received` for each rank, and with
    every expert on the node ``homes[e]`` alone.
    """
    experts, alive, best = range(len(loads)), np.flatnonzero(topology.alive), np.inf
    nodes = topology.node_of_rank
    allowed = [[e for e in experts if homes is None or homes[e] == nodes[r]] for r in alive]
    ranks = [itertools.combinations(mine, topology.slot_counts[r]) for mine, r in zip(allowed, alive, strict=True)]
    slots = np.full(topology.num_slots, -1)
    usable = topology.alive[topology.rank_of_slot]
    for chosen in itertools.product(*ranks):
        if len(set().union(*chosen)) < len(loads):
            continue
        if before is not None:
            new = [len(set(mine) - before[r]) for r, mine in zip(alive, chosen, strict=True)]
            if sum(new) > max_moves or max(new) > max_received:
                continue
        slots[usable] = [expert for mine in chosen for expert in mine]
        best = min(best, expected_level(slots, loads, weights, topology, extras))
    return best
