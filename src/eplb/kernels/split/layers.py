"""The entry of the exact split: every window and layer from loads to the tokens of each slot."""

import math

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.split.holders import Holders, find_holders, no_holders
from eplb.kernels.split.levelling import level_ranks
from eplb.kernels.totals import largest_of


@kernel
def split_layers(
    first: int,
    last: int,
    loads: Floats,
    fixed: Floats,
    speeds: Floats,
    offsets: Ints,
    items: Ints,
    whole: bool,
    shares: Floats,
    levels: Floats,
    tight: Bools,
) -> None:
    """Split `loads` [T, L, E] of the layers `first` to `last` - 1 over the slots that hold `items` [L, P].

    `offsets` [R + 1] are the first slots of the ranks, `speeds` [R] their tokens in a unit of time, and `fixed`, of [T
    or 1, L or 1, R], tokens' worth of work that each has besides. Fills `shares` [T, L, P] (of an expert's tokens; with
    `whole`, the tokens themselves, whole ones), the largest times `levels` [T, L], and `tight` [T, L, R], the ranks
    that prove it.
    """
    num_windows, _, num_experts = loads.shape
    num_ranks, num_slots = speeds.size, offsets[speeds.size]
    holders = no_holders(num_experts, num_slots, num_ranks)
    flow = np.empty(num_slots)
    scaled, scaled_fixed = np.empty(num_experts), np.empty(num_ranks)
    for layer in range(first, last):
        find_holders(items[layer], offsets, holders)
        for t in range(num_windows):
            mine = fixed[min(t, fixed.shape[0] - 1), min(layer, fixed.shape[1] - 1)]
            exponent = 0 if whole else exponent_of(loads[t, layer], mine)
            scale(loads[t, layer], exponent, scaled)
            scale(mine, exponent, scaled_fixed)
            level = level_ranks(scaled, scaled_fixed, speeds, holders, whole, 0.0, flow, tight[t, layer])
            levels[t, layer] = math.ldexp(level, exponent)
            if whole:
                share_tokens(flow, holders, shares[t, layer])
            else:
                share(scaled, flow, holders, shares[t, layer])


@part
def exponent_of(loads: Floats, fixed: Floats) -> int:
    """Return the exponent of a power of two above all of them."""
    return math.frexp(max(largest_of(loads), largest_of(fixed)))[1]


@part
def scale(values: Floats, exponent: int, scaled: Floats) -> None:
    for i in range(values.size):
        scaled[i] = math.ldexp(values[i], -exponent)


@part
def share(loads: Floats, flow: Floats, holders: Holders, shares: Floats) -> None:
    """Write what part of its expert's tokens each slot gets; slots of one rank alike, all alike if there are none."""
    edge_of_slot, expert_of, copies, starts = holders.edge_of_slot, holders.expert_of, holders.copies, holders.starts
    for slot in range(shares.size):
        edge = edge_of_slot[slot]
        expert = expert_of[edge]
        if loads[expert] > 0.0:
            shares[slot] = flow[edge] / loads[expert] / copies[edge]
        else:
            count = 0
            for other in range(starts[expert], starts[expert + 1]):
                count += copies[other]
            shares[slot] = 1.0 / count


@part
def share_tokens(flow: Floats, holders: Holders, tokens: Floats) -> None:
    """Write the whole tokens of each slot; of the slots of one rank, the first ones get one more where it must be."""
    edge_of_slot, left = holders.edge_of_slot, holders.copies.copy()
    for slot in range(tokens.size - 1, -1, -1):
        edge = edge_of_slot[slot]
        tokens[slot] = math.floor(flow[edge] / left[edge])
        flow[edge] -= tokens[slot]
        left[edge] -= 1
