"""From recorded windows to the scenarios that a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eplb.errors import LoadsError
from eplb.forecasting import Forecaster, checked_forecast

ALL_ZERO = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What is assumed of the next window; `docs/next-window.md` says why each is as it is, and what it is worth.

    Parameters
    ----------
    recency : float, default 0.9
        A window weighs this much less than the one after it, in both halves of the scenarios.
    recorded_share : float, default 0.25
        Weight of the recorded windows as they were; the rest is the forecast with the errors of past forecasts.
    spread : float, default 1
        Size of those errors; 0 plans for the forecast alone.
    together : bool, default True
        Errors of all experts are taken from one window, so that what rises together does; else from different ones.
    """

    recency: float = 0.9
    recorded_share: float = 0.25
    spread: float = 1.0
    together: bool = True


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
        Windows T that were recorded.
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

    Half of the 2 T scenarios are the windows; the other half are the forecast plus the error that was made in the
    forecast of each window, 1 to `ahead` windows before it. One window is its own and only scenario.
    """
    from eplb.kernels.scenarios import scale_windows, spread_scenarios
    from eplb.kernels.threads import over_layers

    num_windows, num_layers, num_experts = windows.shape
    scaled, exponents = np.empty_like(windows), np.empty(num_layers, dtype=np.int64)
    over_layers(scale_windows, num_layers, (windows, scaled, exponents))
    if num_windows == 1:
        scenarios, means, weights = np.ascontiguousarray(scaled[0, :, :, None]), scaled[0], np.ones(1)
    else:
        forecasts = checked_forecast(forecaster, scaled)
        recent = _recency(num_windows, assumptions.recency)
        weights = np.concatenate([assumptions.recorded_share * recent, (1 - assumptions.recorded_share) * recent])
        scenarios = np.empty((num_layers, num_experts, weights.size))
        means = np.empty((num_layers, num_experts))
        options = (min(ahead, num_windows), assumptions.spread, assumptions.together)
        over_layers(spread_scenarios, num_layers, (scaled, forecasts, recent, *options, weights, scenarios, means))
    activated = np.zeros((1, 0, 0))
    if cost_per_activated_slot > 0:
        seen = np.ascontiguousarray(windows.transpose(1, 2, 0) > 0)
        repeated = np.concatenate([seen, seen], axis=2) if num_windows > 1 else seen
        with np.errstate(over="ignore", invalid="ignore"):
            cost = np.ldexp(cost_per_activated_slot, np.where(exponents == ALL_ZERO, 0, -exponents))
            activated = repeated * cost[:, None, None]
        if not np.isfinite(activated).all():
            raise LoadsError("cost_per_activated_slot: too large beside the loads of a layer; scale it down")
    return Outlook(
        scenarios=scenarios,
        activated=activated,
        weights=weights,
        means=means,
        exponents=exponents,
        num_windows=num_windows,
    )


def _recency(num_windows: int, recency: float) -> NDArray[np.float64]:
    """Return weights [T] that sum to 1, each `recency` times the next.

    By multiplication: the last bits of `pow` are not the same on all machines.
    """
    weights = np.ones(num_windows)
    for t in range(num_windows - 1, 0, -1):
        weights[t - 1] = weights[t] * recency
    total: np.float64 = weights.cumsum()[-1]
    return np.asarray(weights / total)
