"""Who sends each transfer of a layer: a flow with unit demands, first as flat as it can be, then as near.

In order: the largest number of sends between nodes of a rank, the largest number of sends of a rank, and the number of
sends between nodes are as small as they can be.
"""

from typing import NamedTuple

import numpy as np

from eplb.kernels.arrays import Bools, Ints
from eplb.kernels.compiling import part
from eplb.kernels.migration.needs import Needs
from eplb.kernels.totals import NONE


class Flow(NamedTuple):
    """Who sends what so far, and room for the search. Nodes of its graph: R ranks, R gateways, D transfers.

    A send inside a node goes to its rank; one between nodes to the gateway of its rank, and on to the rank. Ranks and
    gateways let a limited number of sends through.
    """

    sources: Ints
    """Rank that sends each transfer, -1 for none yet, [D]."""
    sends: Ints
    """Sends of each rank, [R]."""
    far_sends: Ints
    """Sends of each rank to other nodes, [R]."""
    order: Ints
    """The transfers, those with fewest ranks to choose from first, [D]."""
    distances: Ints
    """Far sends that the way to each node adds, [2R + D]."""
    parents: Ints
    """Node before each node on its way, -1 for none, [2R + D]."""
    queue: Ints
    """Nodes to look at, a ring, [2R + D]."""
    queued: Bools
    """Whether a node is in the queue, [2R + D]."""
    sent_starts: Ints
    """First entry of each rank in `sent`, then their number, [R + 1]."""
    sent: Ints
    """Transfers by the rank that sends them, [D]."""


@part
def choose_sources(needs: Needs, nodes: Ints, first_rank: int) -> Ints:
    """Return the rank that sends each transfer, [D]; every expert that is needed has a holder.

    `nodes` [R] are the nodes of the ranks. Ties go to the rank with fewest sends, then to the first from `first_rank`
    on.
    """
    flow = _no_flow(needs, nodes.size)
    everything = np.ones(needs.experts.size, np.bool_)
    forced = _without_near_holder(needs, nodes)
    num_forced = np.sum(forced)
    most_far, unlimited = 0, needs.experts.size
    while not _serve(needs, nodes, first_rank, forced, most_far, unlimited, 0, flow):
        most_far += 1
    most = max(most_far, -(-needs.experts.size // nodes.size))
    while not _serve(needs, nodes, first_rank, everything, most_far, most, 0, flow):
        most += 1
    if np.sum(flow.far_sends) > num_forced:
        # From as many near sends as there can be, the cheapest way to add a transfer leads to the cheapest whole.
        flow.sources[:] = -1
        flow.sends[:] = 0
        flow.far_sends[:] = 0
        _serve(needs, nodes, first_rank, everything, 0, most, 0, flow)
        _serve(needs, nodes, first_rank, everything, most_far, most, 1, flow)
    return flow.sources


@part
def _no_flow(needs: Needs, num_ranks: int) -> Flow:
    size = needs.experts.size
    num_nodes = 2 * num_ranks + size
    return Flow(
        np.full(size, -1, np.int64),
        np.zeros(num_ranks, np.int64),
        np.zeros(num_ranks, np.int64),
        _by_choice(needs, num_ranks),
        np.empty(num_nodes, np.int64),
        np.empty(num_nodes, np.int64),
        np.empty(num_nodes, np.int64),
        np.zeros(num_nodes, np.bool_),
        np.empty(num_ranks + 1, np.int64),
        np.empty(size, np.int64),
    )


@part
def _by_choice(needs: Needs, num_ranks: int) -> Ints:
    """Return the transfers ordered by how many ranks hold their expert, [D]."""
    starts = np.zeros(num_ranks + 2, np.int64)
    for expert in needs.experts:
        starts[needs.starts[expert + 1] - needs.starts[expert] + 1] += 1
    for choice in range(num_ranks + 1):
        starts[choice + 1] += starts[choice]
    order = np.empty(needs.experts.size, np.int64)
    for transfer, expert in enumerate(needs.experts):
        choice = needs.starts[expert + 1] - needs.starts[expert]
        order[starts[choice]] = transfer
        starts[choice] += 1
    return order


@part
def _without_near_holder(needs: Needs, nodes: Ints) -> Bools:
    """Return which transfers have to cross nodes, [D]."""
    forced = np.ones(needs.experts.size, np.bool_)
    for transfer, expert in enumerate(needs.experts):
        for entry in range(needs.starts[expert], needs.starts[expert + 1]):
            if nodes[needs.holders[entry]] == nodes[needs.targets[transfer]]:
                forced[transfer] = False
    return forced


@part
def _serve(
    needs: Needs, nodes: Ints, first_rank: int, wanted: Bools, most_far: int, most: int, price: int, flow: Flow
) -> bool:
    """Find senders for as many transfers of `wanted` as the limits allow; whether that was all of them.

    With a `price` of 1 a far send costs 1, and the flow stays one of least cost.
    """
    left = 0
    for transfer in flow.order:
        if wanted[transfer] and flow.sources[transfer] < 0:
            rank = _free_sender(needs, nodes, first_rank, transfer, most_far, most, flow)
            if rank >= 0:
                _send(needs, nodes, transfer, rank, flow)
            else:
                left += 1
    while left > 0 and _augment(needs, nodes, wanted, most_far, most, price, flow):
        left -= 1
    return left == 0


@part
def _free_sender(
    needs: Needs, nodes: Ints, first_rank: int, transfer: int, most_far: int, most: int, flow: Flow
) -> int:
    """Return the best holder with room: near before far, few sends before many; -1 if there is none."""
    best, best_key = NONE, np.int64(0)
    expert, node = needs.experts[transfer], nodes[needs.targets[transfer]]
    for entry in range(needs.starts[expert], needs.starts[expert + 1]):
        rank = needs.holders[entry]
        far = nodes[rank] != node
        if flow.sends[rank] >= most or (far and flow.far_sends[rank] >= most_far):
            continue
        key = (far * (most + 1) + flow.sends[rank]) * nodes.size + (rank - first_rank) % nodes.size
        if best < 0 or key < best_key:
            best, best_key = rank, key
    return best


@part
def _send(needs: Needs, nodes: Ints, transfer: int, rank: int, flow: Flow) -> None:
    """Let `rank` send the transfer, and no longer who sent it so far."""
    node, before = nodes[needs.targets[transfer]], flow.sources[transfer]
    if before >= 0:
        flow.sends[before] -= 1
        flow.far_sends[before] -= nodes[before] != node
    flow.sources[transfer] = rank
    flow.sends[rank] += 1
    flow.far_sends[rank] += nodes[rank] != node


@part
def _augment(needs: Needs, nodes: Ints, wanted: Bools, most_far: int, most: int, price: int, flow: Flow) -> bool:
    """Find a sender for one more transfer by moving others along a cheapest way; whether there is one.

    No way is cheaper than `price` in the flows that occur, so the first one that costs no more is taken.
    """
    num_ranks = nodes.size
    _list_sent(flow)
    flow.distances[:] = flow.distances.size + 1
    flow.queued[:] = False
    head, size = 0, 0
    for transfer in range(needs.experts.size):
        if wanted[transfer] and flow.sources[transfer] < 0:
            size = _reach(2 * num_ranks + transfer, NONE, 0, head, size, flow)
    end = NONE
    while size > 0:
        at = flow.queue[head]
        head, size = (head + 1) % flow.queue.size, size - 1
        flow.queued[at] = False
        rank, so_far = at % num_ranks, flow.distances[at]
        if at >= 2 * num_ranks:
            transfer = at - 2 * num_ranks
            expert, node = needs.experts[transfer], nodes[needs.targets[transfer]]
            for entry in range(needs.starts[expert], needs.starts[expert + 1]):
                holder = needs.holders[entry]
                if holder != flow.sources[transfer]:
                    far = nodes[holder] != node
                    size = _reach(holder + num_ranks * far, at, so_far + price * far, head, size, flow)
            continue
        if at < num_ranks and flow.sends[rank] < most:
            if end < 0 or so_far < flow.distances[end]:
                end = at
            if so_far <= price:
                break
        if at >= num_ranks and flow.far_sends[rank] < most_far:
            size = _reach(rank, at, so_far, head, size, flow)
        if at < num_ranks and flow.far_sends[rank] > 0:
            size = _reach(num_ranks + rank, at, so_far, head, size, flow)
        for entry in range(flow.sent_starts[rank], flow.sent_starts[rank + 1]):
            transfer = flow.sent[entry]
            far = nodes[rank] != nodes[needs.targets[transfer]]
            if far == (at >= num_ranks):
                size = _reach(2 * num_ranks + transfer, at, so_far - price * far, head, size, flow)
    if end < 0:
        return False
    at = end
    while flow.parents[at] >= 0:
        before = flow.parents[at]
        if before >= 2 * num_ranks:
            _send(needs, nodes, before - 2 * num_ranks, at % num_ranks, flow)
        at = before
    return True


@part
def _list_sent(flow: Flow) -> None:
    """List the transfers by the rank that sends them."""
    starts = flow.sent_starts
    starts[0] = 0
    for rank in range(flow.sends.size):
        starts[rank + 1] = starts[rank] + flow.sends[rank]
    for transfer in range(flow.sources.size - 1, -1, -1):
        rank = flow.sources[transfer]
        if rank >= 0:
            starts[rank + 1] -= 1
            flow.sent[starts[rank + 1]] = transfer
    for rank in range(flow.sends.size):
        starts[rank] = starts[rank + 1]
    starts[flow.sends.size] = np.sum(flow.sends)


@part
def _reach(node: int, parent: int, distance: int, head: int, size: int, flow: Flow) -> int:
    """Note a shorter way to `node`, and look at it again; return the size of the queue."""
    if distance >= flow.distances[node]:
        return size
    flow.distances[node] = distance
    flow.parents[node] = parent
    if flow.queued[node]:
        return size
    flow.queued[node] = True
    flow.queue[(head + size) % flow.queue.size] = node
    return size + 1
