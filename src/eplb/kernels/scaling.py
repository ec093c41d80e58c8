"""Loads brought into a safe range by a power of two, which is exact but for loads too small to matter."""

import math

from eplb.kernels.arrays import Floats
from eplb.kernels.compiling import part
from eplb.kernels.totals import largest_of


@part
def scale_loads(loads: Floats, scaled: Floats) -> tuple[bool, int]:
    """Copy `loads` times a power of two that makes the largest 0.5 to 1; return whether all are 0, and the exponent.

    Loads that are all 0 become ones.
    """
    largest = largest_of(loads)
    if largest == 0.0:
        for i in range(loads.size):
            scaled[i] = 1.0
        return True, 0
    exponent = math.frexp(largest)[1]
    half = -exponent // 2  # the power of two itself may be beyond the floats
    first, second = math.ldexp(1.0, half), math.ldexp(1.0, -exponent - half)
    for i in range(loads.size):
        scaled[i] = loads[i] * first * second + 0.0  # turns -0.0 into 0.0
    return False, exponent
