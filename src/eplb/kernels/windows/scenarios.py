"""The loads that a plan for several windows is made for: those recorded, and those that the next window may bring."""

import math

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import kernel


@kernel
def scale_windows(first: int, last: int, loads: Floats, scaled: Floats, exponents: Ints) -> None:
    """Copy `loads` [T, L, E] times a power of two for each layer that makes its largest load 0.5 to 1.

    ``loads = scaled * 2**exponents``. A layer of zeros becomes a layer of ones; its exponent says so: the least int64.
    """
    num_windows, _, num_experts = loads.shape
    for layer in range(first, last):
        largest = 0.0
        for t in range(num_windows):
            for e in range(num_experts):
                largest = max(largest, loads[t, layer, e])
        if largest == 0.0:
            exponents[layer] = np.iinfo(np.int64).min
            scaled[:, layer] = 1.0
            continue
        exponent = math.frexp(largest)[1]
        half = -exponent // 2  # the power of two itself may be beyond the floats
        one, two = math.ldexp(1.0, half), math.ldexp(1.0, -exponent - half)
        exponents[layer] = exponent
        for t in range(num_windows):
            for e in range(num_experts):
                scaled[t, layer, e] = loads[t, layer, e] * one * two + 0.0


@kernel
def spread_scenarios(
    first: int,
    last: int,
    windows: Floats,
    forecasts: Floats,
    recent: Floats,
    ahead: int,
    spread: float,
    together: bool,
    weights: Floats,
    scenarios: Floats,
    means: Floats,
) -> None:
    """Fill `scenarios` [L, E, 2 T + 1] and their weighted means `means` [L, E].

    The first T are `windows` [T, L, E]. The last is the forecast of the next window, ``forecasts[T - 1]``; the T before
    it are that plus `spread` times the error that a forecast of each window made, which keeps what experts do together;
    not less than 0. These forecasts were made 1 to `ahead` windows before, in turn, as far ahead as the plan has to
    last. Errors are centred by the weights `recent` [T], and those of windows that nothing forecast are taken from the
    mean of all. Without `together`, the errors of an expert are shifted in time by its id. `weights` sum to 1.
    """
    num_windows, _, num_experts = windows.shape
    errors = np.empty(num_windows)
    for layer in range(first, last):
        for e in range(num_experts):
            mean = 0.0
            for t in range(num_windows):
                mean += windows[t, layer, e]
            mean /= num_windows
            centre = 0.0
            for t in range(num_windows):
                source = t - 1 - (num_windows - 1 - t) % ahead
                expected = mean if source < 0 else forecasts[source, layer, e]
                errors[t] = windows[t, layer, e] - expected
                centre += recent[t] * errors[t]
            for t in range(num_windows):
                source = t if together else (t + e) % num_windows
                load = forecasts[num_windows - 1, layer, e] + spread * (errors[source] - centre)
                scenarios[layer, e, t] = windows[t, layer, e]
                scenarios[layer, e, num_windows + t] = max(0.0, load)
            scenarios[layer, e, 2 * num_windows] = forecasts[num_windows - 1, layer, e]
            total = 0.0
            for s in range(2 * num_windows + 1):
                total += weights[s] * scenarios[layer, e, s]
            means[layer, e] = total
