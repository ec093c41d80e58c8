"""Renaming ranks and slots of a new plan so that it overlaps the old one as far as it can."""

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import kernel, part


@kernel
def rename_layers(
    first: int, last: int, held: Ints, held_offsets: Ints, offsets: Ints, kinds: Ints, items: Ints
) -> None:
    """Let the ranks of `items` [L, P] trade places, in place, so that most experts stay where `held` [L, P'] has them.

    Ranks of one kind (`kinds` [R]: equal slots, speed and node) can trade: an assignment of least cost.
    """
    num_ranks = offsets.size - 1
    num_experts = 0
    for layer in range(first, last):
        num_experts = max(num_experts, items[layer].max() + 1)
    members = np.empty(num_ranks, np.int64)
    copy = np.empty(items.shape[1], np.int64)
    here = np.zeros(num_experts, np.bool_)
    for layer in range(first, last):
        copy[:] = items[layer]
        for kind in range(num_ranks):
            size = 0
            for rank in range(num_ranks):
                if kinds[rank] == kind:
                    members[size] = rank
                    size += 1
            if size < 2:
                continue
            costs = np.zeros((size, size))
            for i in range(size):
                _mark(copy, offsets, members[i], True, here)
                for j in range(size):
                    for slot in range(held_offsets[members[j]], held_offsets[members[j] + 1]):
                        expert = held[layer, slot]
                        if 0 <= expert < num_experts and here[expert]:
                            costs[i, j] -= 1.0
                _mark(copy, offsets, members[i], False, here)
            place = assign(costs)
            for i in range(size):
                start, target = offsets[members[i]], offsets[members[place[i]]]
                for k in range(offsets[members[i] + 1] - start):
                    items[layer, target + k] = copy[start + k]


@part
def _mark(items: Ints, offsets: Ints, rank: int, value: bool, here: Bools) -> None:
    for slot in range(offsets[rank], offsets[rank + 1]):
        here[items[slot]] = value


@part
def assign(costs: Floats) -> Ints:
    """Return for each row of `costs` [n, n] its column in an assignment of least total cost.

    Successive shortest paths with potentials (Jonker and Volgenant, doi:10.1007/BF02278710). O(n^3).
    """
    size = costs.shape[0]
    row_price, column_price = np.zeros(size + 1), np.zeros(size + 1)
    row_of, way = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)  # row 0 is none
    for row in range(1, size + 1):
        row_of[0] = row
        column = 0
        least = np.full(size + 1, np.inf)
        used = np.zeros(size + 1, np.bool_)
        while row_of[column] != 0:
            used[column] = True
            current, delta, nearest = row_of[column], np.inf, 0
            for j in range(1, size + 1):
                if used[j]:
                    continue
                cost = costs[current - 1, j - 1] - row_price[current] - column_price[j]
                if cost < least[j]:
                    least[j], way[j] = cost, column
                if least[j] < delta:
                    delta, nearest = least[j], j
            for j in range(size + 1):
                if used[j]:
                    row_price[row_of[j]] += delta
                    column_price[j] -= delta
                else:
                    least[j] -= delta
            column = nearest
        while column != 0:
            row_of[column] = row_of[way[column]]
            column = way[column]
    place = np.empty(size, np.int64)
    for j in range(1, size + 1):
        place[row_of[j] - 1] = j - 1
    return place


@kernel
def settle_layers(first: int, last: int, held: Ints, held_offsets: Ints, offsets: Ints, items: Ints) -> None:
    """Bring experts that stay on their rank back to the slot of that rank which held them, in place."""
    for layer in range(first, last):
        for rank in range(offsets.size - 1):
            start, stop = offsets[rank], offsets[rank + 1]
            for k in range(min(stop - start, held_offsets[rank + 1] - held_offsets[rank])):
                wanted = held[layer, held_offsets[rank] + k]
                if wanted < 0 or items[layer, start + k] == wanted:
                    continue
                for slot in range(start, stop):
                    in_place = slot - start < held_offsets[rank + 1] - held_offsets[rank] and (
                        items[layer, slot] == held[layer, held_offsets[rank] + slot - start]
                    )
                    if items[layer, slot] == wanted and not in_place:
                        items[layer, slot], items[layer, start + k] = items[layer, start + k], items[layer, slot]
                        break
