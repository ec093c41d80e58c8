"""Trials as rows of a table, in an order that does not depend on who found them when."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from eplb.advising.outcome import Outcome
from eplb.advising.setting import Setting
from eplb.advising.tried import Tried
from eplb.errors import OptionError

Row = dict[str, Any]

COSTS = "costs"


def columns_of(trials: Sequence[Tried]) -> dict[str, str]:
    """Return the names of the columns, each with "str", "int" or "float".

    Raises
    ------
    OptionError
        If a cost has the name of another column.
    """
    columns = {"trace": "str", "key": "str"}
    for noun in (Setting, Outcome):
        columns |= {field.name: str(field.type) for field in dataclasses.fields(noun) if field.name != COSTS}
    names = sorted({name for tried in trials if tried.outcome for name in tried.outcome.costs})
    for name in names:
        if name in columns or name == "error":
            raise OptionError(f"cost: {name!r} is the name of another column; the cost model must call it otherwise")
    return {**columns, **dict.fromkeys(names, "float"), "error": "str"}


def rows_of(trials: Sequence[Tried]) -> list[Row]:
    """Return a row for each trial, by trace and then by the values of the setting; None where there is nothing."""
    columns = columns_of(trials)
    return [dict.fromkeys(columns) | _row(tried) for tried in in_order(trials)]


def in_order(trials: Sequence[Tried]) -> list[Tried]:
    """Return the trials by trace, and then by the values of the setting."""
    return sorted(trials, key=lambda tried: (tried.trace, tuple(tried.setting.to_dict().values())))


def _row(tried: Tried) -> Row:
    found: Row = {"trace": tried.trace, "key": tried.setting.key, **tried.setting.to_dict(), "error": tried.error}
    if tried.outcome is None:
        return found
    outcome = dataclasses.asdict(tried.outcome)
    costs = outcome.pop(COSTS)
    return {**found, **outcome, **costs}
