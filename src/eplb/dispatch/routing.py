"""Calling the kernels on ids [T, k]: arrays that numba wants, and whether the ids were sound."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Routed = tuple[NDArray[Any], bool]
"""Slots [T, k], of the dtype of the ids, and whether the ids were sound; True if nobody asked."""


def even(ids: NDArray[Any], replicas: NDArray[Any], counts: NDArray[Any], checked: bool = False) -> Routed:
    """Choose replicas by the hash of the token."""
    from eplb.kernels.routing.tokens import route_even

    return _route(route_even, ids, (replicas, counts), checked)


def weighted(
    ids: NDArray[Any], replicas: NDArray[Any], shares: NDArray[Any], remainders: NDArray[Any], checked: bool = False
) -> Routed:
    """Choose replicas by shares of the ids' own counts."""
    from eplb.kernels.routing.tokens import route_weighted

    return _route(route_weighted, ids, (replicas, shares, remainders), checked)


def quotas(ids: NDArray[Any], replicas: NDArray[Any], cumulative: NDArray[Any], checked: bool = False) -> Routed:
    """Choose replicas by cumulative quotas."""
    from eplb.kernels.routing.tokens import route_quotas

    return _route(route_quotas, ids, (replicas, cumulative), checked)


def count(ids: NDArray[Any], num_experts: int) -> Routed:
    """Return the number of ids of each expert, int64 [E], and whether the ids are sound."""
    from eplb.kernels.compiling import ensure_compiled
    from eplb.kernels.routing.tokens import count_ids

    counts = np.zeros(num_experts, dtype=np.int64)
    args = (_flat(ids), ids.shape[1], counts)
    ensure_compiled(count_ids, args)
    return counts, count_ids(0, 1, *args)


def _route(kernel: Any, ids: NDArray[Any], tables: tuple[NDArray[Any], ...], checked: bool) -> Routed:
    from eplb.kernels.compiling import ensure_compiled

    out = np.empty(ids.shape, dtype=ids.dtype)
    args = (_flat(ids), ids.shape[1], *tables, checked, out.reshape(-1))
    ensure_compiled(kernel, args)
    return out, kernel(0, 1, *args)


def _flat(ids: NDArray[Any]) -> NDArray[Any]:
    """Return the ids in a row, writable: for read-only arrays numba would compile once more."""
    return (ids if ids.flags.carray else ids.copy()).reshape(-1)
