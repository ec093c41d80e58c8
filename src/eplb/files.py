"""Reading files from anywhere without harm, and writing them whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eplb.errors import FileFormatError, InputError, MissingDependencyError

MAX_ARRAY_BYTES = 8 << 30
MAX_LOADS_BYTES = 2 << 30
MAX_TEXT_BYTES = 256 << 20  # parsed, text takes about ten times its size
ZIP_END_BYTES = 22


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise what goes wrong as an error of ours that begins with the path."""
    try:
        yield
    except InputError as exc:
        message = str(exc)
        raise type(exc)(message if message.startswith(f"{path}: ") else f"{path}: {message}") from None
    except MissingDependencyError:
        raise
    except OSError as exc:
        raise FileFormatError(f"{path}: cannot be read: {exc.strerror or _first_line(exc)}") from None
    except Exception as exc:  # decoders of foreign bytes raise anything
        raise FileFormatError(f"{path}: cannot be read (truncated or damaged?): {_first_line(exc)}") from None


def _first_line(exc: Exception) -> str:
    lines = str(exc).splitlines()
    return lines[0][:200] if lines else type(exc).__name__


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], None]) -> None:
    """Call `write` on a temporary neighbour of `path`, then rename it: `path` is whole, or as it was."""
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
        raise FileFormatError(f"{target}: cannot write here: {getattr(exc, 'strerror', None) or exc}") from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise FileFormatError(f"{target}: cannot write here: {exc.strerror}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def existing_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> Path:
    """Return `path`, or raise if it is no readable file or larger than `max_bytes`."""
    file = Path(path)
    try:
        if not file.is_file():
            what = "is a folder" if file.is_dir() else "no such file"
            raise FileFormatError(f"{file}: {what}")
        size = file.stat().st_size
    except OSError as exc:
        raise FileFormatError(f"{file}: {exc.strerror}") from None
    if max_bytes is not None and size > max_bytes:
        raise FileFormatError(f"{file}: {size:,} bytes, more than the {max_bytes:,} that are read")
    return file


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the UTF-8 text of `path`."""
    file = existing_file(path, MAX_TEXT_BYTES)
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise FileFormatError(f"{file}: expected UTF-8 text, got other bytes at offset {exc.start}") from None
    except OSError as exc:
        raise FileFormatError(f"{file}: {exc.strerror}") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the JSON value in `path`; an object that has a name twice is refused."""
    text = read_text(path)
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as exc:
        raise FileFormatError(f"{path}: not valid JSON (truncated?): {exc}") from None


def parse_json(text: str) -> Any:
    """Return the JSON value that `text` is, or raise `ValueError` or `RecursionError`."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, entry in pairs:
        if name in value:
            raise ValueError(f"the name {name!r} comes twice in one object")
        value[name] = entry
    return value


@contextmanager
def _decoding(file: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except FileFormatError:
        raise
    except Exception as exc:  # decoders of foreign bytes raise anything: zlib.error, TokenError, struct.error, ...
        raise FileFormatError(f"{file}: not a readable {kind} file (truncated?): {exc}") from None


def read_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array in the `.npy` file `path`; pickled objects are refused."""
    file = existing_file(path)
    with _decoding(file, ".npy"), file.open("rb") as stream:
        return _read_array(stream, f"{file}", file.stat().st_size)


def read_npz(path: str | os.PathLike[str], names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return those arrays of the `.npz` file `path` that `names` lists and the file has.

    Sizes are read from the headers and checked before memory is taken; pickled objects are refused.
    """
    file = existing_file(path)
    arrays: dict[str, NDArray[Any]] = {}
    with _decoding(file, ".npz"), file.open("rb") as raw, zipfile.ZipFile(raw) as archive:
        _check_all_listed(raw, archive)
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as stream:  # opened even if foreign: this tells a damaged name from another array
                if name in names and entry.filename.endswith(".npy"):
                    arrays[name] = _read_array(stream, f"{file}: array {name!r}", entry.file_size)
    return arrays


def _check_all_listed(raw: IO[bytes], archive: zipfile.ZipFile) -> None:
    """Raise if the archive's directory says another number of members than zipfile found: damage can hide the rest."""
    raw.seek(-ZIP_END_BYTES - len(archive.comment), os.SEEK_END)
    said = int.from_bytes(raw.read(ZIP_END_BYTES)[10:12], "little")
    if said not in (len(archive.infolist()), 0xFFFF):  # 0xFFFF: too many to say here
        raise zipfile.BadZipFile(f"{said} arrays listed, {len(archive.infolist())} found")


def _read_array(stream: IO[bytes], what: str, size: int) -> NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if header is None:
        raise FileFormatError(f"{what}: .npy format version {version} is not read")
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise FileFormatError(f"{what}: holds pickled Python objects, which are never loaded; save plain numbers")
    num_bytes = dtype.itemsize
    for length in shape:
        if length < 0:
            raise FileFormatError(f"{what}: shape {shape} has a negative length (damaged?)")
        num_bytes *= int(length)
    if num_bytes > MAX_ARRAY_BYTES:
        raise FileFormatError(f"{what}: shape {shape} needs {num_bytes:,} bytes, more than {MAX_ARRAY_BYTES:,}")
    if num_bytes > size:
        raise FileFormatError(f"{what}: shape {shape} needs {num_bytes:,} bytes, the file holds {size:,} (truncated?)")
    data = stream.read(num_bytes)
    if len(data) < num_bytes:
        raise FileFormatError(f"{what}: expected {num_bytes:,} bytes of data, got {len(data):,} (truncated?)")
    if stream.read(1):  # and at the end of a member, zipfile compares its checksum
        raise FileFormatError(f"{what}: more data than shape {shape} needs (damaged, or several arrays?)")
    if dtype.kind == "U" and np.frombuffer(data, f"{dtype.byteorder}u4").max(initial=0) > sys.maxunicode:
        raise FileFormatError(f"{what}: holds characters beyond Unicode (damaged?)")
    array = np.frombuffer(data, dtype=dtype)
    return array.reshape(shape, order="F" if fortran else "C")
