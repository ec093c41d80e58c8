"""The traces of a sweep: read once, and named so that a later run knows them again."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from eplb.errors import LoadsError, OptionError
from eplb.reading import read_loads
from eplb.trace import LoadTrace
from eplb.trace_store import TraceStore


def loads_of(name: Any, trace: Any) -> LoadTrace:
    """Return the loads of `trace`, which a table calls `name`.

    Raises
    ------
    OptionError
        If the name is no text that a file can hold.
    LoadsError, FileFormatError
        If the trace is none, or its file cannot be read.
    """
    if not isinstance(name, str) or not name or not _is_text(name):
        raise OptionError(f"traces: expected names that are texts, got {name!r}")
    if isinstance(trace, LoadTrace):
        return trace
    if isinstance(trace, TraceStore):
        return trace.part(0, trace.num_windows)
    if isinstance(trace, (str, os.PathLike)):
        return read_loads(trace)
    raise LoadsError(
        f"trace {name}: expected an eplb.LoadTrace, an eplb.TraceStore or a path, got {type(trace).__name__}"
    )


def digest_of(trace: LoadTrace) -> str:
    """Return a text that only the same loads of the same layers have.

    Examples
    --------
    >>> digest_of(LoadTrace(loads=[[1, 2]])) == digest_of(LoadTrace(loads=[[[1, 2]]], model="other name"))
    True
    """
    digest = hashlib.sha256()
    for array in (trace.loads, trace.layer_ids):
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
