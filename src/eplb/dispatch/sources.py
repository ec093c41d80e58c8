"""Where tokens come from: loads by the node that sends them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of, check_finite_nonnegative
from eplb.errors import LoadsError

TOLERANCE = 1e-9  # by which sums over nodes may differ from the loads, relative


def source_windows(
    source_loads: ArrayLike, windows: NDArray[np.float64], num_nodes: int, *, has_windows: bool, whole: bool
) -> NDArray[np.float64]:
    """Return `source_loads` as [T, L, N, E] in float64, writable, checked against the loads `windows` [T, L, E].

    Parameters
    ----------
    source_loads : array_like [L, N, E], or [T, L, N, E] if the loads have windows
        Tokens by node, finite, >= 0.
    windows : array [T, L, E]
        Their sums over nodes, up to 1e-9 of them.
    num_nodes : int
        Nodes N.
    has_windows : bool
        Whether the loads came with axis T.
    whole : bool
        Whether tokens stay whole: then they must be integers, and their sums exact.

    Raises
    ------
    LoadsError
        If one of these does not hold; it names the first bad index.
    """
    num_windows, num_layers, num_experts = windows.shape
    shape = (num_windows, num_layers, num_nodes, num_experts)[0 if has_windows else 1 :]
    axes = f"{f'{num_windows} windows, ' if has_windows else ''}{num_layers} layers, {num_nodes} nodes"
    wanted = f"source_loads: expected [{axes}, {num_experts} experts]"
    array = array_of(source_loads, wanted, LoadsError)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8 or array.shape != shape:
        raise LoadsError(f"{wanted}, got shape {array.shape} of dtype {array.dtype}")
    check_finite_nonnegative(array, "source_loads")
    sources = np.require(array if has_windows else array[None], np.float64, ["C", "A", "W"])
    if whole and (sources != np.floor(sources)).any():
        index = _first(sources != np.floor(sources), has_windows)
        raise LoadsError(f"source_loads: expected whole tokens, got {array[index]} at {list(index)}")
    _check_sums(sources, windows, has_windows, 0.0 if whole else TOLERANCE)
    return sources


def _check_sums(
    sources: NDArray[np.float64], windows: NDArray[np.float64], has_windows: bool, tolerance: float
) -> None:
    with np.errstate(over="ignore"):
        sums = sources.sum(axis=2)
    bad = ~(np.abs(sums - windows) <= tolerance * windows)
    if bad.any():
        index = _first(bad, has_windows)
        at = index if has_windows else (0, *index)
        raise LoadsError(
            f"source_loads: expected sums over nodes that are the loads, got a sum of {sums[at]} "
            f"for a load of {windows[at]} at {list(index)} of the loads"
        )


def _first(bad: NDArray[Any], has_windows: bool) -> tuple[int, ...]:
    """Return the index of the first bad entry in the caller's array, which may lack axis T."""
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    return index if has_windows else index[1:]
