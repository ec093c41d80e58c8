"""What moves cost and how many are allowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eplb.arrays import nonnegative
from eplb.errors import OptionError

UNLIMITED = 2**62
PRICE_SHARE = 0.001
NOISE_SHARE = 0.02
OPTIMISM_SHARE = 0.2


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
        layer; and a layer stays as it is unless it gains more than noise, see `least_gain_share`.
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
        return UNLIMITED if self.max_moves is None else min(int(self.max_moves), UNLIMITED)

    @property
    def most_received(self) -> int:
        """The limit of a rank as a number."""
        return UNLIMITED if self.max_moves_per_rank is None else min(int(self.max_moves_per_rank), UNLIMITED)


def least_gain_share(num_windows: int) -> float:
    """Return what a layer must gain, as a share of its mean rank load, for its moves not to follow noise.

    One window is taken at its word, and 2% is what 1% noise in its loads can feign. A plan for T windows looks better
    on them than on the next one, by the less the more they are: 20% / T.
    """
    return NOISE_SHARE if num_windows == 1 else OPTIMISM_SHARE / num_windows
