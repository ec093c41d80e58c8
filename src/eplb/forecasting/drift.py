"""A forecast that forgets faster when the regime shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eplb.errors import OptionError
from eplb.forecasting.forecaster import over_windows


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftAware:
    """A level for each expert that follows the windows the faster, the more the errors of a layer keep their sign.

    Noise changes its sign from window to window; a shift of regime does not. The newest window weighs the square of
    Trigg and Leach's tracking signal (doi:10.2307/3010559), taken over the experts of a layer.

    Parameters
    ----------
    slowest : float, default 0.2
        The least weight of the newest window, above 0 and up to 1.

    Raises
    ------
    OptionError
        If `slowest` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> shift = np.repeat([[[4.0, 0.0]], [[0.0, 4.0]]], 4, axis=0)
    >>> DriftAware().forecast(shift)[:, 0, 1].round(2).tolist()
    [0.0, 0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 4.0]
    """

    scale_free: ClassVar[bool] = True

    slowest: float = 0.2

    def __post_init__(self) -> None:
        value = self.slowest
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise OptionError(f"slowest: expected a number above 0 and up to 1, got {value!r}")

    def forecast(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return forecasts [T, L, E]; see `Forecaster`. O(T L E)."""
        from eplb.kernels.windows.forecasts import drifting_layers

        return over_windows(drifting_layers, loads, float(self.slowest))
