"""TraceStore: a trace on disk that grows window by window and is read without holding all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from eplb.arrays import frozen, integers
from eplb.errors import EplbError, FileFormatError, InputError, LoadsError
from eplb.files import MAX_ARRAY_BYTES
from eplb.trace import LoadTrace, check_part
from eplb.trace_folder import (
    OPTIONAL,
    Description,
    append_windows,
    exactly,
    number_dtype,
    read_description,
    read_part,
    whole_folder,
    write_empty,
)
from eplb.zarr_arrays import require_zarr

SLAB_BYTES = 16 << 20


class TraceStore:
    """A trace in a Zarr folder: appended to while it is recorded, read a part at a time.

    An append writes the new windows and then, in one step, how many there are. What a crash leaves before that step
    nobody sees, and the next append overwrites it; windows that count are never written again. Whether the last append
    outlives a loss of power is up to the file system. One process may append at a time and any number may read: each
    sees the windows that were there when it opened the store. The format is Zarr's version 2, which zarr 2 and 3 read.

    Parameters
    ----------
    path : path
        The folder of a store that `create`, `from_trace` or `LoadTrace.save` made.

    Raises
    ------
    FileFormatError
        If there is no such folder, or it is no trace store, or of another version, or damaged.
    MissingDependencyError
        If zarr is not installed.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = TraceStore.create(f"{folder.name}/served.zarr", num_experts=2, layer_ids=[3, 4], phase="decode")
    >>> store.append([[5, 3], [2, 6]])
    >>> store.append([[[4, 4], [1, 7]], [[6, 2], [8, 0]]])
    >>> store.num_windows, store.part(1, 3).loads.tolist()
    (3, [[[4, 4], [1, 7]], [[6, 2], [8, 0]]])
    >>> [int(window.loads.max()) for window in store]
    [6, 7, 8]
    >>> folder.cleanup()
    """

    __slots__ = ("_description", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        require_zarr(self._path)
        self._description = read_description(self._path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TraceStore:
        """Return the store in the folder `path`, to be read and appended to."""
        return cls(path)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        num_experts: int,
        layer_ids: Sequence[int] | NDArray[Any],
        model: str = "",
        window: str = "",
        phase: str = "mixed",
        dtype: DTypeLike = "int64",
    ) -> TraceStore:
        """Return a new store without windows.

        Parameters
        ----------
        path : path
            The folder to make, with a name that ends in `.zarr`; nothing may be there.
        num_experts : int
            Logical experts E of a layer.
        layer_ids : sequence of L ints
            The model's own number of each layer.
        model, window, phase
            As in `LoadTrace`.
        dtype : dtype, default int64
            What loads are kept as, integers or floats of at most 64 bits; what does not fit exactly is refused.

        Raises
        ------
        LoadsError
            If one of these is no part of a trace.
        FileFormatError
            If something is at `path` already, or it cannot be written.
        MissingDependencyError
            If zarr is not installed.
        """
        require_zarr(Path(path))
        description = Description(
            num_experts=num_experts,
            layer_ids=integers(layer_ids, "layer_ids", LoadsError).tolist(),
            model=model,
            window=window,
            phase=phase,
            dtype=number_dtype(dtype).str,
        )
        with whole_folder(Path(path), replacing=False) as folder:
            write_empty(folder, description)
        return cls(path)

    @classmethod
    def from_trace(cls, path: str | os.PathLike[str], trace: LoadTrace, replace: bool = False) -> TraceStore:
        """Return a new store that holds `trace`; with `replace`, it takes the place of a store at `path`."""
        require_zarr(Path(path))
        if not isinstance(trace, LoadTrace):
            raise LoadsError(f"trace: expected an eplb.LoadTrace, got {type(trace).__name__}")
        description = Description(
            num_experts=trace.num_experts,
            layer_ids=trace.layer_ids.tolist(),
            model=trace.model,
            window=trace.window,
            phase=trace.phase,
            dtype=trace.loads.dtype.str,
        )
        with whole_folder(Path(path), replacing=replace) as folder:
            write_empty(folder, description)
            append_windows(folder, description, trace)
        return cls(path)

    def __repr__(self) -> str:
        sizes = f"{self.num_windows} windows x {self.num_layers} layers x {self.num_experts} experts"
        return f"TraceStore({str(self._path)!r}, {sizes})"

    @property
    def num_windows(self) -> int:
        """Windows T that were there when the store was opened, and those appended since through this object."""
        return self._description.num_windows

    @property
    def num_layers(self) -> int:
        """Layers L."""
        return len(self._description.layer_ids)

    @property
    def num_experts(self) -> int:
        """Logical experts E."""
        return self._description.num_experts

    @property
    def layer_ids(self) -> NDArray[np.int64]:
        """The model's own number of each layer, [L]."""
        return frozen(np.array(self._description.layer_ids, dtype=np.int64))

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._description.model

    @property
    def window(self) -> str:
        """What one window is."""
        return self._description.window

    @property
    def phase(self) -> str:
        """Which forward passes were counted."""
        return self._description.phase

    @property
    def loads_bytes(self) -> int:
        """Bytes that the loads of all windows take in memory."""
        return self.num_windows * self._description.window_bytes

    def append(
        self,
        loads: ArrayLike | Sequence[Any],
        tokens: Sequence[int] | NDArray[Any] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Add windows behind those that are there: all of them or none.

        Parameters
        ----------
        loads : array_like, [L, E] or [T, L, E]
            Tokens routed to each expert in one window, or in T.
        tokens, labels : sequences of T, optional
            As in `LoadTrace`; all windows of a store have them, or none. A label is at most 1,024 bytes of UTF-8.

        Raises
        ------
        LoadsError
            If these are no windows of this trace. Nothing is written then.
        FileFormatError
            If another process appended since the store was opened, or nothing can be written.
        """
        trace = self._checked(LoadTrace(loads=loads, tokens=tokens, labels=labels))  # type: ignore[arg-type]
        with self._naming_the_store("cannot be written"):
            if read_description(self._path) != self._description:
                raise FileFormatError("another process appended since this store was opened; open it again")
            self._description = append_windows(self._path, self._description, trace)

    def part(self, first: int, last: int) -> LoadTrace:
        """Return the windows from `first` to `last - 1` as a trace; only these are read.

        Raises
        ------
        LoadsError
            If there are no such windows.
        FileFormatError
            If they take more than 8 GiB, or what is read was damaged.
        """
        with self._naming_the_store("cannot be read (damaged?)"):
            check_part(first, last, self.num_windows)
            num_bytes = (last - first) * self._description.window_bytes
            if num_bytes > MAX_ARRAY_BYTES:
                raise FileFormatError(
                    f"{num_bytes:,} bytes, more than the {MAX_ARRAY_BYTES:,} that are read; take fewer windows"
                )
            return read_part(self._path, self._description, first, last)

    def __iter__(self) -> Iterator[LoadTrace]:
        """Yield each window as a trace of one window; at most 16 MiB of loads, or one window, are held."""
        size = max(1, SLAB_BYTES // self._description.window_bytes)
        count = self.num_windows
        for first in range(0, count, size):
            slab = self.part(first, min(first + size, count))
            yield from (slab.part(index, index + 1) for index in range(slab.num_windows))

    def _checked(self, trace: LoadTrace) -> LoadTrace:
        """Return `trace` with the store's dtype, or raise `LoadsError` if its windows are none of this store's."""
        expected = [self.num_layers, self.num_experts]
        if list(trace.loads.shape[1:]) != expected:
            raise LoadsError(
                f"loads: expected {expected} (layers, experts) a window, got {list(trace.loads.shape[1:])}"
            )
        for name in OPTIONAL:
            given, before = getattr(trace, name) is not None, name in self._description.fields
            if self.num_windows and given != before:
                raise LoadsError(
                    f"{name}: expected with all windows or none; those before have {'them' if before else 'none'}"
                )
        return replace(trace, loads=exactly(trace.loads, np.dtype(self._description.dtype)))

    @contextmanager
    def _naming_the_store(self, what: str) -> Iterator[None]:
        """Raise what goes wrong as an error of ours that begins with the path."""
        try:
            yield
        except InputError as exc:
            message = str(exc)
            raise type(exc)(message if message.startswith(f"{self._path}") else f"{self._path}: {message}") from None
        except EplbError:
            raise
        except Exception as exc:  # zarr and its codecs raise anything
            first_line = f"{getattr(exc, 'strerror', None) or exc}".partition("\n")[0][:200]
            raise FileFormatError(f"{self._path}: {what}: {first_line or type(exc).__name__}") from None
