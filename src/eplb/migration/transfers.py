"""`Transfers`: what moves between ranks on the way from one placement to the next, in rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import frozen, nonnegative
from eplb.errors import OptionError
from eplb.migration.assignment import assign
from eplb.migration.copies import Copies, copies_of
from eplb.migration.pairs import check_pair, check_sources, checked_bytes, rows_that_last
from eplb.placement import Placement
from eplb.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Transfers:
    """M transfers of experts between ranks, ordered by layer, then round, then source rank.

    Parameters
    ----------
    topology : Topology
        The ranks, as the new placement knows them.
    layer_ids : array [L]
        The model's own number of each layer.
    expert_bytes : array [L]
        Bytes of one expert in each layer, all its parameters together.
    layer, expert : array [M]
        Index of the layer, and the expert that is sent.
    source_rank, target_rank, source_slot, target_slot : array [M]
        Who sends and who receives; slots count over all ranks. The source slot is the lowest that holds the expert
        before, the target slot the lowest of its rank that holds it after.
    round : array [M]
        In a round of a layer a rank sends at most one expert and receives at most one; counts from 0 in each layer.
    num_rounds : array [L]
        Rounds of each layer: the most that one rank sends, or that one receives. No order has fewer.
    copies : Copies
        What ranks copy from slot to slot among their own.
    """

    topology: Topology
    layer_ids: NDArray[np.int64]
    expert_bytes: NDArray[np.int64]
    layer: NDArray[np.int32]
    expert: NDArray[np.int32]
    source_rank: NDArray[np.int32]
    target_rank: NDArray[np.int32]
    source_slot: NDArray[np.int32]
    target_slot: NDArray[np.int32]
    round: NDArray[np.int32]
    num_rounds: NDArray[np.int32]
    copies: Copies

    def __len__(self) -> int:
        return self.layer.size

    def __repr__(self) -> str:
        return (
            f"Transfers({len(self)} experts ({int(self.between_nodes.sum())} between nodes), {self.num_bytes()} bytes, "
            f"{int(self.num_rounds.sum())} rounds in {self.num_layers} layers, {self.copies.layer.size} local copies)"
        )

    @property
    def num_layers(self) -> int:
        """Layers L."""
        return self.num_rounds.size

    @property
    def between_nodes(self) -> NDArray[np.bool_]:
        """Whether each transfer leaves its node, [M]."""
        nodes = self.topology.node_of_rank
        return np.asarray(nodes[self.source_rank] != nodes[self.target_rank])

    @property
    def largest_sends(self) -> NDArray[np.int64]:
        """The most experts that one rank sends, in each layer, [L]. No choice of sources has less."""
        return self._largest(self.source_rank, np.ones(len(self), dtype=np.bool_))

    @property
    def largest_receives(self) -> NDArray[np.int64]:
        """The most experts that one rank receives, in each layer, [L]."""
        return self._largest(self.target_rank, np.ones(len(self), dtype=np.bool_))

    @property
    def largest_sends_between_nodes(self) -> NDArray[np.int64]:
        """The most experts that one rank sends to other nodes, in each layer, [L]. No choice of sources has less."""
        return self._largest(self.source_rank, self.between_nodes)

    def _largest(self, ranks: NDArray[np.int32], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
        counts = np.zeros((self.num_layers, self.topology.num_ranks), dtype=np.int64)
        np.add.at(counts, (self.layer[counted], ranks[counted]), 1)
        return np.asarray(counts.max(axis=1))

    def num_bytes(self, *, between_nodes: bool | None = None) -> int:
        """Return the bytes that cross ranks: all, those between nodes (True), or those inside nodes (False)."""
        return int(self.sent_bytes(between_nodes=between_nodes).sum())

    def sent_bytes(self, *, between_nodes: bool | None = None) -> NDArray[np.int64]:
        """Return the bytes that each rank sends, [R]: all, to other nodes (True), or inside its node (False)."""
        return self._bytes_by(self.source_rank, between_nodes)

    def received_bytes(self, *, between_nodes: bool | None = None) -> NDArray[np.int64]:
        """Return the bytes that each rank receives, [R]: all, from other nodes (True), or inside its node (False)."""
        return self._bytes_by(self.target_rank, between_nodes)

    def _bytes_by(self, ranks: NDArray[np.int32], between_nodes: bool | None) -> NDArray[np.int64]:
        counted = slice(None) if between_nodes is None else self.between_nodes == between_nodes
        out = np.zeros(self.topology.num_ranks, dtype=np.int64)
        np.add.at(out, ranks[counted], self.expert_bytes[self.layer[counted]])
        return out

    def layer_seconds(
        self, inside_bytes_per_s: float, between_bytes_per_s: float, *, latency_s: float = 0.0
    ) -> NDArray[np.float64]:
        """Return the time that each layer takes, [L], as `seconds` models it."""
        inside = _bandwidth(inside_bytes_per_s, "inside_bytes_per_s")
        between = _bandwidth(between_bytes_per_s, "between_bytes_per_s")
        latency = nonnegative(latency_s, "latency_s")
        taken = self.expert_bytes[self.layer] / np.where(self.between_nodes, between, inside)
        rounds = np.zeros((self.num_layers, 1 + int(self.num_rounds.max(initial=0))))
        np.maximum.at(rounds, (self.layer, self.round), taken)
        return np.asarray(rounds.cumsum(axis=1)[:, -1] + latency * self.num_rounds)

    def seconds(self, inside_bytes_per_s: float, between_bytes_per_s: float, *, latency_s: float = 0.0) -> float:
        """Return how long the transfers take, by a model: an estimate, not a measurement.

        Layers go one after another, and so do the rounds of a layer. A round takes `latency_s` and the time of its
        slowest transfer. Each rank has a link of its own for each direction, so the transfers of a round do not slow
        each other down. Copies inside ranks, checks and staging take nothing.

        Parameters
        ----------
        inside_bytes_per_s, between_bytes_per_s : float
            Bandwidth of one rank's link to ranks of its node, and to other nodes, > 0.
        latency_s : float, default 0
            What every round takes besides, in seconds, >= 0.

        Raises
        ------
        OptionError
            If a bandwidth or the latency is out of its range.
        """
        return math.fsum(self.layer_seconds(inside_bytes_per_s, between_bytes_per_s, latency_s=latency_s))


def plan_transfers(old: Placement, new: Placement, expert_bytes: ArrayLike) -> Transfers:
    """Return who sends what to whom, so that ranks which hold what `old` says come to hold what `new` says.

    Parameters
    ----------
    old, new : Placement
        The same layers and experts on one machine; speeds may differ, and which ranks failed. Ranks that fail in `new`
        send nothing.
    expert_bytes : int or array_like of int [L]
        Bytes of one expert, all its parameters together, in every layer or in each.

    Returns
    -------
    Transfers
        One transfer for each move of ``old.moves_to(new)``.

    Raises
    ------
    PlacementError
        If the two differ in layers, experts, ranks, nodes or slots.
    InfeasibleError
        If all ranks that hold an expert fail in `new`: nobody can send it, see `recover`.
    OptionError
        If `expert_bytes` is no integer of 1 to 2**40, or not one a layer.

    Notes
    -----
    In each layer sources are chosen for, in this order: the fewest sends between nodes of the rank that has most of
    them, the fewest sends of the rank that has most, and the fewest sends between nodes. All three are optimal, by
    augmenting paths: O(D (R + H)) for each of the D transfers of a layer in the worst case, H being the ranks to choose
    from, summed over them. Rounds are the colours of a bipartite multigraph, as many as its largest degree (Koenig,
    "Ueber Graphen und ihre Anwendung auf Determinantentheorie und Mengenlehre", 1916, doi:10.1007/BF01456961).

    Examples
    --------
    >>> from eplb import Placement, Topology
    >>> from eplb.migration import plan_transfers
    >>> topology = Topology(num_ranks=4, slots_per_rank=2, num_nodes=2)
    >>> old = Placement(physical_to_logical=[[0, 1, 2, 3, 4, 5, 0, 2]], topology=topology)
    >>> new = Placement(physical_to_logical=[[0, 1, 0, 3, 4, 5, 4, 2]], topology=topology)
    >>> transfers = plan_transfers(old, new, expert_bytes=10_000_000)
    >>> transfers
    Transfers(2 experts (0 between nodes), 20000000 bytes, 1 rounds in 1 layers, 0 local copies)
    >>> transfers.source_rank.tolist(), transfers.target_rank.tolist(), transfers.expert.tolist()
    ([0, 2], [1, 3], [0, 4])
    >>> transfers.seconds(inside_bytes_per_s=400e9, between_bytes_per_s=40e9)
    2.5e-05
    """
    check_pair(old, new)
    sizes = checked_bytes(expert_bytes, old.num_layers)
    before, after = rows_that_last(old, new.topology.alive), new.physical_to_logical
    check_sources(before, old)
    found = assign(before, after, new.topology)
    copies = copies_of(before, after, new.topology, found)
    columns: dict[str, Any] = {name: frozen(array) for name, array in found._asdict().items()}
    return Transfers(
        topology=new.topology,
        layer_ids=old.layer_ids,
        expert_bytes=sizes,
        layer=columns.pop("row"),
        copies=Copies(*(frozen(array) for array in copies)),
        **columns,
    )


def _bandwidth(value: Any, name: str) -> float:
    number = nonnegative(value, name)
    if number == 0:
        raise OptionError(f"{name}: expected a number > 0, got 0")
    return number
