"""Forecasts of the next window: entry t of a forecast is made from the windows 0 to t alone.

Averages are kept as running means, so that they neither overflow nor depend on how the past is cut.
"""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import kernel, part

GAIN = 0.3  # of the smoothed errors that tell a drift from noise


@kernel
def discounted_layers(first: int, last: int, loads: Floats, decay: float, pull: float, forecasts: Floats) -> None:
    """Fill `forecasts` [T, L, E] with discounted means of `loads` [T, L, E], pulled towards the mean of all windows."""
    num_windows, _, num_experts = loads.shape
    recent, mean = np.empty(num_experts), np.empty(num_experts)
    for layer in range(first, last):
        weight = 0.0
        for t in range(num_windows):
            weight = weight * decay + 1.0
            _step(loads[t, layer], t, weight, recent, mean)
            for e in range(num_experts):
                forecasts[t, layer, e] = (1.0 - pull) * recent[e] + pull * mean[e]


@part
def _step(window: Floats, t: int, weight: float, recent: Floats, mean: Floats) -> None:
    """Take one window into a discounted mean and into the mean of all."""
    for e in range(window.size):
        if t == 0:
            recent[e] = window[e]
            mean[e] = window[e]
        else:
            recent[e] += (window[e] - recent[e]) / weight
            mean[e] += (window[e] - mean[e]) / (t + 1)


@kernel
def drifting_layers(first: int, last: int, loads: Floats, slowest: float, forecasts: Floats) -> None:
    """Fill `forecasts` [T, L, E]: the larger the share of the errors that keeps its sign, the faster the past goes.

    The tracking signal (Trigg and Leach, doi:10.2307/3010559) is the smoothed error over the smoothed absolute error,
    here summed over the experts of a layer; its square is the weight of the newest window, at least `slowest`.
    """
    num_windows, _, num_experts = loads.shape
    level, bias, spread = np.empty(num_experts), np.empty(num_experts), np.empty(num_experts)
    for layer in range(first, last):
        for t in range(num_windows):
            _follow(loads[t, layer], t, slowest, level, bias, spread)
            for e in range(num_experts):
                forecasts[t, layer, e] = level[e]


@part
def _follow(window: Floats, t: int, slowest: float, level: Floats, bias: Floats, spread: Floats) -> None:
    """Take one window into a level, its smoothed errors and their smoothed absolute values."""
    signed, absolute = 0.0, 0.0
    for e in range(window.size):
        if t == 0:
            level[e], bias[e], spread[e] = window[e], 0.0, 0.0
        error = window[e] - level[e]
        bias[e] += GAIN * (error - bias[e])
        spread[e] += GAIN * (abs(error) - spread[e])
        signed += abs(bias[e])
        absolute += spread[e]
    signal = signed / absolute if absolute > 0.0 else 0.0
    weight = max(slowest, signal * signal)
    for e in range(window.size):
        level[e] += weight * (window[e] - level[e])


@kernel
def backtested_layers(
    first: int,
    last: int,
    loads: Floats,
    decays: Floats,
    pulls: Floats,
    slowest: float,
    forgetting: float,
    forecasts: Floats,
    chosen: Ints,
) -> None:
    """Fill `forecasts` [T, L, E] with those of the candidate whose squared errors so far are least, layer by layer.

    Candidate k of C is the discounted mean with ``decays[k]`` and ``pulls[k]``, candidate C the drifting level. The
    squared errors are discounted by `forgetting`; ties go to the first. `chosen` [T, L] says which candidate it was.
    """
    num_windows, _, num_experts = loads.shape
    num_means = decays.size
    recent = np.empty((num_means, num_experts))
    mean = np.empty(num_experts)
    level, bias, spread = np.empty(num_experts), np.empty(num_experts), np.empty(num_experts)
    weights, errors = np.empty(num_means), np.empty(num_means + 1)
    for layer in range(first, last):
        weights[:] = 0.0
        errors[:] = 0.0
        for t in range(num_windows):
            window = loads[t, layer]
            best = 0
            for k in range(num_means + 1):
                if t > 0:
                    error = 0.0
                    for e in range(num_experts):
                        if k < num_means:
                            miss = window[e] - ((1.0 - pulls[k]) * recent[k, e] + pulls[k] * mean[e])
                        else:
                            miss = window[e] - level[e]
                        error += miss * miss
                    errors[k] = forgetting * errors[k] + error
                    if errors[k] < errors[best]:
                        best = k
            for k in range(num_means):
                weights[k] = weights[k] * decays[k] + 1.0
                for e in range(num_experts):
                    recent[k, e] = window[e] if t == 0 else recent[k, e] + (window[e] - recent[k, e]) / weights[k]
            for e in range(num_experts):
                mean[e] = window[e] if t == 0 else mean[e] + (window[e] - mean[e]) / (t + 1)
            _follow(window, t, slowest, level, bias, spread)
            chosen[t, layer] = best
            for e in range(num_experts):
                if best < num_means:
                    forecasts[t, layer, e] = (1.0 - pulls[best]) * recent[best, e] + pulls[best] * mean[e]
                else:
                    forecasts[t, layer, e] = level[e]
