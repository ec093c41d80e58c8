"""The options of `eplb sweep` that span a grid, from text to settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from eplb.advising import Setting, grid, read_settings
from eplb.advising.grid import MAX_TRIALS, check_size
from eplb.errors import OptionError

OPTIONS = {
    "ranks": "num_ranks",
    "slots_per_rank": "slots_per_rank",
    "nodes": "num_nodes",
    "policy": "policy",
    "split": "split",
    "window": "window",
    "interval": "interval",
    "max_moves_share": "max_moves_share",
    "threshold": "threshold",
    "effort": "effort",
    "history": "history",
    "groups": "groups",
    "seed": "seed",
}
TEXTS = ("policy", "split", "effort")
SHARES = ("max_moves_share", "threshold")
REDUNDANT = "redundant"


def settings_from(options: Mapping[str, str | None], file: Path | None, num_experts: Sequence[int]) -> list[Setting]:
    """Return the settings that the options, or the file, describe.

    Parameters
    ----------
    options : mapping of str to str or None
        The text of each option, by its name with underscores; None where it was not given.
    file : Path or None
        The file of `--grid`, in place of the options.
    num_experts : sequence of int
        Experts of each trace, which `--redundant` counts from.

    Raises
    ------
    OptionError
        If options are missing, do not go together, or hold what is no list of values.
    """
    given = {name: text for name, text in options.items() if text is not None}
    if file is not None:
        if given:
            raise OptionError(f"--grid: {file} holds all values; leave {_flag(next(iter(given)))} out")
        return read_settings(file)
    if "ranks" not in given:
        raise OptionError("--ranks: expected one number or several, such as 8,16; or --grid with a file")
    if ("slots_per_rank" in given) == (REDUNDANT in given):
        raise OptionError("--slots-per-rank, --redundant: expected one of them, to say how many slots there are")
    choices = {OPTIONS[name]: _values(name, text) for name, text in given.items() if name != REDUNDANT}
    if REDUNDANT not in given:
        return grid(choices)
    return _with_redundant(choices, _values(REDUNDANT, given[REDUNDANT]), num_experts)


def _with_redundant(
    choices: dict[str, list[Any]], redundant: Sequence[int], num_experts: Sequence[int]
) -> list[Setting]:
    if len(set(num_experts)) > 1:
        raise OptionError(
            f"--redundant: the traces have {min(num_experts)} to {max(num_experts)} experts; give --slots-per-rank"
        )
    check_size(math.prod(len(values) for values in choices.values()) * len(redundant))
    found = []
    for num_ranks in choices["num_ranks"]:
        slots = [_slots_per_rank(num_experts[0], extra, num_ranks) for extra in redundant]
        found += grid({**choices, "num_ranks": num_ranks, "slots_per_rank": slots})
    return found


def _slots_per_rank(num_experts: int, redundant: int, num_ranks: int) -> int:
    if redundant < 0 or num_ranks < 1:
        raise OptionError(f"--redundant, --ranks: expected numbers >= 0 and >= 1, got {redundant} and {num_ranks}")
    each, rest = divmod(num_experts + redundant, num_ranks)
    if rest:
        raise OptionError(
            f"--redundant: {num_experts} experts and {redundant} redundant ones cannot be spread evenly over "
            f"{num_ranks} ranks; {redundant - rest if redundant >= rest else redundant + num_ranks - rest} can"
        )
    return each


def _values(name: str, text: str) -> list[Any]:
    """Return the values in `text`: parts with commas between, each one value or a range A:B or A:B:STEP.

    Examples
    --------
    >>> _values("ranks", "4,8:16:4"), _values("threshold", "0:0.2:0.1"), _values("policy", "eplb,static")
    ([4, 8, 12, 16], [0.0, 0.1, 0.2], ['eplb', 'static'])
    """
    parts = [part.strip() for part in text.split(",")]
    found: list[Any] = parts if name in TEXTS else [value for part in parts for value in _numbers(name, part)]
    check_size(len(found), "values")
    twice, times = Counter(found).most_common(1)[0]
    if times > 1:
        raise OptionError(f"{_flag(name)}: {twice} comes twice; name each value once")
    return found


def _numbers(name: str, part: str) -> list[Any]:
    try:
        first, *more = (Decimal(number) for number in part.split(":"))
        last, step = (more or [first])[0], more[1] if len(more) == 2 else Decimal(1)
        sound = len(more) <= 2 and last >= first and step > 0 and (last - first) / step <= MAX_TRIALS
        values = [first + step * index for index in range(int((last - first) / step) + 1)] if sound else []
        converted = [float(value) if name in SHARES else _whole(value) for value in values]
    except (InvalidOperation, ValueError, OverflowError):
        converted = []
    if not converted:
        kind = "numbers" if name in SHARES else "integers"
        raise OptionError(f"{_flag(name)}: expected {kind} with commas between, or a range A:B:STEP, got {part!r}")
    return converted


def _whole(value: Decimal) -> int:
    if value != int(value):
        raise ValueError
    return int(value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
