"""The machine a plan is made for: ranks, nodes, slots, speeds, failures."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of, frozen, integers
from eplb.errors import TopologyError

MAX_RANKS = 2**20
MAX_SLOTS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Ranks, the nodes they stand in, and how many slots each has.

    Parameters
    ----------
    num_ranks : int
        Ranks (GPUs) of the expert-parallel group, R >= 1.
    slots_per_rank : int or sequence of R ints
        Slots of every rank, or of each rank; each >= 1.
    num_nodes : int or sequence of R ints, default 1
        Number of nodes (rank r stands in node ``r * num_nodes // num_ranks``), or the node id of each rank;
        ids are 0, 1, ... without gaps.
    rank_speeds : sequence of R floats, optional
        Relative speed of each rank, > 0; the load of a rank counts divided by its speed. Default: all 1.
    failed_ranks : sequence or set of ints, optional
        Ranks that hold nothing: their slots keep their ids, hold -1, and the rank counts in no mean.

    Raises
    ------
    TopologyError
        If a value is out of range; nothing has to divide anything.

    Examples
    --------
    >>> topology = Topology(num_ranks=4, slots_per_rank=[3, 3, 2, 2], num_nodes=2)
    >>> topology.num_slots, topology.node_of_rank.tolist(), topology.rank_of_slot.tolist()
    (10, [0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    """

    num_ranks: int
    slots_per_rank: int | Sequence[int]
    num_nodes: int | Sequence[int] = 1
    rank_speeds: Sequence[float] | None = None
    failed_ranks: Sequence[int] | Set[int] = ()

    slot_counts: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """Slots of each rank, [R]."""
    slot_offsets: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """First slot of each rank, then the number of slots, [R + 1]."""
    node_of_rank: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """Node of each rank, [R]."""
    speeds: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    """Speed of each rank, [R]."""
    alive: NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    """Whether each rank works, [R]."""

    def __post_init__(self) -> None:
        num_ranks = _positive(self.num_ranks, "num_ranks", MAX_RANKS)
        slot_counts = _per_rank(self.slots_per_rank, num_ranks, "slots_per_rank")
        if slot_counts.sum() > MAX_SLOTS:
            raise TopologyError(f"slots_per_rank: {slot_counts.sum()} slots in all, more than {MAX_SLOTS}")
        node_of_rank = _nodes(self.num_nodes, num_ranks)
        speeds = _speeds(self.rank_speeds, num_ranks)
        alive = _alive(self.failed_ranks, num_ranks)

        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("num_ranks", num_ranks)
        put("slots_per_rank", _canonical(slot_counts))
        put("num_nodes", _canonical_nodes(node_of_rank))
        put("rank_speeds", None if (speeds == 1).all() else tuple(speeds.tolist()))
        put("failed_ranks", tuple(np.flatnonzero(~alive).tolist()))
        put("slot_counts", frozen(slot_counts))
        put("slot_offsets", frozen(np.concatenate([[0], np.cumsum(slot_counts)]).astype(np.int64)))
        put("node_of_rank", frozen(node_of_rank))
        put("speeds", frozen(speeds))
        put("alive", frozen(alive))

    def __reduce__(self) -> tuple[Any, ...]:
        return _topology_from, (self.to_dict(),)

    @property
    def num_slots(self) -> int:
        """All slots P, those of failed ranks included."""
        return int(self.slot_offsets[-1])

    @property
    def num_usable_slots(self) -> int:
        """Slots of the ranks that work."""
        return int(self.slot_counts[self.alive].sum())

    @property
    def node_count(self) -> int:
        """Number of nodes N."""
        return int(self.node_of_rank.max()) + 1

    @property
    def rank_of_slot(self) -> NDArray[np.int64]:
        """Rank of each slot, [P]."""
        return np.repeat(np.arange(self.num_ranks), self.slot_counts)

    def to_dict(self) -> dict[str, Any]:
        """Return the five parameters as plain JSON values."""
        return {
            "num_ranks": self.num_ranks,
            "slots_per_rank": _listed(self.slots_per_rank),
            "num_nodes": _listed(self.num_nodes),
            "rank_speeds": None if self.rank_speeds is None else list(self.rank_speeds),
            "failed_ranks": list(self.failed_ranks),
        }


def _topology_from(parameters: dict[str, Any]) -> Topology:
    return Topology(**parameters)


def _listed(value: int | Sequence[int]) -> int | list[int]:
    return value if isinstance(value, int) else list(value)


def _positive(value: Any, name: str, most: int = MAX_SLOTS) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < 1:
        raise TopologyError(f"{name}: expected an integer >= 1, got {value!r}")
    if value > most:
        raise TopologyError(f"{name}: expected at most {most}, got {value}")
    return int(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or np.ndim(value) > 0


def _one_per_rank(values: ArrayLike, num_ranks: int, name: str) -> NDArray[np.int64]:
    array = integers(values, name, TopologyError)
    if array.size != num_ranks:
        raise TopologyError(f"{name}: expected one integer a rank ({num_ranks}), got {array.size}")
    return array


def _per_rank(value: int | Sequence[int], num_ranks: int, name: str) -> NDArray[np.int64]:
    if not _is_list(value):
        return np.full(num_ranks, _positive(value, name), dtype=np.int64)
    array = _one_per_rank(value, num_ranks, name)
    if array.min() < 1 or array.max() > MAX_SLOTS:
        rank = int(np.argmax((array < 1) | (array > MAX_SLOTS)))
        raise TopologyError(
            f"{name}: expected 1 to {MAX_SLOTS} slots a rank, got {array[rank]} at rank {rank}; "
            "name a rank that holds nothing in failed_ranks"
        )
    return array


def _nodes(value: int | Sequence[int], num_ranks: int) -> NDArray[np.int64]:
    if not _is_list(value):
        num_nodes = _positive(value, "num_nodes")
        if num_nodes > num_ranks:
            raise TopologyError(f"num_nodes: expected at most one node a rank ({num_ranks}), got {num_nodes}")
        return np.arange(num_ranks, dtype=np.int64) * num_nodes // num_ranks
    array = _one_per_rank(value, num_ranks, "num_nodes")
    ids = np.unique(array)
    if not np.array_equal(ids, np.arange(ids.size)):
        raise TopologyError(f"num_nodes: expected node ids 0, 1, ... without gaps, got {ids[:8].tolist()}")
    return array


def _speeds(value: Sequence[float] | None, num_ranks: int) -> NDArray[np.float64]:
    if value is None:
        return np.ones(num_ranks)
    expected = f"rank_speeds: expected one number a rank ({num_ranks})"
    given = array_of(value, expected, TopologyError)
    if given.shape != (num_ranks,) or given.dtype.kind not in "iuf":
        raise TopologyError(f"{expected}, got shape {given.shape} of dtype {given.dtype}")
    array = given.astype(np.float64)
    bad = ~((array >= 1e-6) & (array <= 1e6))
    if bad.any():
        rank = int(np.argmax(bad))
        raise TopologyError(
            f"rank_speeds: expected 1e-6 to 1e6, got {array[rank]} at rank {rank}; name a dead rank in failed_ranks"
        )
    return array


def _alive(failed: Sequence[int] | Set[int], num_ranks: int) -> NDArray[np.bool_]:
    alive = np.ones(num_ranks, dtype=np.bool_)
    listed = list(failed) if isinstance(failed, Set) else failed
    ranks = integers(listed, "failed_ranks", TopologyError)
    bad = (ranks < 0) | (ranks >= num_ranks)
    if bad.any():
        index = int(np.argmax(bad))
        raise TopologyError(f"failed_ranks: expected ranks 0 to {num_ranks - 1}, got {ranks[index]} at index {index}")
    alive[ranks] = False
    if not alive.any():
        raise TopologyError(f"failed_ranks: all {num_ranks} ranks failed; at least one must work")
    return alive


def _canonical(slot_counts: NDArray[np.int64]) -> int | tuple[int, ...]:
    even = bool((slot_counts == slot_counts[0]).all())
    return int(slot_counts[0]) if even else tuple(slot_counts.tolist())


def _canonical_nodes(node_of_rank: NDArray[np.int64]) -> int | tuple[int, ...]:
    num_nodes, num_ranks = int(node_of_rank.max()) + 1, node_of_rank.size
    blocks = np.arange(num_ranks) * num_nodes // num_ranks
    return num_nodes if np.array_equal(node_of_rank, blocks) else tuple(node_of_rank.tolist())
