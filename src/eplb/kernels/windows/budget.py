"""Which steps of which layer are worth their moves, when all layers share one budget."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.totals import NONE, among


@kernel
def share_moves(
    first: int,
    last: int,
    steps: Ints,
    num_steps: Ints,
    times: Floats,
    moves: Ints,
    units: Floats,
    prices: Floats,
    least_gains: Floats,
    max_moves: int,
    max_received: int,
    items: Ints,
    held: Ints,
    held_offsets: Ints,
    offsets: Ints,
    taken: Ints,
    received: Ints,
) -> None:
    """Fill `taken` [L], how many steps of each layer to do, and `received` [R], what each rank then receives.

    Again and again, of the layers' next stretches (from the steps taken to any later step), the one that gains most a
    move is taken: gains are falls of ``times * units``, so that layers are compared in tokens. Equal gains prefer the
    receiver that has received least. A stretch must gain more than ``prices`` a move, the first one of a layer
    `least_gains` at least, and stay within `max_moves` in all and `max_received` a rank. All layers at once: the
    budget is theirs together.
    """
    if last <= first:
        return
    num_layers = last - first
    total = 0
    next_of, ratio_of = np.empty(num_layers, np.int64), np.empty(num_layers)
    open_ = np.ones(num_layers, np.bool_)
    mine, new = np.zeros((num_layers, received.size), np.int64), np.zeros(received.size, np.int64)
    trial = np.empty(items.shape[1], np.int64)
    for layer in range(num_layers):
        taken[layer] = 0
        _count_received(items[layer], steps[layer], 0, held[layer], held_offsets, offsets, trial, mine[layer])
        received += mine[layer]
        total += moves[layer, 0]
    for layer in range(num_layers):
        _next_stretch(layer, taken, num_steps, times, moves, prices, least_gains, max_moves - total, next_of, ratio_of)
    while True:
        best, gain, load = NONE, 0.0, 0
        for layer in range(num_layers):
            if not open_[layer] or next_of[layer] < 0:
                continue
            mine_gain = ratio_of[layer] * units[layer]
            if best >= 0 and mine_gain < gain:
                continue
            mine_load = _busiest(layer, next_of, steps, taken, received, offsets)
            if best < 0 or mine_gain > gain or mine_load < load:
                best, gain, load = layer, mine_gain, mine_load
        if best < 0:
            return
        k, more = next_of[best], moves[best, next_of[best]] - moves[best, taken[best]]
        _count_received(items[best], steps[best], k, held[best], held_offsets, offsets, trial, new)
        fits = total + more <= max_moves or more <= 0
        for rank in range(received.size):
            grown = new[rank] - mine[best, rank]
            fits = fits and (grown <= 0 or received[rank] + grown <= max_received)
        if fits:
            total += more
            received += new - mine[best]
            mine[best] = new
            taken[best] = k
        else:
            open_[best] = _shorten(best, k, num_steps, taken)
        _next_stretch(best, taken, num_steps, times, moves, prices, least_gains, max_moves - total, next_of, ratio_of)


@part
def _shorten(layer: int, k: int, num_steps: Ints, taken: Ints) -> bool:
    """Leave out the steps from `k` on; return whether any are left."""
    num_steps[layer] = k - 1
    return num_steps[layer] > taken[layer]


@part
def _next_stretch(
    layer: int,
    taken: Ints,
    num_steps: Ints,
    times: Floats,
    moves: Ints,
    prices: Floats,
    least_gains: Floats,
    room: int,
    next_of: Ints,
    ratio_of: Floats,
) -> None:
    """Find the step up to which a layer gains most a move; -1 if none pays. Gains without moves come first."""
    start = taken[layer]
    next_of[layer], ratio_of[layer] = NONE, 0.0
    for k in range(start + 1, num_steps[layer] + 1):
        gain, more = times[layer, start] - times[layer, k], moves[layer, k] - moves[layer, start]
        if gain <= 0.0 or gain <= prices[layer] * more or (more > 0 and more > room):
            continue
        if start == 0 and gain < least_gains[layer]:
            continue
        ratio = gain / more if more > 0 else np.inf
        if next_of[layer] < 0 or ratio > ratio_of[layer]:
            next_of[layer], ratio_of[layer] = k, ratio


@part
def _busiest(layer: int, next_of: Ints, steps: Ints, taken: Ints, received: Ints, offsets: Ints) -> int:
    """Return the most that one of the ranks which the next stretch of a layer touches has received."""
    most = 0
    for k in range(taken[layer], next_of[layer]):
        for slot in (steps[layer, k, 0], steps[layer, k, 1]):
            if slot >= 0:
                rank = np.searchsorted(offsets, slot, side="right") - 1
                most = max(most, received[rank])
    return most


@part
def _count_received(
    items: Ints, steps: Ints, num: int, held: Ints, held_offsets: Ints, offsets: Ints, trial: Ints, received: Ints
) -> None:
    """Fill `received` [R]: experts on each rank after `num` steps that it did not hold before."""
    for slot in range(items.size):
        trial[slot] = items[slot]
    for k in range(num):
        slot, other = steps[k, 0], steps[k, 1]
        if other >= 0:
            trial[slot], trial[other] = trial[other], trial[slot]
        else:
            trial[slot] = -1 - other
    for rank in range(received.size):
        received[rank] = 0
        for slot in range(offsets[rank], offsets[rank + 1]):
            known = among(trial, offsets[rank], slot, trial[slot])
            if not known and not among(held, held_offsets[rank], held_offsets[rank + 1], trial[slot]):
                received[rank] += 1
