"""How a trace is examined for a report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eplb.errors import OptionError
from eplb.replay.splits import check_split

FIRST = 8
INTERVALS: tuple[int, ...] = tuple(digit * 10**power for power in range(6) for digit in (1, 2, 5))
MAX_SLOTS_PLANNED = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a trace is examined.

    Parameters
    ----------
    source : str, default "trace"
        What the report calls the trace.
    groups : int, default 1
        Expert groups, for the bound; policies have their own.
    history, max_moves_share, max_moves_per_rank, split
        As in `eplb.replay.replay`.
    interval : int, optional
        As there. Default: every window, or less often where planning would take many minutes (`interval_for`).
    first : int, optional
        As there. Default: window 8, or the middle of a shorter trace.
    budgets : iterable of float, default 0.02, 0.05, 0.2 and 1
        Shares of the slots that a replan may move: the first `EplbPolicy` is replayed with each, for the frontier.
    expert_bytes : int, optional
        Bytes of the weights of one expert, >= 1. Default: moves are told in slots.
    notes : iterable of str, default none
        Shown with the report.

    Raises
    ------
    OptionError
        If the split, a budget or the bytes are out of range; the others are judged by `replay`.
    """

    source: str = "trace"
    groups: int = 1
    history: int = 24
    interval: int | None = None
    first: int | None = None
    max_moves_share: float = 0.1
    max_moves_per_rank: int | None = None
    split: str = "even"
    budgets: Iterable[float] = (0.02, 0.05, 0.2, 1.0)
    expert_bytes: int | None = None
    notes: Iterable[str] = ()

    def __post_init__(self) -> None:
        check_split(self.split)
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "budgets", tuple(dict.fromkeys(_share(budget) for budget in self.budgets)))
        if self.expert_bytes is not None:
            _check_bytes(self.expert_bytes)


def _share(value: Any) -> float:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= 1:
        raise OptionError(f"budgets: expected shares of the slots, 0 to 1, got {value!r}")
    return float(value)


def _check_bytes(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise OptionError(f"expert_bytes: expected an integer >= 1, got {value!r}")


def first_for(num_windows: int) -> int:
    """Return the first window to score: the ninth, or the middle one of a short trace.

    Examples
    --------
    >>> first_for(96), first_for(9), first_for(2)
    (8, 4, 1)
    """
    return max(1, min(FIRST, num_windows // 2))


def interval_for(num_scored: int, num_slots: int) -> int:
    """Return how many windows apart to plan so that the plans of a policy hold at most `MAX_SLOTS_PLANNED` slots.

    A plan takes microseconds a slot, and a report replays some nine policies and budgets: this keeps it to minutes.

    Examples
    --------
    >>> interval_for(88, 240), interval_for(992, 58 * 288)
    (1, 10)
    """
    enough = (each for each in INTERVALS if -(-num_scored // each) * num_slots <= MAX_SLOTS_PLANNED)
    return next(enough, INTERVALS[-1])
