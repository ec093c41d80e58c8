"""Placing tokens so that fewest leave their node: a flow of least cost from experts to the ranks that hold them.

Tokens wait at their expert and go to ranks with room along shortest ways. An expert may place in a node as many tokens
as come from there for nothing, and each more for 1; a way may push tokens of other experts on, or back home. Of ways of
equal cost the one with fewer steps is the shorter. All shortest ways are used up before lengths are measured anew
(successive shortest paths, Busacker and Gowen 1960, by blocking flows, Dinic 1970; Ahuja, Magnanti and Orlin, Network
Flows, 1993, chapter 9). Lengths are integers, and every shift fills or empties something exactly. So lengths only grow,
and there is an end, in floating point as well.
"""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import part
from eplb.kernels.split.holders import Holders

FAR = 2**60  # there is no way


class Ways(NamedTuple):
    """Tokens of one layer on their way. A home is a node that holds an expert, known by its first edge there."""

    tokens: Floats
    """Tokens of each edge, [P]."""
    home: Ints
    """Home that each edge belongs to, [P]."""
    spare: Floats
    """Tokens from each home that are not placed there; below 0, tokens placed there that come from elsewhere, [P]."""
    waiting: Floats
    """Tokens of each expert that are still to be placed, [E]."""
    slack: Floats
    """Tokens that each rank has room for, [R]."""
    distance: Ints
    """Length of the shortest way from each rank to one with room, [R]."""
    reach: Ints
    """The same from each expert with waiting tokens, [E]."""
    at_edge: Ints
    """Place in `rank_edges` where each rank goes on looking for its next step, [R]."""
    at_holder: Ints
    """Holder of that edge's expert where it goes on, [R]."""
    left: Ints
    """Edge that each step of a way takes tokens from, [R]; while measuring, the queue."""
    taken: Ints
    """Edge that each step of a way gives them to, [R]."""
    queued: Bools
    """Whether each rank is in the queue, [R]."""


@part
def no_ways(num_experts: int, num_slots: int, num_ranks: int) -> Ways:
    """Return room for the tokens of a layer."""
    return Ways(
        np.empty(num_slots),
        np.empty(num_slots, np.int64),
        np.empty(num_slots),
        np.empty(num_experts),
        np.empty(num_ranks),
        np.empty(num_ranks, np.int64),
        np.empty(num_experts, np.int64),
        np.empty(num_ranks, np.int64),
        np.empty(num_ranks, np.int64),
        np.empty(num_ranks, np.int64),
        np.empty(num_ranks, np.int64),
        np.zeros(num_ranks, np.bool_),
    )


@part
def find_homes(nodes: Ints, num_nodes: int, holders: Holders, home: Ints) -> None:
    """Fill `home` [P] for ranks that stand in `nodes` [R]."""
    first = np.full(num_nodes, -1, np.int64)
    for expert in range(holders.starts.size - 1):
        start = holders.starts[expert]
        for edge in range(start, holders.starts[expert + 1]):
            node = nodes[holders.rank_of[edge]]
            if first[node] < start:
                first[node] = edge
            home[edge] = first[node]


@part
def place_waiting(holders: Holders, ways: Ways) -> bool:
    """Place what waits, without any token more that leaves its node than there must be; return whether all is placed.

    What is placed already must be so at least cost.
    """
    while _measure(holders, ways):
        for k in range(holders.sizes[0]):
            if ways.waiting[holders.shared[k]] > 0.0:
                _send(holders, ways, holders.shared[k])
    for k in range(holders.sizes[0]):
        if ways.waiting[holders.shared[k]] > 0.0:
            return False
    return True


@part
def _unit(ways: Ways) -> int:
    """Return the length of a cost of 1: more than all steps of a way."""
    return 2 * ways.slack.size + 2


@part
def _cost_in(ways: Ways, edge: int) -> int:
    """Return what a token more at the home of `edge` costs."""
    return 0 if ways.spare[ways.home[edge]] > 0.0 else 1


@part
def _length(ways: Ways, mine: int, edge: int) -> int:
    """Return the length of the step that takes tokens of an expert from the edge `mine` to another one of its edges.

    A step to another node counts twice, as it passes the expert: else a shift could open ways as short as it took.
    """
    if ways.home[mine] == ways.home[edge]:
        return 1
    cost = _cost_in(ways, edge)
    if ways.spare[ways.home[mine]] < 0.0:
        cost -= 1
    return 2 + cost * _unit(ways)


@part
def _measure(holders: Holders, ways: Ways) -> bool:
    """Fill `distance` and `reach`; return whether any expert with waiting tokens has a way. Label-correcting."""
    distance, queue, queued = ways.distance, ways.left, ways.queued
    num_ranks, head, size = distance.size, 0, 0
    for rank in range(num_ranks):
        ways.at_edge[rank], ways.at_holder[rank] = holders.rank_starts[rank], 0
        distance[rank] = FAR
        if ways.slack[rank] > 0.0:
            distance[rank] = 0
            queue[size] = rank
            queued[rank] = True
            size += 1
    while size > 0:
        rank = queue[head]
        head, size = (head + 1) % num_ranks, size - 1
        queued[rank] = False
        for k in range(holders.rank_starts[rank], holders.rank_starts[rank + 1]):
            edge = holders.rank_edges[k]
            expert = holders.expert_of[edge]
            for mine in range(holders.starts[expert], holders.starts[expert + 1]):
                if mine == edge or ways.tokens[mine] <= 0.0:
                    continue
                other, length = holders.rank_of[mine], distance[rank] + _length(ways, mine, edge)
                if length < distance[other]:
                    distance[other] = length
                    if not queued[other]:
                        queue[(head + size) % num_ranks] = other
                        queued[other] = True
                        size += 1
    return _measure_waiting(holders, ways)


@part
def _measure_waiting(holders: Holders, ways: Ways) -> bool:
    """Fill `reach` of experts with waiting tokens; return whether any has a way."""
    found = False
    for k in range(holders.sizes[0]):
        expert = holders.shared[k]
        ways.reach[expert] = FAR
        if ways.waiting[expert] > 0.0:
            for edge in range(holders.starts[expert], holders.starts[expert + 1]):
                if ways.distance[holders.rank_of[edge]] < FAR:
                    found = True
                    ways.reach[expert] = min(ways.reach[expert], _length_from_expert(holders, ways, edge))
    return found


@part
def _length_from_expert(holders: Holders, ways: Ways, edge: int) -> int:
    """Return the length of the shortest way of waiting tokens that begins with `edge`."""
    return ways.distance[holders.rank_of[edge]] + 1 + _cost_in(ways, edge) * _unit(ways)


@part
def _send(holders: Holders, ways: Ways, expert: int) -> None:
    """Send waiting tokens of `expert` along all ways of the length that was measured."""
    for first in range(holders.starts[expert], holders.starts[expert + 1]):
        while ways.waiting[expert] > 0.0 and _length_from_expert(holders, ways, first) == ways.reach[expert]:
            num_steps = _find_way(holders, ways, first)
            if num_steps < 0:
                break
            _shift(holders, ways, expert, first, num_steps)


@part
def _find_way(holders: Holders, ways: Ways, first: int) -> int:
    """Fill `left` and `taken` with a shortest way from the rank of `first` on; return its steps, -1 without any."""
    rank, num_steps = holders.rank_of[first], 0
    while ways.slack[rank] <= 0.0:
        edge = _next_step(holders, ways, rank)
        if edge >= 0:
            ways.left[num_steps], ways.taken[num_steps] = holders.rank_edges[ways.at_edge[rank]], edge
            num_steps += 1
            rank = holders.rank_of[edge]
        elif num_steps == 0:
            return -1
        else:
            num_steps -= 1
            rank = holders.rank_of[ways.left[num_steps]]
            ways.at_holder[rank] += 1
    return num_steps


@part
def _next_step(holders: Holders, ways: Ways, rank: int) -> int:
    """Return the edge that the next shortest way from `rank` takes first, -1 if there is none left."""
    while ways.at_edge[rank] < holders.rank_starts[rank + 1]:
        mine = holders.rank_edges[ways.at_edge[rank]]
        start, stop = holders.starts[holders.expert_of[mine]], holders.starts[holders.expert_of[mine] + 1]
        while ways.tokens[mine] > 0.0 and start + ways.at_holder[rank] < stop:
            edge = start + ways.at_holder[rank]
            rest = ways.distance[holders.rank_of[edge]]
            if edge != mine and rest + _length(ways, mine, edge) == ways.distance[rank]:
                return edge
            ways.at_holder[rank] += 1
        ways.at_edge[rank] += 1
        ways.at_holder[rank] = 0
    return -1


@part
def _shift(holders: Holders, ways: Ways, expert: int, first: int, num_steps: int) -> None:
    """Place waiting tokens of `expert` along a way, as many as it takes at its length."""
    tokens, home, spare = ways.tokens, ways.home, ways.spare
    end = holders.rank_of[first if num_steps == 0 else ways.taken[num_steps - 1]]
    amount = min(ways.waiting[expert], ways.slack[end])
    if spare[home[first]] > 0.0:
        amount = min(amount, spare[home[first]])
    for i in range(num_steps):
        mine, edge = ways.left[i], ways.taken[i]
        amount = min(amount, tokens[mine])
        if home[mine] != home[edge]:
            if spare[home[edge]] > 0.0:
                amount = min(amount, spare[home[edge]])
            if spare[home[mine]] < 0.0:
                amount = min(amount, -spare[home[mine]])
    ways.waiting[expert] -= amount
    ways.slack[end] -= amount
    put(ways, first, amount)
    for i in range(num_steps):
        mine, edge = ways.left[i], ways.taken[i]
        tokens[mine] -= amount
        tokens[edge] += amount
        if home[mine] != home[edge]:
            spare[home[mine]] += amount
            spare[home[edge]] -= amount


@part
def put(ways: Ways, edge: int, amount: float) -> None:
    """Place tokens on an edge and count them where they come from."""
    ways.tokens[edge] += amount
    ways.spare[ways.home[edge]] -= amount
