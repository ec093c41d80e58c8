"""How long tokens travel to their experts and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.replay.cost.hardware import Hardware
from eplb.replay.cost.model_shape import ModelShape
from eplb.topology import Topology


def exchange_seconds(
    tokens: ArrayLike, hardware: Hardware, model: ModelShape, topology: Topology | None = None
) -> NDArray[np.float64]:
    """Return the seconds that each rank's links need for dispatch and combine together, [..., R].

    Every rank sends equally many tokens, so of those of a rank 1 / R are its own, others of its node come over the
    links inside it, and the rest over the network. Both work at the same time; the slower one counts. A token travels
    once for each of its experts, which is an upper bound where two of them share a rank or a node.

    Parameters
    ----------
    tokens : array_like [..., R]
        Tokens of each rank in a forward pass.
    hardware, model
        Bandwidths, latency, and bytes of a token.
    topology : Topology, optional
        Says which ranks share a node. Default: all do.

    Examples
    --------
    >>> from eplb.replay.cost import hardware_named, model_named
    >>> h100, model = hardware_named("h100"), model_named("deepseek-v3")
    >>> one_node = exchange_seconds([1000, 500], h100, model)
    >>> two_nodes = exchange_seconds([1000, 500], h100, model, Topology(num_ranks=2, slots_per_rank=1, num_nodes=2))
    >>> (two_nodes / one_node).round(6).tolist()
    [9.0, 9.0]
    """
    array = np.asarray(tokens, dtype=np.float64)
    num_ranks = array.shape[-1]
    if num_ranks == 1:
        return np.zeros(array.shape)
    nodes = np.zeros(num_ranks, dtype=np.int64) if topology is None else topology.node_of_rank
    neighbours = np.bincount(nodes)[nodes]
    sent = array * model.exchange_bytes_per_token / (num_ranks * hardware.efficiency)
    inside = sent * (neighbours - 1) / hardware.node_bandwidth_bytes_per_s
    between = sent * (num_ranks - neighbours) / hardware.network_bandwidth_bytes_per_s
    return np.asarray(np.maximum(inside, between) + 2 * hardware.exchange_latency_seconds)
