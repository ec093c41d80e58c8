"""The table of a sweep as a file: Parquet, or CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from eplb.advising.rows import columns_of, rows_of
from eplb.advising.tried import Tried
from eplb.errors import EplbError, FileFormatError, MissingDependencyError, OptionError
from eplb.files import write_atomically

ENDINGS = (".parquet", ".csv")
FIRST_COLUMNS = ["trace", "key", "num_ranks", "slots_per_rank"]


def check_table_path(out: Path) -> None:
    """Raise if no table can be written to `out`, before the work is done.

    Raises
    ------
    FileFormatError
        If the name has another ending, or there is no such folder, or nothing can be written there.
    OptionError
        If there is a file that is no such table.
    MissingDependencyError
        If pyarrow is needed and not installed.
    """
    if out.suffix.lower() not in ENDINGS:
        raise FileFormatError(f"{out}: expected a name that ends in {' or '.join(ENDINGS)}")
    if out.suffix.lower() == ".parquet":
        require_pyarrow(out)
    try:
        if not out.parent.is_dir():
            raise FileFormatError(f"{out}: there is no folder {out.parent}; make it first")
        if out.is_dir():
            raise FileFormatError(f"{out}: is a folder; expected the name of a file")
        if out.exists() and not _is_table(out):
            raise OptionError(f"{out}: exists and is no table of a sweep; remove it first, or write to another file")
    except OSError as exc:
        raise FileFormatError(f"{out}: cannot write here: {exc.strerror}") from None
    if not os.access(out.parent, os.W_OK):
        raise FileFormatError(f"{out}: the folder {out.parent} cannot be written; choose another")


def write_table(out: Path, trials: Sequence[Tried]) -> None:
    """Write `trials` to `out`, a row each, whole or not at all."""
    write_atomically(out, _parquet(out, trials) if out.suffix.lower() == ".parquet" else _csv(trials))


def require_pyarrow(path: Path) -> Any:
    """Return the module pyarrow, or raise `MissingDependencyError` with the command that installs it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            f'{path}: pyarrow is needed for it; pip install "eplb[sweep]", or write to a .csv file'
        ) from None
    return pyarrow


def _csv(trials: Sequence[Tried]) -> Any:
    def write(stream: IO[bytes]) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        table = csv.DictWriter(text, list(columns_of(trials)), lineterminator="\n")
        table.writeheader()
        table.writerows(rows_of(trials))
        text.detach()  # flushes; the stream is not ours to close

    return write


def _parquet(out: Path, trials: Sequence[Tried]) -> Any:
    arrow = require_pyarrow(out)
    types = {"str": arrow.string(), "int": arrow.int64(), "float": arrow.float64()}
    columns, rows = columns_of(trials), rows_of(trials)
    schema = arrow.schema([(name, arrow.uint64() if name == "seed" else types[kind]) for name, kind in columns.items()])
    table = arrow.table({name: [row[name] for row in rows] for name in columns}, schema=schema)
    return lambda stream: arrow.parquet.write_table(table, stream)


def _is_table(path: Path) -> bool:
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8", newline="") as stream:
                found = next(csv.reader(stream), [])
        else:
            found = require_pyarrow(path).parquet.read_schema(path).names
    except EplbError:
        raise
    except Exception:  # foreign bytes
        return False
    return found[: len(FIRST_COLUMNS)] == FIRST_COLUMNS
