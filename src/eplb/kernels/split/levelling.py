"""The exact split of one layer: the least largest rank time, the flow that reaches it, and the ranks that prove it.

A parametric flow from experts to the ranks that hold them. All tokens are always somewhere; ranks above the level push
theirs along shared experts towards ranks below it, those farthest from one first (push and relabel in waves with exact
distances: Goldberg and Tarjan, doi:10.1145/48014.61051). Where one cannot get rid of them, the ranks that they can
reach are a set X whose tokens cannot leave it, and the level rises to (load of X) / (speed of X): a Newton step
(Dinkelbach, doi:10.1287/mnsc.13.7.492). When no set asks for more, the level is the optimum, and the last X its proof.
"""

import math

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.split.holders import Holders
from eplb.kernels.totals import NONE

NEGLIGIBLE = 2.0**-44  # of what a rank has time for: less than that above the level is rounding
ROUNDING = 2.0**-48  # of a number: more than a few operations can be off
ROUNDS = 8  # times that rounding is looked after
ALMOST = 1e-6  # of a token: so near below a whole number of tokens, a rank has room for it


@part
def level_ranks(
    loads: Floats,
    fixed: Floats,
    speeds: Floats,
    holders: Holders,
    whole: bool,
    least: float,
    flow: Floats,
    tight: Bools,
) -> float:
    """Fill `flow` [P], tokens of each edge of `holders`, and `tight` [R], a set that proves it; return the level.

    `loads` [E] are tokens, `fixed` [R] what a rank has to do besides, in tokens, `speeds` [R] tokens in a unit of time.
    With `whole`, tokens stay whole (`loads` must be integers), and the level is the least that whole tokens allow. If
    it is known to be `least` or more, that is where the search begins; `tight` proves it if it is more.
    """
    num_ranks = speeds.size
    busy, slack, negligible = np.empty(num_ranks), np.empty(num_ranks), np.empty(num_ranks)
    distance, order = np.empty(num_ranks, np.int64), np.empty(num_ranks, np.int64)
    _place_unshared(loads, fixed, holders, flow, busy)
    level = max(_first_level(loads, fixed, busy, speeds, holders, whole, tight), least)
    _find_slack(level, fixed, busy, speeds, holders, whole, flow, slack, negligible)
    _pour(loads, holders, whole, slack, flow)
    graph = (holders.starts, holders.rank_of, holders.expert_of, holders.rank_starts, holders.rank_edges)
    rounds = 0
    while True:
        while _wave(*graph, negligible, slack, flow, distance, order):
            pass
        _find_slack(level, fixed, busy, speeds, holders, whole, flow, slack, negligible)
        if not _find_stuck(*graph, negligible, slack, flow, distance, order):
            return level
        higher = _level_of(loads, fixed, busy, speeds, holders, whole, distance, level)
        if higher > level:
            level = higher
            for rank in range(num_ranks):
                tight[rank] = distance[rank] == 0
            _find_slack(level, fixed, busy, speeds, holders, whole, flow, slack, negligible)
        else:  # rounding put some above the level again
            rounds += 1
            if rounds == ROUNDS:
                return level
            # on a slow rank that may be much: let the fast ones take it, to whom it is nothing
            _find_slack(level * (1 + ROUNDING), fixed, busy, speeds, holders, whole, flow, slack, negligible)


@part
def _find_slack(
    level: float,
    fixed: Floats,
    busy: Floats,
    speeds: Floats,
    holders: Holders,
    whole: bool,
    flow: Floats,
    slack: Floats,
    negligible: Floats,
) -> None:
    """Fill `slack` [R], the tokens for which each rank has time left at `level`, and what of it is rounding."""
    rank_starts, rank_edges = holders.rank_starts, holders.rank_edges
    for rank in range(speeds.size):
        tokens = busy[rank] - fixed[rank]
        if whole:
            tokens = float(round(tokens))
        for k in range(rank_starts[rank], rank_starts[rank + 1]):
            tokens += flow[rank_edges[k]]
        slack[rank] = _room(level, fixed[rank], speeds[rank], whole) - tokens
        negligible[rank] = 0.5 if whole else level * speeds[rank] * NEGLIGIBLE


@part
def _place_unshared(loads: Floats, fixed: Floats, holders: Holders, flow: Floats, busy: Floats) -> None:
    """Put experts of one rank there, and fill `busy` [R] with them and `fixed`."""
    starts, rank_of = holders.starts, holders.rank_of
    for rank in range(fixed.size):
        busy[rank] = fixed[rank]
    for expert in range(loads.size):
        edge = starts[expert]
        if starts[expert + 1] - edge == 1:
            flow[edge] = loads[expert]
            busy[rank_of[edge]] += loads[expert]
        else:
            flow[edge : starts[expert + 1]] = 0.0


@part
def _first_level(
    loads: Floats, fixed: Floats, busy: Floats, speeds: Floats, holders: Holders, whole: bool, tight: Bools
) -> float:
    """Return the largest of the mean time and what each rank cannot share; fill `tight` with the ranks it is of."""
    members = np.zeros(speeds.size, np.int64)
    level = _level_of(loads, fixed, busy, speeds, holders, whole, members, 0.0)
    tight[:] = True
    for rank in range(speeds.size):
        if busy[rank] > level * speeds[rank]:
            level = busy[rank] / speeds[rank]
            tight[:] = False
            tight[rank] = True
    return level


@part
def _room(level: float, fixed: float, speed: float, whole: bool) -> float:
    """Return the tokens that a rank has time for at `level`; not below 0 when there is any for `fixed`."""
    time = level * speed
    return np.floor(time - fixed + ALMOST + time * ROUNDING) if whole else time - fixed  # beyond int64, too


@part
def _level_of(
    loads: Floats,
    fixed: Floats,
    busy: Floats,
    speeds: Floats,
    holders: Holders,
    whole: bool,
    distance: Ints,
    least: float,
) -> float:
    """Return the time that the ranks at distance 0 need for the tokens that cannot leave them."""
    starts, rank_of, shared = holders.starts, holders.rank_of, holders.shared
    confined, speed = 0.0, 0.0
    for rank in range(speeds.size):
        if distance[rank] == 0:
            confined += busy[rank]
            speed += speeds[rank]
    for k in range(holders.sizes[0]):
        expert = shared[k]
        edge, stop = starts[expert], starts[expert + 1]
        while edge < stop and distance[rank_of[edge]] == 0:
            edge += 1
        if edge == stop:
            confined += loads[expert]
    level = confined / speed
    return _whole_level(confined, fixed, speeds, distance, max(level, least)) if whole else level


@part
def _whole_level(confined: float, fixed: Floats, speeds: Floats, distance: Ints, level: float) -> float:
    """Return the least level from `level` on at which the ranks at distance 0 have room for whole tokens `confined`."""
    while True:
        room, following = 0.0, np.inf
        for rank in range(speeds.size):
            if distance[rank] == 0:
                mine = _room(level, fixed[rank], speeds[rank], True)
                room += mine + fixed[rank]
                following = min(following, (mine + 1.0 + fixed[rank]) / speeds[rank])
        if room >= confined * (1 - ROUNDING) - ALMOST:
            return level
        level = following


@part
def _pour(loads: Floats, holders: Holders, whole: bool, slack: Floats, flow: Floats) -> None:
    """Give every shared expert's tokens to its ranks in proportion to the room that each has left."""
    starts, rank_of, shared = holders.starts, holders.rank_of, holders.shared
    for k in range(holders.sizes[0]):
        expert = shared[k]
        edge, stop = starts[expert], starts[expert + 1]
        rest, room = loads[expert], 0.0
        for other in range(edge, stop):
            room += max(slack[rank_of[other]], 0.0)
        share = rest / room if room > 0.0 else 0.0
        for other in range(edge, stop):
            rank = rank_of[other]
            tokens = min(rest, max(slack[rank], 0.0) * share)
            if whole:
                tokens = min(rest, math.ceil(tokens))
            if other == stop - 1:
                tokens = rest
            flow[other] = tokens
            slack[rank] -= tokens
            rest -= tokens


@part
def _wave(
    starts: Ints,
    rank_of: Ints,
    expert_of: Ints,
    rank_starts: Ints,
    rank_edges: Ints,
    negligible: Floats,
    slack: Floats,
    flow: Floats,
    distance: Ints,
    order: Ints,
) -> bool:
    """Let all ranks above the level push tokens a step towards the nearest rank below it; return whether any did.

    Distances come first: 0 below the level, else the steps to there, -1 where there is no way. Tokens go to ranks that
    are a step nearer; to one below the level, no more than it has room for.
    """
    num_ranks, size = slack.size, 0
    for rank in range(num_ranks):
        distance[rank] = -1
        if slack[rank] > 0.0:
            distance[rank] = 0
            order[size] = rank
            size += 1
    done = 0
    while done < size:
        rank = order[done]
        done += 1
        for k in range(rank_starts[rank], rank_starts[rank + 1]):
            expert = expert_of[rank_edges[k]]
            for edge in range(starts[expert], starts[expert + 1]):
                other = rank_of[edge]
                if distance[other] < 0 and flow[edge] > 0.0:
                    distance[other] = distance[rank] + 1
                    order[size] = other
                    size += 1
    pushed = False
    for i in range(size - 1, -1, -1):
        rank = order[i]
        if distance[rank] == 0 or slack[rank] >= -negligible[rank]:
            continue
        pushed = True
        nearer = distance[rank] - 1
        for k in range(rank_starts[rank], rank_starts[rank + 1]):
            mine = rank_edges[k]
            expert = expert_of[mine]
            for edge in range(starts[expert], starts[expert + 1]):
                other = rank_of[edge]
                if distance[other] == nearer and slack[rank] < 0.0:
                    tokens = min(-slack[rank], flow[mine])
                    if nearer == 0:
                        tokens = min(tokens, max(slack[other], 0.0))
                    flow[mine] -= tokens
                    flow[edge] += tokens
                    slack[rank] += tokens
                    slack[other] -= tokens
    return pushed


@part
def _find_stuck(
    starts: Ints,
    rank_of: Ints,
    expert_of: Ints,
    rank_starts: Ints,
    rank_edges: Ints,
    negligible: Floats,
    slack: Floats,
    flow: Floats,
    distance: Ints,
    order: Ints,
) -> bool:
    """Set the distance of the rank most above the level, and of those that its tokens can reach, to 0, of others to -1.

    Return whether there is one. Of one rank alone: the tokens of a slow one are lost among those that fast ones, stuck
    elsewhere, are above the level by rounding.
    """
    worst, most = NONE, 1.0
    for rank in range(slack.size):
        distance[rank] = -1
        if slack[rank] < -most * negligible[rank]:
            worst, most = rank, -slack[rank] / negligible[rank]
    if worst < 0:
        return False
    distance[worst] = 0
    order[0] = worst
    size, done = 1, 0
    while done < size:
        rank = order[done]
        done += 1
        for k in range(rank_starts[rank], rank_starts[rank + 1]):
            mine = rank_edges[k]
            if flow[mine] <= 0.0:
                continue
            for edge in range(starts[expert_of[mine]], starts[expert_of[mine] + 1]):
                if distance[rank_of[edge]] < 0:
                    distance[rank_of[edge]] = 0
                    order[size] = rank_of[edge]
                    size += 1
    return True
