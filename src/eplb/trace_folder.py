"""The folder of a trace store: a description of the trace, and arrays with a file a window.

served.zarr/
  .zgroup
  .zattrs                            the description; it says how many windows count, and is replaced last
  loads/   .zarray  0.0.0  1.0.0 ..  [T, L, E]
  tokens/  .zarray  0  1 ..          [T], if the trace has them
  labels/  .zarray  0.0  1.0 ..      [T, 1024] bytes of UTF-8, zeros after them, if the trace has them
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eplb.errors import FileFormatError, InputError, LoadsError
from eplb.files import read_json
from eplb.trace import LoadTrace
from eplb.zarr_arrays import read_windows, write_attributes, write_group, write_header, write_windows

FORMAT, VERSION = "eplb.trace", 1
OPTIONAL = ("tokens", "labels")
LABEL_BYTES = 1024
MAX_WINDOW_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is known of all windows, and how many there are; `fields` are the optional ones that every window has."""

    num_experts: int
    layer_ids: list[int]
    model: str
    window: str
    phase: str
    dtype: str
    num_windows: int = 0
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("num_experts", 1), ("num_windows", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise LoadsError(f"{name}: expected an integer >= {least}, got {value!r}")
        if not set(self.fields) <= set(OPTIONAL):
            raise LoadsError(f"fields: expected some of {', '.join(OPTIONAL)}, got {self.fields}")
        LoadTrace(  # which checks the rest
            loads=np.zeros((len(self.layer_ids), 1), dtype=number_dtype(self.dtype)),
            layer_ids=cast("NDArray[np.int64]", self.layer_ids),
            model=self.model,
            window=self.window,
            phase=self.phase,
        )
        if self.window_bytes > MAX_WINDOW_BYTES:
            raise LoadsError(
                f"a window takes {self.window_bytes:,} bytes, more than the {MAX_WINDOW_BYTES:,} of a store"
            )

    @property
    def window_bytes(self) -> int:
        """Bytes that the loads of a window take in memory."""
        return len(self.layer_ids) * self.num_experts * np.dtype(self.dtype).itemsize

    @property
    def arrays(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtype and shape of a window in each array of the folder."""
        return {
            "loads": (np.dtype(self.dtype), (len(self.layer_ids), self.num_experts)),
            "tokens": (np.dtype("<i8"), ()),
            "labels": (np.dtype("u1"), (LABEL_BYTES,)),
        }


def number_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return `dtype`, or raise `LoadsError` if loads cannot have it."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as exc:
        raise LoadsError(f"dtype: expected integers or floats of at most 64 bits; {exc}") from None
    if found.kind not in "iuf" or found.itemsize > 8:
        raise LoadsError(f"dtype: expected integers or floats of at most 64 bits, got {found}")
    return found


def exactly(loads: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return `loads` as `dtype`, or raise `LoadsError` that names the first which would change."""
    with np.errstate(all="ignore"):
        kept = loads.astype(dtype)
    fits = kept == loads
    if (loads.dtype.kind == "f") != (dtype.kind == "f"):  # beyond the mantissa, comparing rounds too
        mantissa = np.finfo(dtype if dtype.kind == "f" else loads.dtype).nmant
        fits &= loads < 2.0 ** (mantissa + 1)
    if not fits.all():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmin(fits)), loads.shape))
        raise LoadsError(
            f"loads: expected what fits the store's {dtype} exactly, got {loads[index]} at {list(index)}; "
            "create the store with another dtype"
        )
    return kept


def read_description(folder: Path) -> Description:
    """Return what `.zattrs` says, or raise `FileFormatError` if the folder is no trace store, or damaged."""
    if not folder.is_dir():
        raise FileFormatError(f"{folder}: {'is a file, no folder' if folder.exists() else 'no such folder'}")
    if not (folder / ".zattrs").is_file():
        raise FileFormatError(f"{folder}: not a trace store: it has no .zattrs; expected what eplb.TraceStore makes")
    attributes = read_json(folder / ".zattrs")
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise FileFormatError(f"{folder}: not a trace store: expected format {FORMAT!r} in .zattrs")
    if attributes.get("version") != VERSION:
        raise FileFormatError(
            f"{folder}: trace store version {attributes.get('version')!r}, this eplb reads {VERSION}; update eplb"
        )
    if attributes.pop("hash", None) != _hash(attributes):
        raise FileFormatError(f"{folder}: .zattrs does not match its hash; it was damaged or edited")
    del attributes["format"], attributes["version"]
    try:
        return Description(**{**attributes, "fields": tuple(attributes["fields"])})
    except (InputError, KeyError, TypeError) as exc:
        raise FileFormatError(f"{folder}: .zattrs describes no trace: {exc}") from None


def commit(folder: Path, description: Description) -> None:
    """Replace the description, in one step."""
    attributes = {"format": FORMAT, "version": VERSION, **asdict(description)}
    write_attributes(folder, {**attributes, "hash": _hash(attributes)})


def _hash(attributes: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()


def write_empty(folder: Path, description: Description) -> None:
    """Make `folder` a store without windows."""
    write_group(folder)
    for name, (dtype, window) in description.arrays.items():
        write_header(folder / name, dtype, (0, *window))
    commit(folder, description)


def append_windows(folder: Path, description: Description, trace: LoadTrace) -> Description:
    """Write the windows of `trace` behind those of the folder, whose `description` is given; return the new one."""
    fields = tuple(name for name in OPTIONAL if getattr(trace, name) is not None)
    arrays = {"loads": trace.loads, "tokens": trace.tokens, "labels": _label_bytes(trace.labels or ())}
    for name in ("loads", *fields):
        dtype, _ = description.arrays[name]
        write_windows(folder / name, description.num_windows, cast("NDArray[Any]", arrays[name]).astype(dtype))
    longer = replace(description, num_windows=description.num_windows + trace.num_windows, fields=fields)
    commit(folder, longer)
    return longer


def read_part(folder: Path, description: Description, first: int, last: int) -> LoadTrace:
    """Return the windows from `first` to `last - 1`."""
    found = {
        name: read_windows(folder / name, *description.arrays[name], first, last)
        for name in ("loads", *description.fields)
    }
    return LoadTrace(
        loads=found["loads"],
        layer_ids=cast("NDArray[np.int64]", description.layer_ids),
        model=description.model,
        window=description.window,
        phase=description.phase,
        tokens=found.get("tokens"),
        labels=_label_texts(found["labels"]) if "labels" in found else None,
    )


def _label_bytes(labels: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return labels as rows of UTF-8, [T, LABEL_BYTES]."""
    rows = [label.encode("utf-8", "surrogatepass") for label in labels]
    for index, row in enumerate(rows):
        if len(row) > LABEL_BYTES or b"\0" in row:
            raise LoadsError(
                f"labels: a store keeps at most {LABEL_BYTES:,} bytes of UTF-8 without NUL a label, got {len(row):,} "
                f"at index {index}: {labels[index][:40]!r}; shorten it"
            )
    whole = b"".join(row.ljust(LABEL_BYTES, b"\0") for row in rows)
    return np.frombuffer(whole, dtype=np.uint8).reshape(-1, LABEL_BYTES)


def _label_texts(rows: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(row.tobytes().rstrip(b"\0").decode("utf-8", "surrogatepass") for row in rows)


@contextmanager
def whole_folder(target: Path, replacing: bool) -> Iterator[Path]:
    """Yield a temporary neighbour of `target` that takes its place in the end: `target` is whole, or as it was."""
    _check_target(target, replacing)
    made = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    old = made.with_suffix(".old")
    try:
        made.mkdir()
        yield made
        if target.exists():  # folders cannot be exchanged in one step: after a crash here the old one is beside it
            target.rename(old)
        made.rename(target)
    except OSError as exc:
        raise FileFormatError(f"{target}: cannot write here: {exc.strerror or exc}") from None
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check_target(target: Path, replacing: bool) -> None:
    if target.suffix.lower() != ".zarr":
        raise FileFormatError(f"{target}: expected a name that ends in .zarr")
    if not os.path.lexists(target):
        return
    if not replacing:
        raise FileFormatError(f"{target}: exists already; open it with eplb.TraceStore.open, or remove it first")
    try:
        if target.is_symlink():
            raise FileFormatError("a link")
        read_description(target)
    except FileFormatError:
        raise FileFormatError(f"{target}: exists and is no trace store; remove it first, or write elsewhere") from None
