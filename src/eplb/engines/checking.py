"""Checks on values that foreign files hold, before arrays are made of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import array_of
from eplb.errors import FileFormatError, PlacementError

MOST_TOKENS = 2**48
"""Of an expert in a step; sums over ranks and steps stay far below 2**63."""


def integer(value: Any, what: str, least: int = 0, most: int = 2**31 - 1) -> int:
    """Return `value` if it is an integer of `least` to `most`, or raise `FileFormatError`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise FileFormatError(f"{what}: expected an integer of {least} to {most:,}, got {shown(value)}")
    return int(value)


def named(value: Any, name: str, kind: type, what: str) -> Any:
    """Return entry `name` of the mapping `value`, which has type `kind`, or raise `FileFormatError`."""
    if not isinstance(value, dict) or name not in value:
        raise FileFormatError(f"{what}: expected an object with {name!r}, got {shown(value)}")
    if not isinstance(value[name], kind):
        raise FileFormatError(f"{what}: {name}: expected a {_kind(kind)}, got {shown(value[name])}")
    return value[name]


def _kind(kind: type) -> str:
    return {"ndarray": "tensor", "dict": "mapping", "int": "number"}.get(kind.__name__, kind.__name__)


def shown(value: Any) -> str:
    """Return what `value` is, in few characters."""
    if isinstance(value, dict):
        names = ", ".join(repr(str(name)[:40]) for name in list(value)[:8])
        return f"an object with {names or 'nothing'}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    if isinstance(value, str) and len(value) > 60:
        return f"{value[:50]!r}..."
    return repr(value) if isinstance(value, (str, float, bool, type(None))) else _other(value)


def _other(value: Any) -> str:
    if isinstance(value, int):
        return str(value) if abs(value) < 2**200 else "a huge integer"
    return f"a {type(value).__name__}"


def id_matrix(values: Any, what: str) -> NDArray[np.int64]:
    """Return nested lists or an array as ids [layers, slots], or raise `PlacementError`."""
    if isinstance(values, np.ndarray):
        if values.ndim != 2 or values.dtype.kind not in "iu" or 0 in values.shape:
            raise PlacementError(f"{what}: expected integers [layers, slots], got {shown(values)}")
        return _as_int64(values, what)
    if not isinstance(values, list) or not values or not all(isinstance(row, list) and row for row in values):
        raise PlacementError(f"{what}: expected lists of expert ids, one list a layer, got {shown(values)}")
    for layer, row in enumerate(values):
        if len(row) != len(values[0]):
            raise PlacementError(
                f"{what}: expected {len(values[0])} slots in every layer, got {len(row)} at index {layer}"
            )
        id_list(row, f"{what}: index {layer}")
    return np.array(values, dtype=np.int64)


def id_list(row: Any, what: str) -> list[int]:
    """Return `row` if it is a list of ids that fit 32 bits, or raise `PlacementError`."""
    if not isinstance(row, list) or not set(map(type, row)) <= {int}:
        raise PlacementError(f"{what}: expected a list of expert ids, got {_first_foreign(row)}")
    if row and not -(2**31) <= min(row) <= max(row) < 2**31:
        raise PlacementError(f"{what}: expected ids below 2**31, got {shown(max(row, key=abs))}")
    return row


def _first_foreign(row: Any) -> str:
    if not isinstance(row, list):
        return shown(row)
    index = next(i for i, entry in enumerate(row) if type(entry) is not int)
    return f"{shown(row[index])} at index {index}"


def _as_int64(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    if int(values.max()) >= 2**31 or int(values.min()) < -(2**31):
        raise PlacementError(f"{what}: expected ids below 2**31, got {values.max()}")
    return values.astype(np.int64)


def number_lists(values: Any, what: str) -> NDArray[Any]:
    """Return nested lists of numbers as an array, or raise `FileFormatError`."""
    wanted = f"{what}: expected lists of numbers, nested alike"
    array = array_of(values, wanted, FileFormatError)
    if not isinstance(values, list) or array.dtype.kind not in "iuf":
        raise FileFormatError(f"{wanted}, got {shown(values)} with {array.dtype}")
    return array


def token_counts(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Return an array of counts as int64, or raise `FileFormatError` if they are no counts of tokens."""
    if values.dtype.kind not in "iu":
        raise FileFormatError(f"{what}: expected counts, got {shown(values)}")
    if values.size and (int(values.min()) < 0 or int(values.max()) > MOST_TOKENS):
        raise FileFormatError(f"{what}: expected counts of 0 to 2**48, got {values.min()} to {values.max()}")
    return values.astype(np.int64)


def by_number(names: frozenset[str], pattern: str) -> dict[int, str]:
    """Return those of `names` that `pattern`, which has one group of digits, matches whole, by their number."""
    match: Callable[[str], re.Match[str] | None] = re.compile(pattern).fullmatch
    found = [(int(m[1]), name) for name in sorted(names) if (m := match(name)) and len(m[1]) < 10]
    numbers = dict(sorted(found))
    if len(numbers) < len(found):
        raise FileFormatError(
            "two files of one rank in this folder, such as rank1 and rank01; keep one recording a folder"
        )
    return numbers
