"""In which round each transfer goes: a rank sends at most one a round, and receives at most one."""

import numpy as np

from eplb.kernels.arrays import Ints
from eplb.kernels.compiling import part
from eplb.kernels.totals import NONE


@part
def largest_degree(sources: Ints, targets: Ints, num_ranks: int) -> int:
    """Return the most transfers that one rank sends, or that one receives."""
    sends, receives = np.zeros((2, num_ranks), np.int64)
    for transfer in range(sources.size):
        sends[sources[transfer]] += 1
        receives[targets[transfer]] += 1
    return int(max(np.max(sends), np.max(receives)))


@part
def colour(sources: Ints, targets: Ints, nodes: Ints, sent: Ints) -> None:
    """Fill `sent` [rounds, R]: the transfer that each rank sends in each round, -1 for none.

    As many rounds as the largest degree suffice (Koenig, 1916). `nodes` [R] are the nodes of the ranks: transfers
    between nodes come first, so that they share rounds where that is free.
    """
    received = np.full_like(sent, -1)
    path = np.empty(sources.size, np.int64)
    sent[:] = -1
    for far in (True, False):
        for transfer in range(sources.size):
            if (nodes[sources[transfer]] != nodes[targets[transfer]]) == far:
                _place(transfer, sources, targets, sent, received, path)


@part
def _place(transfer: int, sources: Ints, targets: Ints, sent: Ints, received: Ints, path: Ints) -> None:
    """Put a transfer into a round that its source has free.

    If its target has not, transfers of this round and of one that the target has free swap places along the alternating
    path that begins at the target. It cannot end at the source, to which it would come in the round that is free there.
    """
    source, target = sources[transfer], targets[transfer]
    mine, theirs = _free(sent, source), _free(received, target)
    size = 0
    while True:
        other = received[mine, target] if size % 2 == 0 else sent[theirs, source]
        if other < 0:
            break
        path[size] = other
        size += 1
        source, target = sources[other], targets[other]
    for k in range(size):
        was = mine if k % 2 == 0 else theirs
        sent[was, sources[path[k]]] = received[was, targets[path[k]]] = -1
    for k in range(size):
        now = theirs if k % 2 == 0 else mine
        sent[now, sources[path[k]]] = received[now, targets[path[k]]] = path[k]
    sent[mine, sources[transfer]] = received[mine, targets[transfer]] = transfer


@part
def _free(table: Ints, rank: int) -> int:
    """Return the first round in which `rank` has nothing to do."""
    for number in range(len(table)):
        if table[number, rank] < 0:
            return number
    return NONE
