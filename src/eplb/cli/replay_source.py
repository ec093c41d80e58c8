"""From a file to the windows that are replayed and, for token streams, the steps in them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eplb
from eplb.errors import OptionError
from eplb.reading import read_loads

STEPS_PER_WINDOW = 32
ORDERS = ("given", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How the requests of a token stream are put into steps and windows; None where the option was not given.

    Parameters
    ----------
    batch_size : int or None
        Requests that decode together.
    steps_per_window : int or None
        Steps that are summed to a window; default: 32.
    order : {"given", "random"} or None
        In which order requests arrive; default: "given".
    seed : int
        Seed of a random order.
    """

    batch_size: int | None
    steps_per_window: int | None
    order: str | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is replayed.

    Parameters
    ----------
    trace : LoadTrace or TraceStore
        The windows.
    steps : LoadTrace or None
        The steps whose sums the windows are, where they are known.
    """

    trace: Any
    steps: eplb.LoadTrace | None = None


def read_source(file: Path, batching: Batching) -> Source:
    """Return the windows in `file`: loads, a `.zarr` folder, or a token stream in batches.

    Raises
    ------
    OptionError
        If batching is wanted of loads, missing for a token stream, or out of range.
    FileFormatError
        If the file is none of these.
    """
    if _holds_tokens(file):
        return _batched(file, batching)
    for option, value in (
        ("--batch-size", batching.batch_size),
        ("--steps-per-window", batching.steps_per_window),
        ("--order", batching.order),
    ):
        if value is not None:
            raise OptionError(
                f"{option}: {file} holds windows already; only token streams ('ids') are put into batches"
            )
    if file.suffix.lower() == ".zarr":
        return Source(trace=eplb.TraceStore.open(file))
    return Source(trace=read_loads(file))


def _holds_tokens(file: Path) -> bool:
    if not file.is_file() or not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):  # the reader of loads says what is wrong
        return False
    return "ids.npy" in names and "loads.npy" not in names


def _batched(file: Path, batching: Batching) -> Source:
    if batching.batch_size is None:
        raise OptionError(f"{file}: holds single tokens; --batch-size N puts N requests into each step")
    size = STEPS_PER_WINDOW if batching.steps_per_window is None else batching.steps_per_window
    if size < 1:
        raise OptionError(f"--steps-per-window: expected an integer >= 1, got {size}")
    if batching.order not in (None, *ORDERS):
        raise OptionError(f"--order: expected {' or '.join(ORDERS)}, got {batching.order!r}")
    stream = eplb.TokenStream.load(file)
    steps = stream.decode_steps(batching.batch_size, order=batching.order or ORDERS[0], seed=batching.seed)
    if size > steps.num_windows:
        raise OptionError(
            f"--steps-per-window: {steps.num_windows} steps fill no window of {size}; take fewer a window, "
            "or a smaller --batch-size"
        )
    windows = steps.windows(size)
    return Source(trace=windows, steps=steps.part(0, windows.num_windows * size))
