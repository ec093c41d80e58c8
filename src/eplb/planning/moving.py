"""What moves cost and how many are allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from eplb.errors import OptionError

UNLIMITED = 2**62
PRICE_SHARE = 0.001
LEAST_GAIN_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """Limits and price of moves.

    Parameters
    ----------
    max_moves : int, optional
        Most moves over all layers; None: no limit.
    max_moves_per_rank : int, optional
        Most experts that one rank receives over all layers; None: no limit.
    move_cost : float, optional
        Tokens of largest rank load that a move must save over the horizon. None: 0.1% of the mean rank load of its
        layer; and for the first moves of a layer to pay, 2% divided by the number of windows planned on.
    horizon : float, default 1
        Windows that the plan is expected to stay in force.

    Raises
    ------
    OptionError
        If one of them is negative or no number.
    """

    max_moves: int | None = None
    max_moves_per_rank: int | None = None
    move_cost: float | None = None
    horizon: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_moves", "max_moves_per_rank"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0):
                raise OptionError(f"{name}: expected an integer >= 0, or None for no limit, got {value!r}")
        if self.move_cost is not None:
            nonnegative(self.move_cost, "move_cost")
        if nonnegative(self.horizon, "horizon") == 0:
            raise OptionError(f"horizon: expected a number of windows above 0, got {self.horizon!r}")

    @property
    def limited(self) -> bool:
        """Whether moves are limited at all."""
        return self.max_moves is not None or self.max_moves_per_rank is not None

    @property
    def most_moves(self) -> int:
        """The limit over all layers as a number."""
        return UNLIMITED if self.max_moves is None else int(self.max_moves)

    @property
    def most_received(self) -> int:
        """The limit of a rank as a number."""
        return UNLIMITED if self.max_moves_per_rank is None else int(self.max_moves_per_rank)


def nonnegative(value: Any, name: str) -> float:
    """Return `value` as a float, or raise `OptionError` if it is no finite number >= 0."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise OptionError(f"{name}: expected a finite number >= 0, got {value!r}")
    return float(value)
