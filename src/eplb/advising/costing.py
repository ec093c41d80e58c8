"""What a trial asks of a cost model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from eplb.errors import OptionError
from eplb.replay import ScoredWindows
from eplb.topology import Topology


class Meter(Protocol):
    """Adds up what the windows of one replay cost; `eplb.replay.replay` calls it as its `watch`."""

    def __call__(self, scored: ScoredWindows) -> None:
        """Add windows that were scored under one placement; a placement other than that before was moved to."""
        ...

    def totals(self) -> Mapping[str, float]:
        """Return what was added up, by names that hold units (``step_us``, ``moved_bytes``) and are always the same."""
        ...


class CostModel(Protocol):
    """What a trial costs on some hardware.

    It can be pickled, and its `repr` names it with all its numbers, as that of a dataclass does: a sweep is taken up
    again only if it is the same.
    """

    def meter(self, topology: Topology) -> Meter:
        """Return a new meter for one replay on this machine."""
        ...


def check_cost(cost: Any) -> None:
    """Raise `OptionError` unless `cost` is a cost model, or None."""
    if cost is not None and not callable(getattr(cost, "meter", None)):
        raise OptionError(f"cost: expected an object with a method meter, got {type(cost).__name__}")
