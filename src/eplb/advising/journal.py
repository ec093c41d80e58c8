"""The trials that a sweep has made so far, on disk: what is left after a kill."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from eplb.advising.tried import Tried
from eplb.errors import FileFormatError, InputError, OptionError
from eplb.files import parse_json

ENDING = ".partial"
KIND = "eplb sweep"
NO_JOURNAL = "exists and is no journal of a sweep; remove it, or write elsewhere"

Head = Mapping[str, Any]


def journal_path(out: Path) -> Path:
    """Return where the journal of a sweep to `out` lies.

    Examples
    --------
    >>> print(journal_path(Path("grid.parquet")))
    grid.parquet.partial
    """
    return out.with_name(out.name + ENDING)


class Journal:
    """Lines of JSON, appended one a trial under a head that names the sweep; a line that a kill tore is dropped.

    Parameters
    ----------
    path : path
        The file; it is made, or gone on with where its head is the same.
    head : mapping of str to JSON value
        Names the sweep: what rows depend on, by a name for each.

    Raises
    ------
    OptionError
        If the file is the journal of another sweep, or of one that is running.
    FileFormatError
        If it is something else, damaged, or cannot be written.
    """

    def __init__(self, path: Path, head: Head) -> None:
        self.path = path
        try:
            if path.exists() and not path.is_file():
                raise FileFormatError(f"{path}: {NO_JOURNAL}")
            self._stream: IO[bytes] = path.open("a+b", buffering=0)
        except OSError as exc:
            raise FileFormatError(f"{path}: cannot write here: {exc.strerror}") from None
        try:
            self._lock()
            self.found = self._read(dict(head))
        except BaseException:
            self.close()
            raise

    def add(self, tried: Tried) -> None:
        """Append a trial, in one write."""
        self._append(tried.to_dict())

    def close(self) -> None:
        """Close the file, and leave it for the next run."""
        self._stream.close()

    def remove(self) -> None:
        """Remove the file: the sweep is done."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OptionError(
                f"{self.path}: another sweep writes here; wait for it, or write to another file"
            ) from None
        except OSError:
            pass  # a file system without locks

    def _read(self, head: dict[str, Any]) -> list[Tried]:
        self._stream.seek(0)
        lines = self._stream.readall().split(b"\n")  # type: ignore[attr-defined]
        whole = lines[:-1]
        if not whole:
            self._check_torn_head(lines[-1], head)
            self._stream.truncate(0)
            self._append(_headed(head))
            return []
        self._check_head(self._parsed(whole[0], 1), head, len(whole) - 1)
        found = [self._tried(line, number) for number, line in enumerate(whole[1:], start=2)]
        self._stream.truncate(sum(len(line) + 1 for line in whole))
        return found

    def _check_torn_head(self, torn: bytes, head: dict[str, Any]) -> None:
        if torn and not _line(_headed(head)).startswith(torn):
            raise FileFormatError(f"{self.path}: {NO_JOURNAL}")

    def _check_head(self, found: Any, head: dict[str, Any], num_rows: int) -> None:
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise FileFormatError(f"{self.path}: {NO_JOURNAL}")
        expected = json.loads(_line(_headed(head)))
        differ = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
        if differ:
            raise OptionError(
                f"{self.path}: holds {num_rows:,} rows of another sweep ({', '.join(differ)} differ); give that "
                "sweep's command to finish it, write to another file, or remove this one to start over"
            )

    def _tried(self, line: bytes, number: int) -> Tried:
        values = self._parsed(line, number)
        try:
            return Tried.from_dict(values)
        except (InputError, KeyError, TypeError, AttributeError):
            raise self._damaged(number) from None

    def _parsed(self, line: bytes, number: int) -> Any:
        try:
            return parse_json(line.decode())
        except (ValueError, RecursionError):
            raise self._damaged(number) from None

    def _damaged(self, number: int) -> FileFormatError:
        return FileFormatError(f"{self.path}: line {number} is damaged; remove the file to start over")

    def _append(self, values: dict[str, Any]) -> None:
        data = _line(values)
        try:
            written = os.write(self._stream.fileno(), data)
        except OSError as exc:
            raise FileFormatError(f"{self.path}: cannot write here: {exc.strerror}") from None
        if written < len(data):
            raise FileFormatError(f"{self.path}: cannot write here: no space left")


def _headed(head: dict[str, Any]) -> dict[str, Any]:
    return {"kind": KIND, **head}


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode() + b"\n"
