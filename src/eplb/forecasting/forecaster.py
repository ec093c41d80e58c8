"""What every forecaster is: an object with one method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import check_finite_nonnegative, loads_array
from eplb.errors import LoadsError, OptionError


@runtime_checkable
class Forecaster(Protocol):
    """Tells what the window after each window will look like.

    One attribute is optional: a forecaster with ``scale_free = True`` says that its forecast of loads times a factor
    for each layer is its forecast times these factors. It is then shown loads in a safe range instead of tokens.
    """

    def forecast(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return forecasts [T, L, E] for loads [T, L, E], oldest first.

        Entry t is the load expected of window t + 1 and is made from the windows 0 to t alone; so the last entry is
        the forecast, and the others tell how wrong such forecasts were.
        """
        ...


def windows_of(loads: Any) -> NDArray[np.float64]:
    """Return loads [T, L, E] in float64 for a kernel.

    Raises
    ------
    LoadsError
        If they are no windows of finite loads >= 0.
    """
    array = loads_array(loads, ndims=(3,))
    check_finite_nonnegative(array)
    return np.require(array, np.float64, ["C", "A", "W"])


def checked_forecast(forecaster: Forecaster, loads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `forecaster` says of `loads` [T, L, E], after checking that it can be planned.

    Raises
    ------
    OptionError
        If `forecaster` has no method `forecast`.
    LoadsError
        If it returns another shape, or NaN, infinite or negative entries.
    """
    if isinstance(forecaster, type) or not isinstance(forecaster, Forecaster):
        raise OptionError(f"forecast: expected an object with a method forecast, got {type(forecaster).__name__}")
    forecasts = loads_array(forecaster.forecast(loads), ndims=(3,))
    if forecasts.shape != loads.shape:
        raise LoadsError(f"forecast: expected one a window, shape {loads.shape}, got {forecasts.shape}")
    check_finite_nonnegative(forecasts, "forecast")
    return np.require(forecasts, np.float64, ["C", "A", "W"])


def over_windows(kernel: Callable[..., None], loads: Any, *options: float) -> NDArray[np.float64]:
    """Run a kernel of forecasts over the layers of `loads` [T, L, E]; return the forecasts [T, L, E]."""
    from eplb.kernels.threads import over_layers

    windows = windows_of(loads)
    forecasts = np.empty_like(windows)
    over_layers(kernel, windows.shape[1], (windows, *options, forecasts))
    return forecasts
