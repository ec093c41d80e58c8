"""The entry of local splits: of all splits that are as fast as a given one, that which sends fewest tokens abroad."""

import math

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.split.holders import Holders, find_holders, no_holders
from eplb.kernels.split.layers import exponent_of, scale, share, share_tokens
from eplb.kernels.split.levelling import ALMOST, ROUNDING
from eplb.kernels.split.ways import Ways, find_homes, no_ways, place_waiting, put

LIFT = 2.0**-45  # of what a rank has: more room than rounding can need


@kernel
def localise_layers(
    first: int,
    last: int,
    loads: Floats,
    fixed: Floats,
    speeds: Floats,
    offsets: Ints,
    items: Ints,
    whole: bool,
    nodes: Ints,
    sources: Floats,
    shares: Floats,
    leaving: Floats,
) -> None:
    """Split the layers `first` to `last` - 1 so that fewest tokens leave their node, and no rank is slower than now.

    Arrays are those of `split_layers`, which fills `shares` [T, L, P] first; they are changed here. No time exceeds the
    largest one of before, but for rounding, by `LIFT` at most. `nodes` [R] are where the ranks stand, `sources` [T, L,
    N, E] the tokens by the node that they come from (their sum over N is `loads`). Fills `leaving` [T, L] with the
    tokens that leave their node. A layer for which there is no room, as `shares` leave tokens out, stays as it is.
    """
    num_windows, _, num_experts = loads.shape
    num_ranks, num_slots = speeds.size, offsets[speeds.size]
    holders = no_holders(num_experts, num_slots, num_ranks)
    ways = no_ways(num_experts, num_slots, num_ranks)
    scaled, scaled_fixed, own = np.empty(num_experts), np.empty(num_ranks), np.empty((sources.shape[2], num_experts))
    for layer in range(first, last):
        for t in range(num_windows):
            find_holders(items[layer], offsets, holders)  # in each window, as `_share_tokens` uses up what it holds
            find_homes(nodes, own.shape[0], holders, ways.home)
            mine = fixed[min(t, fixed.shape[0] - 1), min(layer, fixed.shape[1] - 1)]
            exponent = 0 if whole else exponent_of(loads[t, layer], mine)
            scale(loads[t, layer], exponent, scaled)
            scale(mine, exponent, scaled_fixed)
            for node in range(own.shape[0]):
                scale(sources[t, layer, node], exponent, own[node])
            if _is_open(holders, ways):
                localise(scaled, scaled_fixed, speeds, nodes, own, whole, holders, ways, shares[t, layer])
            leaving[t, layer] = math.ldexp(_leaving(nodes, own, holders, ways), exponent)


@part
def _is_open(holders: Holders, ways: Ways) -> bool:
    """Return whether any tokens can be served in one node or another."""
    for k in range(holders.sizes[0]):
        if not _has_one_home(holders, ways, holders.shared[k]):
            return True
    return False


@part
def localise(
    loads: Floats,
    fixed: Floats,
    speeds: Floats,
    nodes: Ints,
    own: Floats,
    whole: bool,
    holders: Holders,
    ways: Ways,
    shares: Floats,
) -> None:
    """Change the split `shares` [P] of `loads` [E] so that fewest tokens leave; `own` [N, E] are those of each node.

    Without any lift first, so that sums which need no rounding stay as they are.
    """
    for lift in (0.0, LIFT):
        _read_split(loads, shares, whole, holders, ways)
        _find_room(fixed, speeds, whole, lift, holders, ways)
        _find_spare(loads, nodes, own, holders, ways)
        if place_shared(loads, whole, holders, ways):
            if whole:
                share_tokens(ways.tokens, holders, shares)
            else:
                share(loads, ways.tokens, holders, shares)
            return
    _read_split(loads, shares, whole, holders, ways)
    _find_spare(loads, nodes, own, holders, ways)
    for edge in holders.rank_edges[: holders.rank_starts[speeds.size]]:
        ways.spare[ways.home[edge]] -= ways.tokens[edge]


@part
def place_shared(loads: Floats, whole: bool, holders: Holders, ways: Ways) -> bool:
    """Place all tokens anew so that fewest leave; return whether there is room for those of shared experts."""
    for expert in range(loads.size):
        edge, stop = holders.starts[expert], holders.starts[expert + 1]
        ways.waiting[expert] = loads[expert]
        ways.tokens[edge:stop] = loads[expert] if stop - edge == 1 else 0.0
    _pour(whole, holders, ways)
    return place_waiting(holders, ways)


@part
def _read_split(loads: Floats, shares: Floats, whole: bool, holders: Holders, ways: Ways) -> None:
    """Fill `tokens` [P] with what the slots of a split get."""
    ways.tokens[:] = 0.0
    for slot in range(shares.size):
        edge = holders.edge_of_slot[slot]
        ways.tokens[edge] += shares[slot] if whole else shares[slot] * loads[holders.expert_of[edge]]


@part
def _find_room(fixed: Floats, speeds: Floats, whole: bool, lift: float, holders: Holders, ways: Ways) -> None:
    """Fill `slack` [R] with the tokens of shared experts a rank may have; `lift` is a part of those it has."""
    level = 0.0
    busy, slack = fixed.copy(), ways.slack
    for edge in range(holders.starts[holders.starts.size - 1]):
        busy[holders.rank_of[edge]] += ways.tokens[edge]
    for rank in range(speeds.size):
        level = max(level, busy[rank] / speeds[rank])
    for rank in range(speeds.size):
        time, now = level * speeds[rank], 0.0
        more = time - busy[rank]
        for k in range(holders.rank_starts[rank], holders.rank_starts[rank + 1]):
            now += ways.tokens[holders.rank_edges[k]]
        slack[rank] = now + (np.floor(more + ALMOST + time * ROUNDING) if whole else max(more, 0.0) + now * lift)


@part
def _find_spare(loads: Floats, nodes: Ints, own: Floats, holders: Holders, ways: Ways) -> None:
    """Fill `spare` [P] with what comes from each home of a shared expert.

    It sums to no more than the load of the expert, and, if nothing comes from other nodes, to no less.
    """
    spare, is_home = ways.spare, np.zeros(own.shape[0], np.bool_)
    for k in range(holders.sizes[0]):
        expert = holders.shared[k]
        start, stop = holders.starts[expert], holders.starts[expert + 1]
        rest, largest, strangers = loads[expert], start, 0.0
        is_home[:] = False
        for edge in range(start, stop):
            node = nodes[holders.rank_of[edge]]
            if ways.home[edge] == edge:
                is_home[node] = True
                spare[edge] = min(rest, own[node, expert])
                rest -= spare[edge]
                if spare[edge] > spare[largest]:
                    largest = edge
        for node in range(is_home.size):
            if not is_home[node]:
                strangers += own[node, expert]
        if strangers == 0.0:
            spare[largest] += rest


@part
def _pour(whole: bool, holders: Holders, ways: Ways) -> None:
    """Place tokens in their own node where there is room, in proportion to it."""
    for k in range(holders.sizes[0]):
        expert = holders.shared[k]
        for home in range(holders.starts[expert], holders.starts[expert + 1]):
            if ways.home[home] == home:
                _pour_home(whole, holders, ways, expert, home)


@part
def _pour_home(whole: bool, holders: Holders, ways: Ways, expert: int, home: int) -> None:
    room = 0.0
    for edge in range(home, holders.starts[expert + 1]):
        if ways.home[edge] == home:
            room += ways.slack[holders.rank_of[edge]]
    share = min(1.0, ways.spare[home] / room) if room > 0.0 else 0.0
    for part_of_room in (share, 1.0):  # what rounding leaves goes where there still is room
        for edge in range(home, holders.starts[expert + 1]):
            if ways.home[edge] == home:
                rank = holders.rank_of[edge]
                tokens = ways.slack[rank] * part_of_room
                if whole:
                    tokens = np.ceil(tokens)
                tokens = min(tokens, ways.slack[rank], ways.spare[home], ways.waiting[expert])
                ways.slack[rank] -= tokens
                ways.waiting[expert] -= tokens
                put(ways, edge, tokens)


@part
def _leaving(nodes: Ints, own: Floats, holders: Holders, ways: Ways) -> float:
    """Return the tokens that leave their node; where an expert has one home, those that come from elsewhere."""
    total = 0.0
    for expert in range(own.shape[1]):
        start, stop = holders.starts[expert], holders.starts[expert + 1]
        if _has_one_home(holders, ways, expert):
            for node in range(own.shape[0]):
                if node != nodes[holders.rank_of[start]]:
                    total += own[node, expert]
            continue
        for edge in range(start, stop):
            if ways.home[edge] == edge:
                total += max(0.0, -ways.spare[edge])
    return total


@part
def _has_one_home(holders: Holders, ways: Ways, expert: int) -> bool:
    start = holders.starts[expert]
    for edge in range(start + 1, holders.starts[expert + 1]):
        if ways.home[edge] != start:
            return False
    return True
