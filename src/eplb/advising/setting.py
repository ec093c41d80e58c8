"""`Setting`: one way to deploy and to balance, as plain values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from eplb.errors import OptionError
from eplb.planning.effort import EFFORTS
from eplb.replay import POLICIES, SPLITS
from eplb.topology import MAX_RANKS, MAX_SLOTS, Topology

KEY_LENGTH = 16
LIMITS = {
    "num_ranks": (1, MAX_RANKS),
    "slots_per_rank": (1, MAX_SLOTS),
    "num_nodes": (1, MAX_RANKS),
    "window": (1, MAX_SLOTS),
    "interval": (1, MAX_SLOTS),
    "history": (1, MAX_SLOTS),
    "groups": (1, MAX_SLOTS),
    "seed": (0, 2**64 - 1),
}
CHOICES = {"policy": POLICIES, "split": SPLITS, "effort": tuple(EFFORTS)}
SHARES = ("max_moves_share", "threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A machine, a policy and how often it may do what: all that a trial needs besides the trace.

    Parameters
    ----------
    num_ranks, slots_per_rank : int
        Ranks R, and experts that each has memory for, >= 1.
    num_nodes : int, default 1
        Nodes that the ranks stand in, 1 to R.
    policy : {"contiguous", "static", "deepseek", "eplb", "oracle"}, default "eplb"
        Who places the experts; see `eplb.replay.policy_named`.
    split : {"even", "weighted", "weighted-lagged"}, default "even"
        How replicas share tokens; see `eplb.replay.replay`.
    window : int, default 1
        Windows of the trace that are summed to one before a policy sees them, >= 1. Scored are those of the trace.
    interval : int, default 1
        Such sums from one plan to the next, >= 1.
    max_moves_share : float, default 0.1
        Moves that a replan is allowed, as a share of all slots, 0 to 1; 1: no limit.
    threshold : float, default 0
        Imbalance that is put up with, 0 to 1: nothing is planned anew while the mean balancedness of the newest sum's
        windows is 1 - threshold or more. 0: always planned anew.
    effort : {"fast", "balanced", "thorough"}, default "balanced"
        As in `eplb.plan`.
    history : int, default 24
        The most sums that a policy is shown, >= 1.
    groups : int, default 1
        Expert groups, each kept on one node.
    seed : int, default 0
        As in `eplb.plan`.

    Raises
    ------
    OptionError
        If a value is out of its range.

    Examples
    --------
    >>> setting = Setting(num_ranks=8, slots_per_rank=5, interval=4)
    >>> setting.key, setting == Setting.from_dict(setting.to_dict())
    ('2b600302ffdaa81a', True)
    """

    num_ranks: int
    slots_per_rank: int
    num_nodes: int = 1
    policy: str = "eplb"
    split: str = "even"
    window: int = 1
    interval: int = 1
    max_moves_share: float = 0.1
    threshold: float = 0.0
    effort: str = "balanced"
    history: int = 24
    groups: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            object.__setattr__(self, name, _integer(name, getattr(self, name), least, most))
        for name in SHARES:
            object.__setattr__(self, name, _share(name, getattr(self, name)))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise OptionError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.num_nodes > self.num_ranks:
            raise OptionError(f"num_nodes: expected at most one a rank ({self.num_ranks}), got {self.num_nodes}")
        if self.num_slots > MAX_SLOTS:
            raise OptionError(f"slots_per_rank: {self.num_slots:,} slots in all, more than {MAX_SLOTS:,}")

    @property
    def num_slots(self) -> int:
        """Slots of all ranks P, of a layer."""
        return self.num_ranks * self.slots_per_rank

    @property
    def topology(self) -> Topology:
        """The machine."""
        return Topology(num_ranks=self.num_ranks, slots_per_rank=self.slots_per_rank, num_nodes=self.num_nodes)

    @property
    def canonical(self) -> str:
        """All values as one line of JSON, the same for equal settings."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @property
    def key(self) -> str:
        """A short name that depends on nothing but the values."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:KEY_LENGTH]

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON values, in the order of the parameters."""
        return {name: getattr(self, name) for name in setting_names()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setting:
        """Return the setting with these values; what is missing has its default.

        Raises
        ------
        OptionError
            If a name is unknown, a rank or slot count is missing, or a value is out of its range.
        """
        check_names(values)
        for name in ("num_ranks", "slots_per_rank"):
            if name not in values:
                raise OptionError(f"setting: expected {name}, which has no default")
        return cls(**values)


@cache
def setting_names() -> tuple[str, ...]:
    """Return the names of all values of a setting."""
    return tuple(field.name for field in dataclasses.fields(Setting))


def check_names(values: Mapping[str, Any]) -> None:
    """Raise `OptionError` unless all keys of `values` are names of a setting."""
    unknown = [name for name in values if name not in setting_names()]
    if unknown:
        raise OptionError(f"setting: expected some of {', '.join(setting_names())}, got {unknown[0]!r}")


def _integer(name: str, value: Any, least: int, most: int) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise OptionError(f"{name}: expected an integer of {least} to {most}, got {value!r}")
    return int(value)


def _share(name: str, value: Any) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or math.isnan(value) or not 0 <= value <= 1:
        raise OptionError(f"{name}: expected a number of 0 to 1, got {value!r}")
    return float(value) + 0.0  # no -0.0, which would have a key of its own
