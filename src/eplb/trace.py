"""Recorded loads: how many tokens the router sent to each expert, window by window."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import check_finite_nonnegative, frozen, integers, loads_array
from eplb.errors import FileFormatError, InputError, LoadsError
from eplb.files import read_npz, write_atomically
from eplb.placement import checked_layer_ids

PHASES = ("prefill", "decode", "mixed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadTrace:
    """Loads of every logical expert over windows of time, oldest first.

    Parameters
    ----------
    loads : array_like, [T, L, E] or [L, E]
        Tokens routed to each expert in each window, integer or float, finite, >= 0. Padding tokens are not counted.
    layer_ids : sequence of L ints, optional
        The model's own number of each layer; default 0 .. L-1.
    model : str, default ""
        Name of the model.
    window : str, default ""
        What one window is, such as "32 decode steps x 64 requests".
    phase : {"mixed", "prefill", "decode"}
        Which forward passes were counted.
    tokens : sequence of T ints, optional
        Real tokens of each window, padding excluded.
    labels : sequence of T str, optional
        A name for each window.

    Raises
    ------
    LoadsError
        If the loads or one of the lists is malformed.

    Examples
    --------
    >>> trace = LoadTrace(loads=[[[1, 2]], [[3, 4]], [[5, 6]]], phase="decode")
    >>> trace.windows(2, 1).loads.tolist()
    [[[4, 6]], [[8, 10]]]
    """

    loads: NDArray[Any]
    layer_ids: NDArray[np.int64] = field(default=cast("NDArray[np.int64]", None))
    model: str = ""
    window: str = ""
    phase: str = "mixed"
    tokens: NDArray[np.int64] | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        loads = np.array(loads_array(self.loads), order="C")
        check_finite_nonnegative(loads)
        if loads.ndim == 2:
            loads = loads[None]
        for name in ("model", "window"):
            if not isinstance(getattr(self, name), str):
                raise LoadsError(f"{name}: expected a text, got {getattr(self, name)!r}")
        if not isinstance(self.phase, str) or self.phase not in PHASES:
            raise LoadsError(f"phase: expected one of {', '.join(PHASES)}, got {self.phase!r}")
        put = object.__setattr__
        put(self, "loads", frozen(loads))
        put(self, "layer_ids", checked_layer_ids(self.layer_ids, loads.shape[1], LoadsError))
        put(self, "tokens", _tokens(self.tokens, len(loads)))
        put(self, "labels", checked_labels(self.labels, len(loads), "window"))

    @property
    def num_windows(self) -> int:
        """Windows T."""
        return int(self.loads.shape[0])

    @property
    def num_layers(self) -> int:
        """Layers L."""
        return int(self.loads.shape[1])

    @property
    def num_experts(self) -> int:
        """Logical experts E."""
        return int(self.loads.shape[2])

    def windows(self, size: int, step: int | None = None) -> LoadTrace:
        """Return the trace of sums over `size` consecutive windows, one every `step` (default: `size`).

        A rest shorter than `size` at the end is left out.

        Raises
        ------
        LoadsError
            If `size` or `step` is below 1, or `size` is more than there are windows, or a sum may be out of range.
        """
        step = size if step is None else step
        whole = isinstance(size, (int, np.integer)) and isinstance(step, (int, np.integer))
        if not whole or size < 1 or step < 1 or size > self.num_windows:
            raise LoadsError(
                f"windows: expected integers 1 <= size <= {self.num_windows} and step >= 1, got {size!r} and {step!r}"
            )
        starts = range(0, self.num_windows - size + 1, step)
        tokens = None if self.tokens is None else _sums(self.tokens, starts, size)
        return LoadTrace(
            loads=_sums(self.loads, starts, size),
            layer_ids=self.layer_ids,
            model=self.model,
            window=f"{size} x ({self.window or 'window'})" if size > 1 else self.window,
            phase=self.phase,
            tokens=tokens,
            labels=None if self.labels is None else tuple(self.labels[s] for s in starts),
        )

    def part(self, first: int, last: int) -> LoadTrace:
        """Return the windows from `first` to `last - 1`, with all that is known of them.

        Raises
        ------
        LoadsError
            If there are no such windows.

        Examples
        --------
        >>> LoadTrace(loads=[[[1, 2]], [[3, 4]], [[5, 6]]], labels=list("abc")).part(1, 3).labels
        ('b', 'c')
        """
        check_part(first, last, self.num_windows)
        return replace(
            self,
            loads=self.loads[first:last],
            tokens=None if self.tokens is None else self.tokens[first:last],
            labels=None if self.labels is None else self.labels[first:last],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace to `path`, whole or not at all: an `.npz` file, or a `.zarr` folder (a `TraceStore`)."""
        if _is_store(path):
            from eplb.trace_store import TraceStore

            TraceStore.from_trace(path, self, replace=True)
            return
        if Path(path).suffix.lower() != ".npz":
            raise FileFormatError(f"{path}: expected a name that ends in .npz or .zarr")
        arrays: dict[str, Any] = {
            "loads": self.loads,
            "layer_ids": self.layer_ids,
            "model": np.array(self.model),
            "window": np.array(self.window),
            "phase": np.array(self.phase),
        }
        if self.tokens is not None:
            arrays["tokens"] = self.tokens
        if self.labels is not None:
            arrays["labels"] = np.array(self.labels)

        def write(stream: IO[bytes]) -> None:
            np.savez_compressed(stream, **arrays)

        write_atomically(path, write)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LoadTrace:
        """Read an `.npz` file with an array `loads` and, if they are there, the other fields; or a `.zarr` folder.

        Raises
        ------
        FileFormatError
            If the file is truncated, too large, or has no array `loads`, or the folder is no `TraceStore`.
        LoadsError
            If what it holds is no trace.
        MissingDependencyError
            If it is a folder and zarr is not installed.
        """
        if _is_store(path):
            from eplb.trace_store import TraceStore

            store = TraceStore.open(path)
            return store.part(0, store.num_windows)
        arrays = read_npz(path, ("loads", "layer_ids", "model", "window", "phase", "tokens", "labels"))
        if "loads" not in arrays:
            raise FileFormatError(f"{path}: expected an array 'loads' [windows, layers, experts]; the file has none")
        try:
            return cls(
                loads=arrays["loads"],
                layer_ids=cast("NDArray[np.int64]", arrays.get("layer_ids")),
                model=text_field(arrays, "model", ""),
                window=text_field(arrays, "window", ""),
                phase=text_field(arrays, "phase", "mixed"),
                tokens=arrays.get("tokens"),
                labels=label_list(arrays.get("labels")),
            )
        except InputError as exc:
            raise type(exc)(f"{path}: {exc}") from None


def check_part(first: int, last: int, num_windows: int) -> None:
    """Raise `LoadsError` unless `first` .. `last - 1` are one or more of `num_windows` windows."""
    if num_windows == 0:
        raise LoadsError("part: there are no windows yet")
    whole = isinstance(first, (int, np.integer)) and isinstance(last, (int, np.integer))
    if not whole or not 0 <= first < last <= num_windows:
        raise LoadsError(f"part: expected integers 0 <= first < last <= {num_windows}, got {first!r} and {last!r}")


def _is_store(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".zarr" and not Path(path).is_file()


def _sums(array: NDArray[Any], starts: range, size: int) -> NDArray[Any]:
    """Return the sum of `size` entries from each of `starts` on; floats are summed in float64."""
    if array.dtype.kind in "iu" and int(array.max()) * size >= 2**63:
        raise LoadsError(
            f"windows: {size} windows of up to {array.max()} may exceed 64 bits; store the loads as floats"
        )
    dtype = np.float64 if array.dtype.kind == "f" else None
    with np.errstate(over="ignore"):  # the new trace refuses what is infinite
        return np.stack([array[s : s + size].sum(axis=0, dtype=dtype) for s in starts])


def label_list(labels: NDArray[Any] | None) -> tuple[str, ...] | None:
    """Return the array `labels` of a file as texts."""
    if labels is None:
        return None
    if labels.ndim != 1 or labels.dtype.kind != "U":
        raise FileFormatError(f"labels: expected a list of texts, got shape {labels.shape} of dtype {labels.dtype}")
    return tuple(labels.tolist())


def text_field(arrays: dict[str, NDArray[Any]], name: str, default: str) -> str:
    """Return the text called `name` of a file, `default` if it has none."""
    value = arrays.get(name)
    if value is None:
        return default
    if value.shape != () or value.dtype.kind != "U":
        raise FileFormatError(f"{name}: expected a text, got shape {value.shape} of dtype {value.dtype}")
    return str(value[()])


def _tokens(values: Sequence[int] | NDArray[np.int64] | None, num_windows: int) -> NDArray[np.int64] | None:
    if values is None:
        return None
    tokens = integers(values, "tokens", LoadsError)
    if tokens.size != num_windows:
        raise LoadsError(f"tokens: expected one integer a window ({num_windows}), got {tokens.size}")
    if tokens.min() < 0:
        index = int(np.argmax(tokens < 0))
        raise LoadsError(f"tokens: expected integers >= 0, got {tokens[index]} at index {index}")
    return frozen(tokens)


def checked_labels(values: Sequence[str] | None, count: int, each: str) -> tuple[str, ...] | None:
    """Return `values` as `count` texts, one for `each`; or raise `LoadsError`."""
    if values is None:
        return None
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise LoadsError(f"labels: expected a list of texts, one a {each} ({count}), got {values!r}")
    labels = tuple(str(value) for value in values)
    if len(labels) != count:
        raise LoadsError(f"labels: expected one a {each} ({count}), got {len(labels)}")
    return labels
