"""`calibrate`: rates of experts from measured times, by non-negative least squares."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of
from eplb.errors import OptionError
from eplb.replay.cost.checking import count
from eplb.replay.cost.rates import Rates, rows_estimated

FEWEST_POINTS = 4
KNEES, SCANS = 48, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Rates that fit measured times, and how well.

    Parameters
    ----------
    rates : Rates
        The fit.
    median_error, largest_error : float
        Of the fitted times relative to the measured ones, over the points that were fitted.
    num_points : int
        Measurements.
    num_bound_by_weights : int
        Those of them where reading weights takes longer than products. If it is 0 or `num_points`, the slope of the
        other side is not measured: it is only known not to matter here.
    fixed_is_known : bool
        Whether the fixed time could be told from that of reading weights: not if every point has as many activated
        experts.
    """

    rates: Rates
    median_error: float
    largest_error: float
    num_points: int
    num_bound_by_weights: int
    fixed_is_known: bool


def calibrate(
    tokens: ArrayLike, activated_experts: ArrayLike, seconds: ArrayLike, *, tile_tokens: int = 1
) -> Calibration:
    """Return the rates of experts that fit what a rank was measured to take.

    Least squares of relative errors, with no negative rate, for each of a list of tokens an expert at which products
    take as long as weights; the best of them is taken.

    Parameters
    ----------
    tokens : array_like [N]
        Tokens on the rank, one for each expert that a token goes to, > 0.
    activated_experts : array_like [N] or int
        Experts of the rank that got any, > 0.
    seconds : array_like [N]
        What the rank's experts took, > 0; at least 4 measurements, of different tokens.
    tile_tokens : int, default 1
        Rows that the tokens of each activated expert are rounded up to, see `Rates`.

    Raises
    ------
    OptionError
        If there are too few measurements, they do not differ, or one is not a finite number > 0.

    Notes
    -----
    O(N) for each of some 200 candidates: a scan, and three finer ones around its best.

    Examples
    --------
    >>> tokens, activated = [10, 100, 1000, 2000, 4000], [4, 4, 4, 8, 8]
    >>> seconds = [5e-5, 5e-5, 1.1e-4, 2.1e-4, 4.1e-4]  # 1e-5 and the larger of 1e-7 a token and 1e-5 an expert
    >>> found = calibrate(tokens, activated, seconds)
    >>> f"{found.rates.seconds_per_token:.1e} {found.rates.fixed_seconds:.1e} {found.largest_error:.3f}"
    '1.0e-07 1.0e-05 0.000'
    """
    took = _measured(seconds, "seconds")
    loads = _measured(tokens, "tokens", took.size)
    experts = _measured(activated_experts, "activated_experts", took.size)
    count(tile_tokens, "tile_tokens")
    if took.size < FEWEST_POINTS:
        raise OptionError(f"seconds: expected at least {FEWEST_POINTS} measurements, got {took.size}; measure more")
    if (loads == loads[0]).all():
        raise OptionError(
            f"tokens: expected different numbers of tokens, got {loads[0]:g} in all {took.size} measurements"
        )
    rows = rows_estimated(loads, experts, tile_tokens)
    fixed_is_known = bool((experts != experts[0]).any())
    rates = Rates(**_best_fit(rows, experts, took, fixed_is_known), tile_tokens=tile_tokens)
    errors = np.abs((rates.fixed_seconds + rates.seconds(loads, experts)) / took - 1)
    weights_bind = rates.seconds_per_activated_expert * experts > rates.seconds_per_token * rows
    return Calibration(
        rates=rates,
        median_error=float(np.median(errors)),
        largest_error=float(errors.max()),
        num_points=took.size,
        num_bound_by_weights=int(weights_bind.sum()),
        fixed_is_known=fixed_is_known,
    )


def _measured(values: ArrayLike, name: str, size: int | None = None) -> NDArray[np.float64]:
    array = array_of(values, f"{name}: expected a list of numbers", OptionError)
    if array.dtype.kind not in "iuf" or array.ndim > 1 or (array.ndim == 0 and size is None):
        raise OptionError(f"{name}: expected a list of numbers, got shape {array.shape} of dtype {array.dtype}")
    array = array.astype(np.float64)
    if array.ndim == 0:
        array = np.full(size or 0, array)
    if size is not None and array.size != size:
        raise OptionError(f"{name}: expected {size} numbers, one for each time, got {array.size}")
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any():
        index = int(np.argmax(bad))
        raise OptionError(f"{name}: expected finite numbers > 0, got {array[index]} at index {index}")
    return array


def _best_fit(
    rows: NDArray[np.float64], experts: NDArray[np.float64], took: NDArray[np.float64], with_fixed: bool
) -> dict[str, float]:
    """Return the rates of the best knee: the rows an expert at which both slopes meet, or 0, no slope of weights."""
    best = _fit(rows, experts, took, 0.0, with_fixed)
    low, high = float((rows / experts).min()), float((rows / experts).max())
    for _ in range(SCANS):
        knees = np.geomspace(low, high, KNEES)
        fits = [_fit(rows, experts, took, float(knee), with_fixed) for knee in knees]
        nearest = min(range(KNEES), key=lambda index: fits[index][0])
        best = min(best, fits[nearest], key=lambda fit: fit[0])
        low, high = float(knees[max(0, nearest - 1)]), float(knees[min(KNEES - 1, nearest + 1)])
    return best[1]


def _fit(
    rows: NDArray[np.float64], experts: NDArray[np.float64], took: NDArray[np.float64], knee: float, with_fixed: bool
) -> tuple[float, dict[str, float]]:
    """Return the sum of squared relative errors and the rates, for one knee."""
    weights = knee * experts
    # u max(C, M) + v (C + M) is (u + v) max + v min: its overlap is u / (u + v), never below 0 or above 1.
    columns = [np.maximum(rows, weights), rows + weights, np.ones(rows.size)][: 2 + with_fixed]
    error, (hidden, serial, *fixed) = _nonnegative(np.stack(columns, axis=1) / took[:, None])
    slope = hidden + serial
    return error, {
        "seconds_per_token": slope,
        "seconds_per_activated_expert": slope * knee,
        "fixed_seconds": fixed[0] if fixed else 0.0,
        "overlap": hidden / slope if slope else 1.0,
    }


def _nonnegative(matrix: NDArray[np.float64]) -> tuple[float, list[float]]:
    """Return the squared error and the x >= 0 that brings ``matrix @ x`` closest to 1; all supports are tried."""
    target = np.ones(len(matrix))
    scale = np.abs(matrix).max(axis=0)  # columns differ by decades
    best = (float(len(matrix)), [0.0] * matrix.shape[1])
    for size in range(1, matrix.shape[1] + 1):
        for support in combinations(range(matrix.shape[1]), size):
            chosen = list(support)
            part = np.linalg.lstsq(matrix[:, chosen] / scale[chosen], target, rcond=None)[0] / scale[chosen]
            error = float(np.square(matrix[:, chosen] @ part - target).sum())
            if (part >= 0).all() and error < best[0]:
                solution = np.zeros(matrix.shape[1])
                solution[chosen] = part
                best = (error, solution.tolist())
    return best
