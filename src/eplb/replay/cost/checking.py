"""Checks on numbers that describe hardware, models and measurements."""

from __future__ import annotations

from typing import Any

import numpy as np

from eplb.arrays import nonnegative
from eplb.errors import OptionError


def positive(value: Any, name: str) -> float:
    """Return `value` as a float, or raise `OptionError` if it is no finite number > 0."""
    number = nonnegative(value, name)
    if number == 0:
        raise OptionError(f"{name}: expected a number > 0, got {value!r}")
    return number


def share(value: Any, name: str, *, zero: bool = True) -> float:
    """Return `value` as a float, or raise `OptionError` if it is no share: 0 to 1, or above 0 where `zero` is False."""
    number = nonnegative(value, name) if zero else positive(value, name)
    if number > 1:
        raise OptionError(f"{name}: expected at most 1, got {value!r}")
    return number


def count(value: Any, name: str, least: int = 1) -> int:
    """Return `value` as an int, or raise `OptionError` if it is no integer >= `least`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise OptionError(f"{name}: expected an integer >= {least}, got {value!r}")
    return int(value)


def text(value: Any, name: str) -> str:
    """Return `value`, or raise `OptionError` if it is no text."""
    if not isinstance(value, str):
        raise OptionError(f"{name}: expected a text, got {value!r}")
    return value
