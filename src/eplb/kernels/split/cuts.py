"""Cuts: sets of ranks whose tokens cannot leave them, which bound what any split can reach from below.

The exact split of a placement is the largest, over all sets X of ranks, of (tokens of experts held in X alone) / (speed
of X). Those few X that were found to be the largest are kept: after a change of the placement they bound its split from
below at the price of a few sums, where the split itself takes a flow for every scenario.
"""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import part


class Cuts(NamedTuple):
    """K sets of ranks, of which the first ``size[0]`` count; the first is the set of all. S scenarios."""

    member: Bools
    """Whether each rank is in the set, [K, R]."""
    per_speed: Floats
    """1 / (speed of the set), [K]."""
    outside: Ints
    """Slots that hold each expert on ranks that are not in the set, [K, E]."""
    amounts: Floats
    """Tokens that cannot leave the set, and what its slots cost besides, in each scenario, [K, S]."""
    used: Ints
    """When the set last bound a scenario, [K]."""
    size: Ints
    """How many there are, [1]."""
    clock: Ints
    """Counts the times that a placement was split, [1]."""


class Change(NamedTuple):
    """What a swap or a re-grant does: two experts, each of which may leave a rank and join another; -1 for none."""

    first: int
    first_leaves: int
    first_joins: int
    second: int
    second_leaves: int
    second_joins: int


@part
def no_cuts(num_cuts: int, num_ranks: int, num_experts: int, num_scenarios: int) -> Cuts:
    """Return room for `num_cuts` cuts."""
    return Cuts(
        np.zeros((num_cuts, num_ranks), np.bool_),
        np.zeros(num_cuts),
        np.zeros((num_cuts, num_experts), np.int64),
        np.zeros((num_cuts, num_scenarios)),
        np.zeros(num_cuts, np.int64),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
    )


@part
def add_cut(
    cuts: Cuts, tight: Bools, items: Ints, rank_of: Ints, loads: Floats, extras: Floats, speeds: Floats
) -> None:
    """Add the set `tight` [R], unless it is there, in place of the one that has not bound for longest if it is full."""
    for k in range(cuts.size[0]):
        if _same(cuts.member, k, tight):
            cuts.used[k] = cuts.clock[0]
            return
    place = cuts.size[0]
    if place < cuts.used.size:
        cuts.size[0] += 1
    else:
        place = 1
        for k in range(2, cuts.used.size):
            if cuts.used[k] < cuts.used[place]:
                place = k
    speed = 0.0
    for rank in range(tight.size):
        cuts.member[place, rank] = tight[rank]
        if tight[rank]:
            speed += speeds[rank]
    cuts.per_speed[place] = 1.0 / speed
    cuts.used[place] = cuts.clock[0]
    cuts.amounts[place] = 0.0
    cuts.outside[place] = 0
    _sum_amounts(items, rank_of, tight, loads, extras, cuts.outside[place], cuts.amounts[place])


@part
def _same(member: Bools, k: int, tight: Bools) -> bool:
    for rank in range(tight.size):
        if member[k, rank] != tight[rank]:
            return False
    return True


@part
def _sum_amounts(
    items: Ints, rank_of: Ints, tight: Bools, loads: Floats, extras: Floats, outside: Ints, amounts: Floats
) -> None:
    """Fill `outside` [E] and `amounts` [S] of the set `tight`, both zeros before."""
    for slot in range(items.size):
        if not tight[rank_of[slot]]:
            outside[items[slot]] += 1
        elif extras.size > 0:
            for s in range(amounts.size):
                amounts[s] += extras[items[slot], s]
    for expert in range(outside.size):
        if outside[expert] == 0:
            for s in range(amounts.size):
                amounts[s] += loads[expert, s]


@part
def bound_change(
    member: Bools,
    per_speed: Floats,
    outside: Ints,
    amounts: Floats,
    num_cuts: int,
    weights: Floats,
    loads: Floats,
    extras: Floats,
    change: Change,
    bounds: Floats,
) -> float:
    """Fill `bounds` [S], a lower bound on the split of each scenario after `change`; return their weighted mean."""
    one, two = change.first, change.second
    here, there, back, away = change.first_leaves, change.first_joins, change.second_leaves, change.second_joins
    for s in range(weights.size):
        bounds[s] = 0.0
    for k in range(num_cuts):  # calls no function with arrays: to count references would take longer than the sums
        left_one, joined_one = here >= 0 and not member[k, here], there >= 0 and not member[k, there]
        left_two, joined_two = back >= 0 and not member[k, back], away >= 0 and not member[k, away]
        before_one, before_two = outside[k, one], outside[k, two]
        first = 1.0 * (before_one - left_one + joined_one == 0) - 1.0 * (before_one == 0)
        second = 1.0 * (before_two - left_two + joined_two == 0) - 1.0 * (before_two == 0)
        part_of = per_speed[k]
        if extras.size > 0:
            more = 1.0 * (there >= 0 and member[k, there]) - 1.0 * (here >= 0 and member[k, here])
            also = 1.0 * (away >= 0 and member[k, away]) - 1.0 * (back >= 0 and member[k, back])
            for s in range(weights.size):
                amount = amounts[k, s] + first * loads[one, s] + second * loads[two, s]
                bounds[s] = max(bounds[s], (amount + more * extras[one, s] + also * extras[two, s]) * part_of)
        elif first == 0.0 and second == 0.0:
            for s in range(weights.size):
                bounds[s] = max(bounds[s], amounts[k, s] * part_of)
        else:
            for s in range(weights.size):
                bounds[s] = max(bounds[s], (amounts[k, s] + first * loads[one, s] + second * loads[two, s]) * part_of)
    total = 0.0
    for s in range(weights.size):
        total += weights[s] * bounds[s]
    return total


@part
def apply_change(cuts: Cuts, loads: Floats, extras: Floats, change: Change) -> None:
    """Bring all cuts to the placement after `change`."""
    for k in range(cuts.size[0]):
        _apply(cuts, k, loads, extras, change.first, change.first_leaves, change.first_joins)
        _apply(cuts, k, loads, extras, change.second, change.second_leaves, change.second_joins)


@part
def _apply(cuts: Cuts, k: int, loads: Floats, extras: Floats, expert: int, leaves: int, joins: int) -> None:
    """Let `expert` leave a rank and join another, in the sums of set `k`."""
    before, more = cuts.outside[k, expert], 0.0
    for rank, sign in ((leaves, -1), (joins, 1)):
        if rank >= 0 and cuts.member[k, rank]:
            more += sign
        elif rank >= 0:
            cuts.outside[k, expert] += sign
    confined = 1.0 * (cuts.outside[k, expert] == 0) - 1.0 * (before == 0)
    for s in range(loads.shape[1]):
        cuts.amounts[k, s] += confined * loads[expert, s]
        if extras.size > 0:
            cuts.amounts[k, s] += more * extras[expert, s]
