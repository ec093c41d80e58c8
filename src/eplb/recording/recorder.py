"""Recorder: what was counted so far, as a trace."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.errors import RecordingError
from eplb.recording.forwards import Forward, Watch
from eplb.recording.stacks import Stack
from eplb.recording.windows import MOST_WAITING, Window, Windows
from eplb.trace import LoadTrace
from eplb.trace_store import TraceStore


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """How a recording is made; `record` tells each."""

    window: int
    phase: str
    store: TraceStore | str | os.PathLike[str] | None
    name: str
    count_padding: bool
    pad_token_id: int | None


class Recorder:
    """Counts of the experts that a model chose; what `with eplb.record(model) as recorder` yields.

    It hands out its windows as a trace does (`loads`, `part`, `save`), so `replay` takes it; `trace` is one.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    stack : Stack
        Its routers.
    options : Options
        As `record` takes them.
    """

    def __init__(self, model: Any, stack: Stack, options: Options) -> None:
        self._stack, self._options = stack, options
        self._windows = Windows(len(stack.routers), stack.num_experts, options.window)
        self._kept: list[Window] = []
        self._store = options.store if isinstance(options.store, TraceStore) else None
        self._first = self._store.num_windows if self._store is not None else 0
        self._ran: set[int] = set()
        self._watch = Watch(model, stack, self._count, options.count_padding, options.pad_token_id)

    def __repr__(self) -> str:
        sizes = f"{len(self._stack.routers)} layers x {self._stack.num_experts} experts"
        return f"Recorder({self._options.name!r}, {sizes})"

    @property
    def layer_ids(self) -> list[int]:
        """The model's own number of each layer that is recorded."""
        return list(self._stack.layer_ids)

    @property
    def router_paths(self) -> list[str]:
        """The modules whose choices are counted."""
        return [router.path for router in self._stack.routers]

    @property
    def num_experts(self) -> int:
        """Logical experts E."""
        return self._stack.num_experts

    @property
    def trace(self) -> LoadTrace:
        """The windows that are full, and after the `with` block the last ones as well.

        Raises
        ------
        RecordingError
            If no window is there yet.
        """
        self._take()
        if self._store is not None and self._store.num_windows > self._first:
            return self._store.part(self._first, self._store.num_windows)
        if not self._kept:
            raise RecordingError(
                f"{self._options.name}: no window was recorded; expected forwards of the model in the `with` block "
                "(a compiled model does not see hooks: compile it afterwards, or not)"
            )
        phases = {window.phase for window in self._kept}
        return LoadTrace(
            loads=np.stack([window.loads for window in self._kept]),
            layer_ids=np.array(self._stack.layer_ids),
            model=self._options.name,
            window=self._window_text(),
            phase=phases.pop() if len(phases) == 1 else "mixed",
            tokens=np.array([window.num_tokens for window in self._kept]),
            labels=tuple(window.phase for window in self._kept),
        )

    @property
    def num_layers(self) -> int:
        """Layers L."""
        return len(self._stack.routers)

    @property
    def num_windows(self) -> int:
        """Windows T of `trace`."""
        return self.trace.num_windows

    @property
    def loads(self) -> NDArray[Any]:
        """Tokens of each expert, [T, L, E]."""
        return self.trace.loads

    def part(self, first: int, last: int) -> LoadTrace:
        """Return windows `first` to `last` - 1."""
        return self.trace.part(first, last)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `trace` to a file, as `LoadTrace.save` does."""
        self.trace.save(path)

    def stop(self) -> None:
        """Take the hooks off and count the windows that are not full; `record` does it at the end of the block."""
        self._watch.remove()
        self._windows.close()
        self._take()
        idle = [self._stack.routers[layer].path for layer in range(len(self._stack.routers)) if layer not in self._ran]
        if self._ran and idle:
            warnings.warn(f"{', '.join(idle)}: never ran while recording; its loads are 0", stacklevel=4)

    def _count(self, forward: Forward) -> None:
        if self._options.phase not in ("mixed", forward.phase):
            return
        if len(self._ran) < len(self._stack.routers):
            self._ran.update(layer for layer, _ in forward.taken)
        self._windows.add(forward)
        if self._windows.num_waiting >= (MOST_WAITING if self._options.store is None else 1):
            self._take()

    def _take(self) -> None:
        for window in self._windows.take():
            if self._options.store is None:
                self._kept.append(window)
            else:
                self._store = self._store or self._new_store()
                self._store.append(window.loads, tokens=[window.num_tokens], labels=[window.phase])

    def _new_store(self) -> TraceStore:
        assert not isinstance(self._options.store, TraceStore | None)
        return TraceStore.create(
            self._options.store,
            num_experts=self.num_experts,
            layer_ids=self.layer_ids,
            model=self._options.name,
            window=self._window_text(),
            phase=self._options.phase,
        )

    def _window_text(self) -> str:
        return f"{self._options.window} forward{'s' if self._options.window > 1 else ''}"
