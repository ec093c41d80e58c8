"""From recorded windows to the scenarios that a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eplb.errors import LoadsError
from eplb.forecasting import Forecaster, checked_forecast

ALL_ZERO = np.iinfo(np.int64).min
LEAST_WEIGHT = 1e-3  # of the newest window's: older ones than that change no plan, and take as long as new ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What is assumed of the next window; `docs/next-window.md` says why each is as it is, and what it is worth.

    Parameters
    ----------
    recency : float, default 0.9
        A window weighs this much less than the one after it, in both halves of the scenarios.
    recorded_share : float, default 0.2
        Weight of the recorded windows as they were.
    forecast_share : float, default 0.25
        Weight of the forecast itself; the rest is the forecast with the errors of past forecasts.
    spread : float, default 1
        Size of those errors; 0 plans for the forecast alone.
    together : bool, default True
        Errors of all experts are taken from one window, so that what rises together does; else from different ones.
    """

    recency: float = 0.9
    recorded_share: float = 0.2
    forecast_share: float = 0.25
    spread: float = 1.0
    together: bool = True

    def weights(self, recent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weights of the scenarios, [2 T + 1], for weights of the windows `recent` [T]."""
        errors_share = 1.0 - self.recorded_share - self.forecast_share
        return np.concatenate([self.recorded_share * recent, errors_share * recent, [self.forecast_share]])


ASSUMED = {
    "even": Assumptions(),
    "weighted": Assumptions(spread=2.0),  # the split takes in all that is likely: what counts is the unlikely
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outlook:
    """Scenarios of each layer, scaled by a power of two so that sums stay in range.

    Parameters
    ----------
    scenarios : array [L, E, S]
        Scaled loads.
    activated : array [L, E, S], or [1, 0, 0]
        What a slot of an expert that gets tokens costs, scaled; empty if nothing.
    weights : array [S]
        Weight of each scenario; they sum to 1.
    means : array [L, E]
        Weighted means over the scenarios.
    exponents : array [L]
        ``loads = scenarios * 2**exponents``; `ALL_ZERO` for a layer without load.
    num_windows : int
        Windows T that they come from.
    """

    scenarios: NDArray[np.float64]
    activated: NDArray[np.float64]
    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    exponents: NDArray[np.int64]
    num_windows: int

    def unscaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scaled `values` [L] in tokens."""
        empty = self.exponents == ALL_ZERO
        with np.errstate(over="ignore"):
            tokens = np.ldexp(values, np.where(empty, 0, self.exponents))
        return np.where(empty, 0.0, tokens)

    def scaled(self, tokens: float) -> NDArray[np.float64]:
        """Return `tokens` in the unit of each layer, [L]."""
        with np.errstate(over="ignore"):
            return np.ldexp(tokens, np.where(self.exponents == ALL_ZERO, 0, -self.exponents))


def outlook_of(
    windows: NDArray[np.float64],
    forecaster: Forecaster,
    assumptions: Assumptions,
    cost_per_activated_slot: float,
    ahead: int = 1,
) -> Outlook:
    """Return the scenarios that follow from `windows` [T, L, E], oldest first.

    The first T of 2 T + 1 scenarios are the windows, the last is the forecast, and those between are the forecast plus
    the error that was made in the forecast of each window, 1 to `ahead` windows before it. One window is its own and
    only scenario. Windows that weigh less than a thousandth of the newest are seen by the forecaster alone.
    """
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.scenarios import scale_windows, spread_scenarios

    num_windows, num_layers, num_experts = windows.shape
    scaled, exponents = np.empty_like(windows), np.empty(num_layers, dtype=np.int64)
    over_layers(scale_windows, num_layers, (windows, scaled, exponents))
    if num_windows == 1:
        scenarios, means, weights = np.ascontiguousarray(scaled[0, :, :, None]), scaled[0], np.ones(1)
    else:
        recent = _recency(num_windows, assumptions.recency)
        forecasts = _forecasts(forecaster, windows, scaled, exponents)[-recent.size :]
        weights = assumptions.weights(recent)
        scenarios = np.empty((num_layers, num_experts, weights.size))
        means = np.empty((num_layers, num_experts))
        options = (recent, min(ahead, recent.size), assumptions.spread, assumptions.together, weights)
        over_layers(spread_scenarios, num_layers, (scaled[-recent.size :], forecasts, *options, scenarios, means))
    return Outlook(
        scenarios=scenarios,
        activated=_activated(windows, exponents, scenarios.shape[2], cost_per_activated_slot),
        weights=weights,
        means=means,
        exponents=exponents,
        num_windows=max(1, weights.size // 2),
    )


def _forecasts(
    forecaster: Forecaster,
    windows: NDArray[np.float64],
    scaled: NDArray[np.float64],
    exponents: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return scaled forecasts [T, L, E]; a forecaster that is not `scale_free` is shown tokens, and returns tokens."""
    if getattr(forecaster, "scale_free", False):
        return checked_forecast(forecaster, scaled)
    tokens = checked_forecast(forecaster, windows)
    empty = exponents == ALL_ZERO
    with np.errstate(over="ignore"):
        forecasts = np.ldexp(tokens, -np.where(empty, 0, exponents)[:, None])
    forecasts[:, empty] = 1.0
    if not np.isfinite(forecasts).all():
        raise LoadsError("forecast: too large beside the loads of a layer; expected tokens of one window")
    return np.ascontiguousarray(forecasts)


def _activated(
    windows: NDArray[np.float64], exponents: NDArray[np.int64], num_scenarios: int, cost: float
) -> NDArray[np.float64]:
    """Return what a slot of each expert costs in each scenario, scaled, [L, E, S]; empty if nothing.

    An expert is activated in both scenarios of a window if it got tokens in it, and in the forecast if it did last.
    """
    if cost == 0:
        return np.zeros((1, 0, 0))
    seen = windows[-max(1, num_scenarios // 2) :].transpose(1, 2, 0) > 0
    repeated = np.concatenate([seen, seen, seen[:, :, -1:]], axis=2) if num_scenarios > 1 else seen
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.ldexp(cost, np.where(exponents == ALL_ZERO, 0, -exponents))
        activated = np.ascontiguousarray(repeated) * scaled[:, None, None]
    if not np.isfinite(activated).all():
        raise LoadsError("cost_per_activated_slot: too large beside the loads of a layer; scale it down")
    return activated


def _recency(num_windows: int, recency: float) -> NDArray[np.float64]:
    """Return weights that sum to 1 of the newest windows, each `recency` times the next, down to `LEAST_WEIGHT`.

    By multiplication: the last bits of `pow` are not the same on all machines.
    """
    weights = [1.0]
    while len(weights) < num_windows and weights[-1] * recency >= LEAST_WEIGHT:
        weights.append(weights[-1] * recency)
    array = np.array(weights[::-1])
    total: np.float64 = array.cumsum()[-1]
    return np.asarray(array / total)
