"""What the next window will look like: forecasters, each an object with one method `forecast`."""

from __future__ import annotations

from collections.abc import Callable

from eplb.errors import OptionError
from eplb.forecasting.auto import Auto
from eplb.forecasting.drift import DriftAware
from eplb.forecasting.forecaster import Forecaster, checked_forecast
from eplb.forecasting.means import Exponential, Last, Mean

FORECASTERS: dict[str, Callable[[], Forecaster]] = {
    "last": Last,
    "mean": Mean,
    "exponential": Exponential,
    "drift": DriftAware,
    "auto": Auto,
}


def forecaster_named(name: str) -> Forecaster:
    """Return the forecaster called `name`: last, mean, exponential, drift or auto.

    Raises
    ------
    OptionError
        If there is none of that name.

    Examples
    --------
    >>> forecaster_named("exponential")
    Exponential(decay=0.5, pull=0.0)
    """
    if name not in FORECASTERS:
        raise OptionError(f"forecast: expected one of {', '.join(FORECASTERS)}, got {name!r}")
    return FORECASTERS[name]()


__all__ = [
    "FORECASTERS",
    "Auto",
    "DriftAware",
    "Exponential",
    "Forecaster",
    "Last",
    "Mean",
    "checked_forecast",
    "forecaster_named",
]
