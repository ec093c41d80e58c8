"""Measured times of a rank's experts, from a file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import array_of
from eplb.errors import FileFormatError
from eplb.files import read_json, read_text

TOKENS, ACTIVATED, MILLISECONDS = "tokens", "activated_experts", "ms"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurements:
    """What a rank's experts took.

    Parameters
    ----------
    tokens : array [N]
        Tokens on the rank.
    activated_experts : array [N] or None
        Experts of the rank that got any; None where the file does not say.
    seconds : array [N]
        What they took.
    """

    tokens: NDArray[np.float64]
    activated_experts: NDArray[np.float64] | None
    seconds: NDArray[np.float64]


def read_measurements(path: str | os.PathLike[str]) -> Measurements:
    """Return the measurements in `path`: columns ``tokens`` and ``ms``, and if wanted ``activated_experts``.

    A ``.csv`` file has these names in its first line; a ``.json`` file is a list of objects with them, or an object
    with a list for each.

    Raises
    ------
    FileFormatError
        If the file is missing or of another kind, a column is missing or foreign, or an entry is no number.
    """
    file = Path(path)
    if file.suffix.lower() not in (".csv", ".json"):
        raise FileFormatError(f"{file}: expected measurements in a .csv or .json file")
    columns = _csv_columns(file) if file.suffix.lower() == ".csv" else _json_columns(file)
    known = {TOKENS, ACTIVATED, MILLISECONDS}
    if not {TOKENS, MILLISECONDS} <= set(columns) or not set(columns) <= known:
        raise FileFormatError(
            f"{file}: expected the columns tokens,ms or tokens,activated_experts,ms, got {','.join(columns) or 'none'}"
        )
    arrays = {name: _numbers(values, f"{file}: column {name}") for name, values in columns.items()}
    if len({array.size for array in arrays.values()}) > 1:
        raise FileFormatError(f"{file}: expected columns of one length")
    return Measurements(
        tokens=arrays[TOKENS], activated_experts=arrays.get(ACTIVATED), seconds=arrays[MILLISECONDS] / 1e3
    )


def _csv_columns(file: Path) -> dict[str, list[Any]]:
    lines = [line for line in read_text(file).splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.reader(io.StringIO("\n".join(lines)))
    header = [name.strip() for name in next(reader, [])]
    rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise FileFormatError(f"{file}: row {number}: expected {len(header)} columns, got {len(row)}")
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def _json_columns(file: Path) -> dict[str, list[Any]]:
    content = read_json(file)
    if isinstance(content, Mapping) and all(isinstance(values, list) for values in content.values()):
        return dict(content)
    if not isinstance(content, list) or not all(isinstance(row, Mapping) for row in content):
        raise FileFormatError(f"{file}: expected a list of objects with tokens and ms, or an object of lists")
    names = list(content[0]) if content else []
    if any(set(row) != set(names) for row in content):
        raise FileFormatError(f"{file}: expected the same names in each object")
    return {name: [row[name] for row in content] for name in names}


def _numbers(values: list[Any], what: str) -> NDArray[np.float64]:
    try:
        array = array_of([float(value) for value in values], what, FileFormatError)
    except (TypeError, ValueError) as exc:
        raise FileFormatError(f"{what}: expected numbers; {exc}") from None
    return np.asarray(array, dtype=np.float64).reshape(-1)
