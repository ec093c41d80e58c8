"""From lists of values to the settings that combine them."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from eplb.advising.setting import Setting, check_names, setting_names
from eplb.errors import FileFormatError, OptionError
from eplb.files import read_json

MAX_TRIALS = 1_000_000


def grid(choices: Mapping[str, Any]) -> list[Setting]:
    """Return a setting for each combination of values.

    Parameters
    ----------
    choices : mapping of str to a value or a list of values
        By the names of `Setting`; what is missing has its default.

    Raises
    ------
    OptionError
        If a name is unknown, a list is empty, a value is out of its range, or there are more than a million settings.

    Examples
    --------
    >>> settings = grid({"num_ranks": [4, 8], "slots_per_rank": 9, "interval": [1, 4]})
    >>> [(setting.num_ranks, setting.interval) for setting in settings]
    [(4, 1), (4, 4), (8, 1), (8, 4)]
    """
    check_names(choices)
    lists = {name: _listed(choices[name]) for name in setting_names() if name in choices}
    for name, values in lists.items():
        if not values:
            raise OptionError(f"{name}: expected at least one value, got none")
    check_size(math.prod(len(values) for values in lists.values()))
    return [Setting.from_dict(dict(zip(lists, values, strict=True))) for values in itertools.product(*lists.values())]


def read_settings(path: str | os.PathLike[str]) -> list[Setting]:
    """Return the settings in a JSON file: a list of objects, or one object with values or lists of them, as in `grid`.

    Raises
    ------
    FileFormatError
        If the file cannot be read or is neither.
    OptionError
        As in `grid`.
    """
    found = read_json(path)
    if isinstance(found, dict):
        return grid(found)
    if not isinstance(found, list) or not all(isinstance(values, dict) for values in found):
        raise FileFormatError(f"{path}: expected an object with lists of values, or a list of objects")
    check_size(len(found))
    return [Setting.from_dict(values) for values in found]


def check_size(number: int, what: str = "settings") -> None:
    """Raise `OptionError` if there are more than a million."""
    if number > MAX_TRIALS:
        raise OptionError(f"grid: {number:,} {what}, more than {MAX_TRIALS:,}; give fewer values, or sweep a part")


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple, range)) else (values,)
