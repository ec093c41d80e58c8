"""Loads from the files that people have: .npz, .npy, .json, .csv, .pt, and .zarr folders."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.errors import FileFormatError
from eplb.files import MAX_LOADS_BYTES, MAX_TEXT_BYTES, existing_file, naming, read_json, read_npy, read_text
from eplb.torch_files import PICKLE, read_torch
from eplb.trace import LoadTrace
from eplb.trace_store import TraceStore

NPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK"
LOADS_NAMES = ("loads", "logical_count")
TEXT_FIELDS = ("model", "window", "phase")
LIST_FIELDS = ("layer_ids", "tokens", "labels")
MAX_LABEL_LENGTH = 1024  # saved as an array, labels all take the room of the longest
LONG_COLUMNS = ("layer", "expert", "load")
LIKE_A_HEADER = 4  # this many columns that count 0, 1, 2, ... are a header

Row = tuple[int, list[str]]


def read_loads(path: str | os.PathLike[str]) -> LoadTrace:
    """Return the loads in the file `path`; .npz, .npy and .pt are told by their content, the rest by the ending.

    - ``.npz``: what `LoadTrace.save` writes; an array ``loads`` [T, L, E] or [L, E] is enough.
    - ``.npy``: an array [T, L, E] or [L, E].
    - ``.json``: nested lists [T, L, E] or [L, E], or an object with ``loads`` and, if wanted, ``layer_ids``, ``model``,
      ``window``, ``phase``, ``tokens`` and ``labels``.
    - ``.csv``: a line a layer and a column an expert, without a header; or the header ``layer,expert,load`` (in any
      order, ``window`` may follow) and a line for every expert, zeros included. Lines that start with # are skipped.
    - ``.pt``, ``.pth``: a tensor, or a dict with ``loads`` or ``logical_count``; only plain tensors are unpickled.
    - ``.zarr``: a folder, what `TraceStore` writes. `TraceStore.open` reads a part of one that is too large.

    Parameters
    ----------
    path : path
        The file or folder; text of at most 256 MiB, arrays of at most 2 GiB.

    Raises
    ------
    FileFormatError
        If the file is missing, truncated, foreign, too large, or of another kind.
    LoadsError
        If what it holds are no loads: a wrong shape or dtype, NaN, infinite or negative entries.
    MissingDependencyError
        If it is a ``.pt`` file and PyTorch is not installed, or a ``.zarr`` folder and zarr is not.
    """
    is_folder = Path(path).suffix.lower() == ".zarr" and Path(path).is_dir()
    file = Path(path) if is_folder else existing_file(path)
    with naming(file):
        return _reader(file)(file)


def _reader(file: Path) -> Callable[[Path], LoadTrace]:
    if file.is_dir():
        return _read_zarr
    with file.open("rb") as stream:
        start = stream.read(len(NPY_MAGIC))
    if not start:
        raise FileFormatError("the file is empty")
    if start == NPY_MAGIC:
        return _read_npy
    if start.startswith(ZIP_MAGIC):
        return _read_zip
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        kinds = ", ".join([*_READERS, "a .zarr folder"])
        raise FileFormatError(
            f"expected one of {kinds}, got {file.suffix or 'no ending'!r}; convert or rename the file"
        )
    return reader


def _check_size(num_bytes: int, most: int = MAX_LOADS_BYTES) -> None:
    if num_bytes > most:
        raise FileFormatError(f"{num_bytes:,} bytes, more than the {most:,} that are read; sum windows or take a part")


def _read_npy(file: Path) -> LoadTrace:
    _check_size(file.stat().st_size)
    return LoadTrace(loads=read_npy(file))


def _read_zip(file: Path) -> LoadTrace:
    """Read an .npz or a .pt file: both are zip archives."""
    with zipfile.ZipFile(file) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if any(name.endswith(PICKLE) for name in sizes):
        return _read_torch(file)
    for name in ("loads", *TEXT_FIELDS, *LIST_FIELDS):
        _check_size(sizes.get(f"{name}.npy", 0))
    if "ids.npy" in sizes and "loads.npy" not in sizes:
        raise FileFormatError(
            "holds token ids ('ids'), not loads; `eplb replay FILE --batch-size N` makes loads of them, "
            "and so does eplb.TokenStream in Python"
        )
    return LoadTrace.load(file)


def _read_zarr(folder: Path) -> LoadTrace:
    store = TraceStore.open(folder)
    _check_size(store.loads_bytes)
    return store.part(0, store.num_windows)


def _read_json(file: Path) -> LoadTrace:
    _check_size(file.stat().st_size, MAX_TEXT_BYTES)
    content = read_json(file)
    return _from_mapping(content) if isinstance(content, Mapping) else LoadTrace(loads=content)


def _from_mapping(content: Mapping[str, Any]) -> LoadTrace:
    if content.get("format") == "eplb.placement":
        raise FileFormatError("holds a placement, not loads; pass the file that it was planned from")
    name = next((name for name in LOADS_NAMES if name in content), None)
    if name is None:
        keys = ", ".join(repr(key) for key in list(content)[:8]) or "none"
        raise FileFormatError(f"expected loads under the name 'loads' or 'logical_count', got the names {keys}")
    fields = {key: content[key] for key in TEXT_FIELDS + LIST_FIELDS if content.get(key) is not None}
    for key in fields:
        wanted = str if key in TEXT_FIELDS else (list, tuple, np.ndarray)
        if not isinstance(fields[key], wanted):
            kind = "a text" if wanted is str else "a list"
            raise FileFormatError(f"{key}: expected {kind}, got {type(fields[key]).__name__}")
    if any(len(str(label)) > MAX_LABEL_LENGTH for label in fields.get("labels", ())):
        raise FileFormatError(f"labels: expected texts of at most {MAX_LABEL_LENGTH:,} characters")
    return LoadTrace(loads=content[name], **fields)


def _read_torch(file: Path) -> LoadTrace:
    content = read_torch(file)
    if isinstance(content, np.ndarray):
        return LoadTrace(loads=content)
    if not isinstance(content, Mapping):
        raise FileFormatError(f"expected a tensor, or a dict with 'loads', got {type(content).__name__}")
    return _from_mapping(content)


def _read_csv(file: Path) -> LoadTrace:
    _check_size(file.stat().st_size, MAX_TEXT_BYTES)
    rows = _rows(read_text(file))
    first = next(rows, None)
    if first is None:
        raise FileFormatError("the file has no rows")
    names = [cell.strip().lower() for cell in first[1]]
    if set(LONG_COLUMNS) <= set(names):
        return _from_long(names, rows)
    matrix = _numbers(_with_first(first, rows), len(names))
    if len(names) >= LIKE_A_HEADER and len(matrix) > 1 and np.array_equal(matrix[0], np.arange(len(names))):
        raise FileFormatError(f"line {first[0]} counts 0, 1, 2, ... as a header does; expected loads: drop that line")
    return LoadTrace(loads=matrix)


def _rows(text: str) -> Iterator[Row]:
    """Yield number and cells of each line that is neither empty nor a comment."""
    reader = csv.reader(io.StringIO(text))
    for cells in reader:
        if any(cell.strip() for cell in cells) and not cells[0].startswith("#"):
            yield reader.line_num, cells


def _with_first(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows


def _numbers(rows: Iterator[Row], num_columns: int) -> NDArray[np.float64]:
    matrix: list[NDArray[np.float64]] = []
    for line, cells in rows:
        if len(cells) != num_columns:
            raise FileFormatError(
                f"line {line}: expected {num_columns} columns as before, got {len(cells)} (truncated?)"
            )
        try:
            matrix.append(np.array(cells, dtype=np.float64))
        except ValueError:
            column, cell = next((i, cell) for i, cell in enumerate(cells) if not _is_number(cell))
            raise FileFormatError(
                f"line {line}, column {column + 1}: expected a number, got {cell[:40]!r}; a header is read only if it "
                f"is layer,expert,load or layer,expert,load,window"
            ) from None
    return np.array(matrix).reshape(-1, num_columns)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_long(names: list[str], rows: Iterator[Row]) -> LoadTrace:
    if len(set(names)) < len(names) or not set(names) <= {*LONG_COLUMNS, "window"}:
        raise FileFormatError(
            f"expected the header layer,expert,load or layer,expert,load,window, got {','.join(names)}"
        )
    columns = dict(zip(names, _numbers(rows, len(names)).T, strict=True))
    loads = columns.pop("load")
    if not loads.size:
        raise FileFormatError("a header and no rows; expected a row for every expert of every layer")
    for name, values in columns.items():
        if not np.array_equal(values, np.abs(np.trunc(values))) or values.max() >= 2**53:
            raise FileFormatError(f"column {name}: expected integers >= 0")
    windows, window = np.unique(columns.get("window", np.zeros(loads.size)), return_inverse=True)
    layers, layer = np.unique(columns["layer"], return_inverse=True)
    shape = (len(windows), len(layers), int(columns["expert"].max()) + 1)
    if np.unique(np.stack([window, layer, columns["expert"]]), axis=1).shape[1] < loads.size:
        raise FileFormatError("a window, layer and expert come twice; expected one row for each")
    if loads.size != shape[0] * shape[1] * shape[2]:
        raise FileFormatError(
            f"{loads.size} rows; {shape[0]} windows x {shape[1]} layers x {shape[2]} experts need one each, zeros too"
        )
    array = np.empty(shape)
    array[window, layer, columns["expert"].astype(np.int64)] = loads
    return LoadTrace(loads=array, layer_ids=layers.astype(np.int64))


_READERS: dict[str, Callable[[Path], LoadTrace]] = {
    ".npz": LoadTrace.load,
    ".npy": _read_npy,
    ".json": _read_json,
    ".csv": _read_csv,
    ".pt": _read_torch,
    ".pth": _read_torch,
}
