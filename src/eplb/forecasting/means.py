"""Forecasts that are means of the past: the last window, all windows, or the newer the more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eplb.errors import OptionError
from eplb.forecasting.forecaster import over_windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """The mean of the past windows, each weighing `decay` times as much as the one after it.

    Parameters
    ----------
    decay : float, default 0.5
        0 is the last window alone, 1 is the mean of all windows.
    pull : float, default 0
        Shrinkage towards the mean of all windows, 0 to 1.

    Raises
    ------
    OptionError
        If one of them is not within 0 to 1.

    Examples
    --------
    >>> Exponential(decay=0.5).forecast([[[4.0, 0.0]], [[1.0, 3.0]]]).tolist()
    [[[4.0, 0.0]], [[2.0, 2.0]]]
    """

    scale_free: ClassVar[bool] = True

    decay: float = 0.5
    pull: float = 0.0

    def __post_init__(self) -> None:
        for name in ("decay", "pull"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise OptionError(f"{name}: expected a number of 0 to 1, got {value!r}")

    def forecast(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return forecasts [T, L, E]; see `Forecaster`. O(T L E)."""
        from eplb.kernels.windows.forecasts import discounted_layers

        return over_windows(discounted_layers, loads, float(self.decay), float(self.pull))


def Last() -> Exponential:  # noqa: N802  (reads as the others do)
    """Return the forecaster that expects the last window again."""
    return Exponential(decay=0.0)


def Mean() -> Exponential:  # noqa: N802
    """Return the forecaster that expects the mean of all windows."""
    return Exponential(decay=1.0)
