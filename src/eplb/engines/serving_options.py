"""How a plug-in plans inside a serving engine, from environment variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eplb.errors import OptionError
from eplb.forecasting import FORECASTERS
from eplb.planning.effort import EFFORTS

SWITCHES = ("EPLB_VLLM", "EPLB_SGLANG")
OTHERS = ("EPLB_NUM_THREADS", "EPLB_ENGINES")
MAX_HISTORY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """How a plug-in plans.

    Parameters
    ----------
    effort : {"fast", "balanced", "thorough"}, default "balanced"
        As in `eplb.plan`.
    forecast : str, default "auto"
        Name of a forecaster, as in `eplb.plan`.
    history : int, 1 to 256, default 16
        Most windows that are planned for; 1: the newest alone.
    max_moves_share : float, above 0 and up to 1, default 1
        Most moves of a rearrangement, as a share of all slots of all layers; 1: no limit.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    effort: str = "balanced"
    forecast: str = "auto"
    history: int = 16
    max_moves_share: float = 1.0

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise OptionError(f"EPLB_EFFORT: expected one of {', '.join(EFFORTS)}, got {self.effort!r}")
        if self.forecast not in FORECASTERS:
            raise OptionError(f"EPLB_FORECAST: expected one of {', '.join(FORECASTERS)}, got {self.forecast!r}")
        if not 1 <= self.history <= MAX_HISTORY:
            raise OptionError(f"EPLB_HISTORY: expected 1 to {MAX_HISTORY} windows, got {self.history}")
        if not 0 < self.max_moves_share <= 1:
            raise OptionError(
                f"EPLB_MAX_MOVES_SHARE: expected a share above 0 and up to 1 of all slots, got {self.max_moves_share}"
            )

    def max_moves(self, num_slots: int) -> int | None:
        """Return how many moves `num_slots` slots of all layers may take; None without a limit."""
        return None if self.max_moves_share == 1 else int(self.max_moves_share * num_slots)


VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "EPLB_EFFORT": ("effort", str),
    "EPLB_FORECAST": ("forecast", str),
    "EPLB_HISTORY": ("history", int),
    "EPLB_MAX_MOVES_SHARE": ("max_moves_share", float),
}


def options_from(environment: Mapping[str, str]) -> ServingOptions:
    """Return the options that `environment` holds; unset or empty variables mean the defaults.

    Raises
    ------
    OptionError
        If a value is no number or out of range.

    Examples
    --------
    >>> options_from({"EPLB_HISTORY": "4", "EPLB_MAX_MOVES_SHARE": "0.05"})
    ServingOptions(effort='balanced', forecast='auto', history=4, max_moves_share=0.05)
    """
    values = {}
    for name, (field, kind) in VARIABLES.items():
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            values[field] = kind(text)
        except ValueError:
            wanted = "an integer" if kind is int else "a number"
            raise OptionError(f"{name}: expected {wanted}, got {text!r}") from None
    return ServingOptions(**values)


def switched_on(environment: Mapping[str, str], switch: str) -> bool:
    """Return whether the variable `switch` is 1; unset, empty and 0 mean off.

    Raises
    ------
    OptionError
        If it is anything else.

    Examples
    --------
    >>> switched_on({"EPLB_VLLM": "1"}, "EPLB_VLLM"), switched_on({}, "EPLB_VLLM")
    (True, False)
    """
    text = environment.get(switch, "").strip()
    if text not in ("", "0", "1"):
        raise OptionError(f"{switch}: expected 1 (on) or 0 (off), got {text!r}")
    return text == "1"


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that start with EPLB_ and mean nothing here, such as misspelt ones."""
    known = {*SWITCHES, *OTHERS, *VARIABLES}
    return sorted(name for name in environment if name.startswith("EPLB_") and name not in known)
