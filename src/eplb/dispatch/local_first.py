"""Quotas of one source whose near replicas come first, which never costs balance."""

from __future__ import annotations

from typing import Any

import numpy as np


def local_first_quotas(source_counts: Any, group_quotas: Any, ranks: Any, nodes: Any, source_rank: int) -> Any:
    """Return what one source may send where, so that few tokens travel and each replica gets exactly its quota.

    Every source first fills the replicas on its own rank, as far as their quotas go; then the sources of a node, in
    order, fill what is left of the replicas on the node, in order; then all sources fill what is left. No other way to
    keep the quotas has more tokens that stay on their rank, nor, among those, more that stay on their node. (Sending
    each token to its nearest replica, without quotas, keeps a few more near and loses the balance.)

    Parameters
    ----------
    source_counts : array or tensor of int64 [R, E]
        Tokens of each expert from each rank; the same on all ranks, as an all-gather leaves it.
    group_quotas : array or tensor of int64 [E, X]
        Cumulative quotas of the group, such as `weighted_quotas` of the sums of all counts.
    ranks : array or tensor of int [E, X]
        The rank of each replica, then -1.
    nodes : array or tensor of int [R]
        The node of each rank.
    source_rank : int
        Which rank's quotas to return.

    Returns
    -------
    array or tensor of int64 [E, X]
        Cumulative quotas of this source. Summed over the sources they are those of the group.

    Notes
    -----
    O(E X R), without communication: every rank computes its own part. Needs an engine that lets ranks choose different
    replicas, with an all-to-all between them.

    Examples
    --------
    Four tokens each from ranks 0 and 1, for an expert with a replica on either, which may take 6 and 2:

    >>> import numpy as np
    >>> quotas, ranks, nodes = np.array([[6, 8]]), np.array([[0, 1]]), np.array([0, 0])
    >>> [local_first_quotas(np.array([[4], [4]]), quotas, ranks, nodes, rank).tolist() for rank in (0, 1)]
    [[[4, 4]], [[2, 4]]]
    """
    if isinstance(source_counts, np.ndarray):
        return _in_numpy(source_counts, group_quotas, ranks, nodes, source_rank)
    from eplb.dispatch.operators import operators

    return operators().local_first_quotas(source_counts, group_quotas, ranks, nodes, source_rank)


def _in_numpy(source_counts: Any, group_quotas: Any, ranks: Any, nodes: Any, source_rank: int) -> Any:
    from eplb.kernels.compiling import ensure_compiled
    from eplb.kernels.routing.local_first import local_first

    given = (source_counts, group_quotas, ranks, nodes)
    arrays: list[Any] = [np.require(array, np.int64, ["C", "A", "W"]) for array in given]
    out = np.empty(arrays[1].shape, dtype=np.int64)
    args: tuple[Any, ...] = (*arrays, source_rank, out)
    ensure_compiled(local_first, args)
    local_first(0, len(out), *args)
    return out
