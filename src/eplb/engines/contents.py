"""What a path holds, as far as can be told before anybody makes sense of it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eplb.errors import FileFormatError
from eplb.files import MAX_TEXT_BYTES, existing_file, parse_json
from eplb.reading import NPY_MAGIC, ZIP_MAGIC
from eplb.torch_files import PICKLE, read_torch

MAX_LINE_BYTES = 64 << 20
MAX_NAMES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A file or folder, opened as far as its kind can be told.

    Parameters
    ----------
    path : Path
        Where it is.
    container : {"folder", "archive", "torch", "npy", "json", "lines", "text"}
        What holds the content; "lines" are JSON objects, one a line.
    names : frozenset of str
        What a folder or an archive holds.
    value : object
        The value in a JSON or PyTorch file, or in the first of the lines.
    text : str
        The start of a text that is no JSON.
    """

    path: Path
    container: str
    names: frozenset[str] = frozenset()
    value: Any = None
    text: str = ""

    @property
    def keys(self) -> frozenset[str]:
        """Names in the JSON object or PyTorch dict; none if it is another value."""
        return frozenset(self.value) if isinstance(self.value, dict) else frozenset()


def contents_of(path: Path) -> Contents:
    """Return what is at `path`.

    Raises
    ------
    FileFormatError
        If nothing is there, or it is empty, damaged or too large.
    MissingDependencyError
        If it is a PyTorch file and PyTorch is not installed.
    """
    if path.is_dir():
        return Contents(path=path, container="folder", names=_names_in(path))
    with existing_file(path).open("rb") as stream:
        start = stream.read(len(NPY_MAGIC))
        if not start:
            raise FileFormatError("the file is empty")
        stream.seek(0)
        if start == NPY_MAGIC:
            return Contents(path=path, container="npy")
        if start.startswith(ZIP_MAGIC):
            return _archive(path)
        return _text(path, stream)


def _names_in(folder: Path) -> frozenset[str]:
    names: list[str] = []
    for entry in folder.iterdir():
        names.append(entry.name)
        if len(names) > MAX_NAMES:
            raise FileFormatError(
                f"more than {MAX_NAMES:,} files in this folder; move those of the recording to another"
            )
    return frozenset(names)


def _archive(path: Path) -> Contents:
    with zipfile.ZipFile(path) as archive:
        names = frozenset(archive.namelist())
    if any(name.endswith(PICKLE) for name in names):
        return Contents(path=path, container="torch", names=names, value=read_torch(path))
    return Contents(path=path, container="archive", names=names)


def _text(path: Path, stream: IO[bytes]) -> Contents:
    first = stream.readline(MAX_LINE_BYTES)
    is_all = _nothing_follows(stream)
    value = _json(first)
    if isinstance(value, dict) and not is_all:
        return Contents(path=path, container="lines", value=value)
    if not is_all and first.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b""):
        value = _json(_all_of(path, stream))
        is_all = True
    if value is None or not is_all:
        return Contents(path=path, container="text", text=first[: 1 << 16].decode("utf-8", "replace"))
    return Contents(path=path, container="json", value=value)


def _nothing_follows(stream: IO[bytes]) -> bool:
    """Whether there are only blanks from here on, as far as a mebibyte tells."""
    return not stream.read(1 << 20).strip()


def _all_of(path: Path, stream: IO[bytes]) -> bytes:
    existing_file(path, MAX_TEXT_BYTES)
    stream.seek(0)
    return stream.read(MAX_TEXT_BYTES)


def _json(content: bytes) -> Any:
    """Return the JSON value that `content` is, None if it is none."""
    try:
        return parse_json(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
