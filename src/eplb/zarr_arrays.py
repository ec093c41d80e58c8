"""Arrays of windows in a Zarr folder, a chunk a window, so that a chunk is written once and read alone.

The header `.zarray` is written here, as the Zarr v2 specification has it, which zarr 2 and 3 both read: renamed into
place, it is never half written, which not every version of zarr promises. It is compared before zarr reads it, because
the codecs that a foreign header may name include pickle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eplb.errors import FileFormatError, MissingDependencyError
from eplb.files import read_json, write_atomically

FORMAT = {"zarr_format": 2}


def require_zarr(path: Path) -> Any:
    """Return the module zarr, or raise `MissingDependencyError` with the command that installs it."""
    try:
        import zarr
    except ImportError:
        raise MissingDependencyError(f'{path}: zarr is needed for it; pip install "eplb[zarr]"') from None
    return zarr


def write_group(folder: Path) -> None:
    """Make `folder` a Zarr group."""
    _write_json(folder / ".zgroup", FORMAT)


def write_attributes(folder: Path, attributes: dict[str, Any]) -> None:
    """Replace the attributes of a group: all of them, or none."""
    _write_json(folder / ".zattrs", attributes)


def write_header(folder: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Make `folder` an array, or give the array that it is another number of windows."""
    folder.mkdir(exist_ok=True)
    _write_json(folder / ".zarray", _header(dtype, shape))


def write_windows(folder: Path, first: int, values: NDArray[Any]) -> None:
    """Write `values`, [T, ...], as the windows from `first` on; the array ends with them."""
    write_header(folder, values.dtype, (first + len(values), *values.shape[1:]))
    _opened(folder, "r+")[first:] = values


def read_windows(folder: Path, dtype: np.dtype[Any], window: tuple[int, ...], first: int, last: int) -> NDArray[Any]:
    """Return the windows from `first` to `last - 1`, [last - first, *window].

    Raises
    ------
    FileFormatError
        If the header is another than was written, or the chunk of a window is missing: zarr reads it as zeros.
    """
    header = read_json(folder / ".zarray")
    shape = header.get("shape") if isinstance(header, dict) else None
    longest = shape[0] if isinstance(shape, list) and shape and isinstance(shape[0], int) else -1
    if longest < last or header != _header(dtype, (longest, *window)):
        raise FileFormatError(
            f"{folder / '.zarray'}: expected the header of at least {last} windows of shape {window} and dtype {dtype} "
            "with the codecs that eplb writes; it was damaged, or written by another program"
        )
    for index in range(first, last):
        if not (chunk := folder / f"{index}{'.0' * len(window)}").is_file():
            raise FileFormatError(f"{chunk}: no such file; window {index} was lost")
    return np.asarray(_opened(folder, "r")[first:last])


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        **FORMAT,
        "shape": list(shape),
        "chunks": [1, *shape[1:]],
        "dtype": dtype.str,
        "compressor": {"id": "zstd", "level": 1},
        "filters": [{"id": "crc32"}],  # a flipped bit is an error, not another number
        "order": "C",
        "fill_value": 0,
    }


def _opened(folder: Path, mode: str) -> Any:
    zarr = require_zarr(folder)
    if not hasattr(zarr, "config"):  # zarr 2
        return zarr.open_array(folder, mode=mode)
    with zarr.config.set({"array.write_empty_chunks": True}):  # else a window of zeros would look like a lost one
        return zarr.open_array(folder, mode=mode, zarr_format=2)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    def write(stream: IO[bytes]) -> None:
        stream.write(json.dumps(value, indent=1).encode())

    write_atomically(path, write)
