"""Replica counts by highest averages, the fix-up that moves one replica, and the heap that orders both.

`bits` is the number of significant bits that quotients and sums are rounded to: 11 for float16 and 8 for bfloat16,
which arrive as float32; anything from 24 up means the precision of the array itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.kernels.compiling import kernel, part

FLOAT32_BITS = 24
FLOAT16_BITS = 11
FLOAT16_LARGEST = 65504.0
FLOAT16_LOWEST_EXPONENT = -24
BFLOAT16_LOWEST_EXPONENT = -133

Ints = NDArray[np.int64]
Floats = NDArray[Any]


@part
def goes_first(keys: Floats, one: int, other: int) -> bool:
    """Return whether `one` comes before `other`: the larger key, then the lower id."""
    return keys[one] > keys[other] or (keys[one] == keys[other] and one < other)


@part
def sift_down(heap: Ints, keys: Floats, size: int, position: int) -> None:
    """Let the id at `position` sink until no id below it goes first."""
    item = heap[position]
    child = 2 * position + 1
    while child < size:
        if child + 1 < size and goes_first(keys, heap[child + 1], heap[child]):
            child += 1
        if not goes_first(keys, heap[child], item):
            break
        heap[position] = heap[child]
        position = child
        child = 2 * position + 1
    heap[position] = item


@part
def heap_of(keys: Floats) -> Ints:
    """Return the ids 0 .. n-1 as a binary heap, the one that goes first on top."""
    heap = np.arange(keys.size)
    for position in range(keys.size // 2 - 1, -1, -1):
        sift_down(heap, keys, keys.size, position)
    return heap


@part
def rounded(value: Any, bits: int) -> Any:
    """Return a float32 `value` rounded to the nearest float16 (11 bits) or bfloat16 (8 bits), ties to even."""
    _, exponent = math.frexp(value)
    unit = max(exponent - bits, FLOAT16_LOWEST_EXPONENT if bits == FLOAT16_BITS else BFLOAT16_LOWEST_EXPONENT)
    result = math.ldexp(np.rint(math.ldexp(value, -unit)), unit)
    if bits == FLOAT16_BITS and abs(result) > FLOAT16_LARGEST:
        result *= np.inf
    return result


@part
def average(weights: Floats, expert: int, count: int, bits: int) -> Any:
    """Return the load of one of `count` replicas, rounded as a tensor of that precision would round it."""
    divisor = weights.dtype.type(count)
    if bits >= FLOAT32_BITS:
        return weights[expert] / divisor
    return weights.dtype.type(rounded(weights[expert] / weights.dtype.type(rounded(divisor, bits)), bits))


@part
def grant_replicas(weights: Floats, bits: int, counts: Ints, experts: Ints, ranks: Ints) -> None:
    """Give each slot beyond the first of every expert to the largest average; slots stand in the order granted."""
    averages = weights.copy()
    heap = heap_of(averages)
    for expert in range(weights.size):
        counts[expert], experts[expert], ranks[expert] = 1, expert, 0
    for slot in range(weights.size, experts.size):
        expert = heap[0]
        experts[slot], ranks[slot] = expert, counts[expert]
        counts[expert] += 1
        averages[expert] = average(weights, expert, counts[expert], bits)
        sift_down(heap, averages, heap.size, 0)


@part
def largest_average(weights: Floats, counts: Ints, bits: int) -> tuple[Any, int, int]:
    """Return the largest average, the first expert that has it, and how many have it."""
    largest, first, attained = average(weights, 0, counts[0], bits), 0, 1
    for expert in range(1, weights.size):
        here = average(weights, expert, counts[expert], bits)
        if here > largest:
            largest, first, attained = here, expert, 1
        elif here == largest:
            attained += 1
    return largest, first, attained


@part
def cheapest_donor(weights: Floats, counts: Ints, receiver: int, bits: int) -> int:
    """Return the expert whose average after giving a replica is smallest; -1 where none has two replicas."""
    donor = -1
    smallest = average(weights, receiver, 1, bits)
    for expert in range(weights.size):
        if expert == receiver or counts[expert] < 2:
            continue
        after = average(weights, expert, counts[expert] - 1, bits)
        if donor < 0 or after < smallest:
            donor, smallest = expert, after
    return donor


@part
def move_one(weights: Floats, counts: Ints, strict: bool, bits: int) -> bool:
    """Move one replica to the largest average if that pays, and return whether it did."""
    before, receiver, attained_before = largest_average(weights, counts, bits)
    donor = cheapest_donor(weights, counts, receiver, bits)
    if donor < 0:
        return False
    counts[donor] -= 1
    counts[receiver] += 1
    after, _, attained_after = largest_average(weights, counts, bits)
    if after < before or (not strict and after == before and attained_after < attained_before):
        return True
    counts[donor] += 1
    counts[receiver] -= 1
    return False


@part
def list_by_expert(counts: Ints, experts: Ints, ranks: Ints) -> None:
    """Write the slots in the order of their experts, the replicas of each numbered from 0."""
    slot = 0
    for expert in range(counts.size):
        for replica in range(counts[expert]):
            experts[slot], ranks[slot] = expert, replica
            slot += 1


@part
def replicate(weights: Floats, fix_up: bool, bits: int, counts: Ints, experts: Ints, ranks: Ints) -> None:
    """Replicate the experts of one layer: slots by expert after the fix-up, else in the order granted."""
    grant_replicas(weights, bits, counts, experts, ranks)
    if fix_up:
        move_one(weights, counts, True, bits)
        list_by_expert(counts, experts, ranks)


@kernel
def replicate_layers(
    first: int, last: int, weights: Floats, bits: int, counts: Ints, experts: Ints, ranks: Ints
) -> None:
    """Run `replicate` with the fix-up over the layers of a range."""
    for layer in range(first, last):
        replicate(weights[layer], True, bits, counts[layer], experts[layer], ranks[layer])


@kernel
def fix_up_layers(first: int, last: int, weights: Floats, steps: int, strict: bool, bits: int, counts: Ints) -> None:
    """Move at most `steps` replicas in every layer of a range; a negative number means until none moves."""
    for layer in range(first, last):
        left = steps
        while left != 0 and move_one(weights[layer], counts[layer], strict, bits):
            left -= 1
