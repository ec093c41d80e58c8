"""A trial that was made: what came out, or why nothing did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eplb.advising.costing import CostModel, check_cost
from eplb.advising.outcome import Outcome
from eplb.advising.setting import Setting
from eplb.advising.trial import run_trial
from eplb.errors import InputError, OptionError
from eplb.replay import RecordedTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The windows of every trace that are scored, and what they cost.

    Parameters
    ----------
    first, last : int or None
        As in `run_trial`.
    cost : CostModel or None
        As in `run_trial`.

    Raises
    ------
    OptionError
        If one of these is no such thing.
    """

    first: int | None = None
    last: int | None = None
    cost: CostModel | None = None

    def __post_init__(self) -> None:
        check_cost(self.cost)
        for name in ("first", "last"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"{name}: expected an integer >= 1, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A setting that was tried on a trace.

    Parameters
    ----------
    trace : str
        Name of the trace.
    setting : Setting
        What was tried.
    outcome : Outcome or None
        What came out; None where there is an error.
    error : str or None
        Why the setting cannot be used on this trace.
    """

    trace: str
    setting: Setting
    outcome: Outcome | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        outcome = None if self.outcome is None else dataclasses.asdict(self.outcome)
        return {"trace": self.trace, "setting": self.setting.to_dict(), "outcome": outcome, "error": self.error}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tried:
        """Return what `to_dict` made plain values of."""
        outcome = None if values["outcome"] is None else Outcome(**values["outcome"])
        setting = Setting.from_dict(values["setting"])
        return cls(trace=values["trace"], setting=setting, outcome=outcome, error=values["error"])


def try_setting(name: str, trace: RecordedTrace, setting: Setting, stretch: Stretch) -> Tried:
    """Return what `setting` does on `trace`; input that cannot be used is an error in it, anything else is raised."""
    try:
        outcome = run_trial(trace, setting, cost=stretch.cost, first=stretch.first, last=stretch.last)
    except InputError as exc:
        return Tried(trace=name, setting=setting, error=str(exc))
    return Tried(trace=name, setting=setting, outcome=outcome)
