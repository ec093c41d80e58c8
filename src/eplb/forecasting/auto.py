"""The forecast that was least wrong so far."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eplb.errors import OptionError
from eplb.forecasting.drift import DriftAware
from eplb.forecasting.forecaster import windows_of
from eplb.forecasting.means import Exponential

DECAYS = (0.3, 0.0, 0.5, 0.7, 0.9)
PULLS = (0.0, 0.2, 0.4)
CANDIDATES = (*itertools.product(DECAYS, PULLS), (1.0, 0.0))
FORGETTING = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto:
    """Picks by backtest, layer by layer and window by window: the forecaster with the least squared error so far.

    Candidates are `Exponential` with decays of 0 to 0.9 and pulls of 0 to 0.4 towards the mean of all windows, that
    mean itself, and `DriftAware`. The error of a window counts 0.9 times as much with each further window. Which one
    is used at window t depends on the windows 0 to t alone.

    Parameters
    ----------
    candidates : sequence of (decay, pull), default `CANDIDATES`
        The `Exponential` forecasters to choose from; `DriftAware` is always one more.

    Raises
    ------
    OptionError
        If there is none, or a decay or pull is not within 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> steady = np.tile([[[4.0, 0.0]], [[2.0, 2.0]]], (8, 1, 1))  # around a mean: the last window tells little
    >>> Auto().forecast(steady)[-1].round(1).tolist()
    [[3.0, 1.0]]
    """

    scale_free: ClassVar[bool] = True

    candidates: tuple[tuple[float, float], ...] = CANDIDATES

    def __post_init__(self) -> None:
        if not self.candidates:
            raise OptionError("candidates: expected at least one pair (decay, pull), got none")
        for decay, pull in self.candidates:
            Exponential(decay=decay, pull=pull)

    def forecast(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return forecasts [T, L, E]; see `Forecaster`. O(C T L E) for C candidates."""
        return self.forecast_and_choice(loads)[0]

    def forecast_and_choice(self, loads: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the forecasts [T, L, E] and which of the candidates made each [T, L]; their number: `DriftAware`."""
        from eplb.kernels.threads import over_layers
        from eplb.kernels.windows.forecasts import backtested_layers

        windows = windows_of(loads)
        decays, pulls = (np.array(column, dtype=np.float64) for column in zip(*self.candidates, strict=True))
        forecasts = np.empty_like(windows)
        chosen = np.zeros(windows.shape[:2], dtype=np.int64)
        args = (windows, decays, pulls, DriftAware().slowest, FORGETTING, forecasts, chosen)
        over_layers(backtested_layers, windows.shape[1], args)
        return forecasts, chosen
