"""Sums, extremes and look-ups over short arrays, in fixed order: plain loops, which compile faster than numpy's."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import part

NONE = np.int64(-1)  # a plain -1 is a type of its own to numba, and what it is passed to is compiled once more


@part
def total_of(values: Floats) -> float:
    """Return the sum, added from first to last."""
    total = 0.0
    for value in values:
        total += value
    return total


@part
def speed_of(costs: Floats) -> float:
    """Return the total speed of ranks that take `costs` for a token."""
    total = 0.0
    for cost in costs:
        total += 1 / cost
    return total


@part
def largest_of(values: Floats) -> float:
    """Return the largest value; 0 if none is above 0."""
    largest = 0.0
    for value in values:
        if value > largest:
            largest = value
    return largest


@part
def first_largest(values: Floats) -> int:
    """Return the first index of the largest value."""
    best = 0
    for i in range(values.size):
        if values[i] > values[best]:
            best = i
    return best


@part
def first_least(values: Floats) -> int:
    """Return the first index of the least value."""
    best = 0
    for i in range(values.size):
        if values[i] < values[best]:
            best = i
    return best


@part
def among(items: Ints, start: int, stop: int, item: int) -> bool:
    """Whether `item` is one of ``items[start:stop]``."""
    for i in range(start, stop):
        if items[i] == item:
            return True
    return False
