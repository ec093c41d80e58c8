"""Drop-in functions with the signatures of DeepSeek's `eplb.py`, for torch tensors and numpy arrays.

The algorithm and the names are those of https://github.com/deepseek-ai/EPLB: `phy2log` is `physical_to_logical`,
`log2phy` is `logical_to_physical` and `logcnt` is `replica_counts` elsewhere in this library.
"""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import check_finite_nonnegative
from eplb.errors import InfeasibleError, LoadsError, OptionError
from eplb.topology import Topology

POLICIES = ("fixup", "deepseek", "eplb")
UNTIL_NONE_MOVES = -1
MIN_LAYERS_PER_THREAD = 16
SIGNIFICANT_BITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}

Array = NDArray[Any]


def rebalance_experts(
    weight: Any, num_replicas: int, num_groups: int, num_nodes: int, num_gpus: int, policy: str = "fixup"
) -> tuple[Any, Any, Any]:
    """Plan every layer: which expert each slot holds, and which slots each expert has.

    Parameters
    ----------
    weight : tensor or array_like, [layers, num_logical_experts]
        Load of each expert, finite and >= 0, in any unit; planned in float32.
    num_replicas : int
        Slots over all GPUs, at least one an expert; a multiple of `num_gpus`.
    num_groups : int
        Groups of consecutive experts that stay on one node. Where it is no multiple of `num_nodes`, groups and nodes
        are ignored, as DeepSeek does without a word: every replica may then stand on any GPU.
    num_nodes : int
        Nodes; a divisor of `num_gpus`.
    num_gpus : int
        GPUs (ranks).
    policy : {"fixup", "deepseek", "eplb"}, default "fixup"
        "fixup": DeepSeek's algorithm over `replicate_experts`. "deepseek": replicas in DeepSeek's own order, so that
        plans agree with it on ties too. "eplb": the planner of this library.

    Returns
    -------
    phy2log : [layers, num_replicas], int64
        Expert of each slot; slot p stands on GPU ``p // (num_replicas // num_gpus)``.
    log2phy : [layers, num_logical_experts, most replicas of an expert], int64
        Slots of each expert, padded with -1.
    logcnt : [layers, num_logical_experts], int64
        Replicas of each expert.

    All three are tensors on the device of `weight` if that is a tensor, else numpy arrays.

    Raises
    ------
    LoadsError
        If `weight` has a wrong shape or dtype, or entries that are NaN, infinite, negative or too large for float32.
    InfeasibleError
        If there are fewer slots than experts, or one number does not divide another that it has to.
    OptionError
        If a number is no integer >= 1, or the policy is unknown.
    TopologyError
        With "eplb": if there are more nodes than GPUs.

    Notes
    -----
    O(P log P) a layer. Among equals the lower expert, replica or GPU comes first, on every machine; DeepSeek's code
    sorts with torch's unstable sort, so on ties its own plans depend on the processor. Without ties "fixup" and
    "deepseek" agree, but for one slot a GPU: packing then keeps the order of the replicas, by expert or as granted.
    In a layer of zeros the first expert of each node gets all redundant slots of the node (but not with "eplb").

    Examples
    --------
    >>> import numpy as np
    >>> phy2log, log2phy, logcnt = rebalance_experts(np.array([[90, 30, 50, 20]]), 6, 1, 1, 2)
    >>> phy2log.tolist(), logcnt.tolist()
    ([[0, 1, 3, 0, 2, 2]], [[2, 1, 2, 1]])
    >>> log2phy.tolist()
    [[[0, 3], [1, -1], [4, 5], [2, -1]]]
    """
    weights = _Weights.read(weight)
    num_replicas, num_gpus = _positive(num_replicas, "num_replicas"), _positive(num_gpus, "num_gpus")
    num_groups, num_nodes = _positive(num_groups, "num_groups"), _positive(num_nodes, "num_nodes")
    if policy not in POLICIES:
        raise OptionError(f"policy: expected one of {', '.join(map(repr, POLICIES))}, got {policy!r}")
    hierarchical = num_groups % num_nodes == 0
    _check_slots(weights.num_items, num_replicas, num_gpus)
    if hierarchical:
        _check_groups(weights.num_items, num_groups, num_nodes, num_gpus)
    values = weights.in_float32("planned")
    if policy == "eplb":
        topology = Topology(num_ranks=num_gpus, slots_per_rank=num_replicas // num_gpus, num_nodes=num_nodes)
        return weights.like_input(*_plan(weights.values, topology, num_groups if hierarchical else 1))
    if not hierarchical:
        num_groups = num_nodes = 1
    fix_up = policy == "fixup"
    return weights.like_input(*_rebalance(values, num_replicas, num_groups, num_nodes, num_gpus, fix_up))


def replicate_experts(weight: Any, num_phy: int) -> tuple[Any, Any, Any]:
    """Replicate experts so that the largest load of a replica is as small as `num_phy` replicas allow.

    Parameters
    ----------
    weight : tensor or array_like, [X, num_log]
        Load of each expert, finite and >= 0.
    num_phy : int
        Replicas in all, at least one an expert.

    Returns
    -------
    phy2log : [X, num_phy], int64
        Expert of each replica, ascending.
    rank : [X, num_phy], int64
        Number of the replica within its expert: 0 .. count - 1.
    logcnt : [X, num_log], int64
        Replicas of each expert.

    Raises
    ------
    LoadsError
        If `weight` has a wrong shape or dtype, or entries that are NaN, infinite or negative.
    InfeasibleError
        If `num_phy` is less than the number of experts.
    OptionError
        If `num_phy` is no integer >= 1.

    Notes
    -----
    Each further replica goes to the largest load a replica (highest averages, the method of Jefferson and D'Hondt),
    among equals to the lowest id; `replication_fixup` then finds nothing to move (docs/replication-fixup.md). Quotients
    have the precision of `weight`, float32 for integers. O(num_log + num_phy * log(num_log)) a row.

    Examples
    --------
    >>> import numpy as np
    >>> phy2log, rank, logcnt = replicate_experts(np.array([[10.0, 40.0, 25.0]]), 6)
    >>> phy2log.tolist(), rank.tolist(), logcnt.tolist()
    ([[0, 1, 1, 1, 2, 2]], [[0, 0, 1, 2, 0, 1]], [[1, 3, 2]])
    """
    from eplb.kernels.drop_in.replication import replicate_layers
    from eplb.kernels.threads import over_layers

    weights = _Weights.read(weight)
    num_phy = _positive(num_phy, "num_phy")
    _check_enough(weights.num_items, num_phy, "num_phy")
    shape = (weights.num_rows, num_phy)
    phy2log, rank = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    logcnt = np.empty(weights.values.shape, dtype=np.int64)
    args = (weights.for_quotients(), weights.bits, logcnt, phy2log, rank)
    over_layers(replicate_layers, weights.num_rows, args, MIN_LAYERS_PER_THREAD)
    return weights.like_input(phy2log, rank, logcnt)


def replication_fixup(weight: Any, logcnt: Any, steps: int | None = 1, strict: bool = True) -> Any:
    """Move replicas, one a step, to the expert with the largest load a replica, while that pays.

    The donor is the expert with two replicas or more whose load a replica after giving is smallest; among equals the
    lowest id donates and receives.

    Parameters
    ----------
    weight : tensor or array_like, [X, num_log]
        Load of each expert, finite and >= 0.
    logcnt : tensor or array_like of int, [X, num_log]
        Replicas of each expert, >= 1, from anywhere; not modified.
    steps : int or None, default 1
        Most moves a row, >= 0; None: until nothing moves.
    strict : bool, default True
        Accept a move only if the largest load a replica falls. If False, also if it stays and fewer experts have it:
        then enough steps reach the optimum from any counts, where the strict rule can stick.

    Returns
    -------
    logcnt : [X, num_log], int64
        The new counts, with the same sum in each row; a tensor on the device of `weight` if that is a tensor.

    Raises
    ------
    LoadsError
        If `weight` has a wrong shape or dtype, or entries that are NaN, infinite or negative.
    OptionError
        If `logcnt` has another shape or entries that are no integers >= 1, or `steps` is no integer >= 0.

    Notes
    -----
    O(num_log) a step and row. Proofs, and why the direction is the reverse of the published one:
    docs/replication-fixup.md.

    Examples
    --------
    >>> import numpy as np
    >>> replication_fixup(np.array([[90.0, 20.0, 10.0]]), np.array([[1, 3, 1]])).tolist()
    [[2, 2, 1]]
    """
    from eplb.kernels.drop_in.replication import fix_up_layers
    from eplb.kernels.threads import over_layers

    weights = _Weights.read(weight)
    counts = _counts(logcnt, weights.values.shape)
    most = UNTIL_NONE_MOVES if steps is None else _integer(steps, "steps", 0)
    args = (weights.for_quotients(), most, bool(strict), weights.bits, counts)
    over_layers(fix_up_layers, weights.num_rows, args, MIN_LAYERS_PER_THREAD)
    return weights.like_input(counts)[0]


def balanced_packing(weight: Any, num_packs: int) -> tuple[Any, Any]:
    """Pack items into packs of equal size, each item, heaviest first, into the lightest pack with room.

    Parameters
    ----------
    weight : tensor or array_like, [X, n]
        Weight of each item, finite and >= 0.
    num_packs : int
        Packs; a divisor of n. With n packs, item i goes to pack i.

    Returns
    -------
    pack_index : [X, n], int64
        Pack of each item.
    rank_in_pack : [X, n], int64
        Place of each item in its pack: 0 .. n / num_packs - 1.

    Raises
    ------
    LoadsError
        If `weight` has a wrong shape or dtype, or entries that are NaN, infinite or negative; if an entry is too large
        for float32 or the weight of a pack for its own dtype.
    InfeasibleError
        If `num_packs` does not divide n.
    OptionError
        If `num_packs` is no integer >= 1.

    Notes
    -----
    Items are ordered by their weight in float32 and then by index; the weight of a pack is summed in the precision of
    `weight`, int64 for integers; the lowest index wins among equally light packs. O(n log n) a row.

    Examples
    --------
    >>> import numpy as np
    >>> pack_index, rank_in_pack = balanced_packing(np.array([[5, 4, 3, 2, 1, 0]]), 2)
    >>> pack_index.tolist(), rank_in_pack.tolist()
    ([[0, 1, 1, 0, 0, 1]], [[0, 0, 1, 1, 2, 2]])
    """
    from eplb.kernels.drop_in.deepseek import pack_layers
    from eplb.kernels.threads import over_layers

    weights = _Weights.read(weight)
    num_packs = _positive(num_packs, "num_packs")
    _check_divides(num_packs, "num_packs", weights.num_items, "the number of items")
    shape = weights.values.shape
    pack_index, rank_in_pack = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    sizes = weights.for_sums()
    args = (weights.in_float32("sorted"), sizes, weights.bits, num_packs, pack_index, rank_in_pack)
    over_layers(pack_layers, weights.num_rows, args, MIN_LAYERS_PER_THREAD)
    _check_pack_sums(weights, sizes.dtype, pack_index, num_packs)
    return weights.like_input(pack_index, rank_in_pack)


def _rebalance(
    values: Array, num_replicas: int, num_groups: int, num_nodes: int, num_gpus: int, fix_up: bool
) -> tuple[Array, Array, Array]:
    from eplb.kernels.drop_in.deepseek import invert_layers, rebalance_layers
    from eplb.kernels.threads import over_layers

    num_layers = len(values)
    phy2log, replica = (np.empty((num_layers, num_replicas), dtype=np.int64) for _ in range(2))
    logcnt = np.empty(values.shape, dtype=np.int64)
    args = (values, num_groups, num_nodes, num_gpus, fix_up, logcnt, phy2log, replica)
    over_layers(rebalance_layers, num_layers, args, MIN_LAYERS_PER_THREAD)
    log2phy = np.full((*logcnt.shape, int(logcnt.max())), -1, dtype=np.int64)
    invert_layers(0, num_layers, phy2log, replica, log2phy)
    return phy2log, log2phy, logcnt


def _plan(values: Array, topology: Topology, groups: int) -> tuple[Array, Array, Array]:
    from eplb.planning import plan

    placement = plan(values, topology, groups=groups, effort="balanced").placement
    return (
        placement.physical_to_logical.astype(np.int64),
        placement.logical_to_physical.astype(np.int64),
        placement.replica_counts.astype(np.int64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """A checked copy of what the caller passed, the precision it had, and the kind it came in."""

    values: Array
    bits: int
    tensor: Any

    @classmethod
    def read(cls, weight: Any) -> _Weights:
        values, precision = _to_numpy(weight, "weight")
        if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
            raise LoadsError(f"weight: expected integers or floats of at most 64 bits, got dtype {values.dtype}")
        if values.ndim != 2 or 0 in values.shape:
            raise LoadsError(
                f"weight: expected two axes, rows (layers) x items (experts), neither empty, got {list(values.shape)}"
                + ("; pass weight[None] for a single row" if values.ndim == 1 else "")
            )
        check_finite_nonnegative(values, "weight")
        bits = SIGNIFICANT_BITS.get(precision, SIGNIFICANT_BITS["float32"])
        return cls(values=values, bits=bits, tensor=weight if _is_tensor(weight) else None)

    @property
    def num_rows(self) -> int:
        return int(self.values.shape[0])

    @property
    def num_items(self) -> int:
        return int(self.values.shape[1])

    def for_quotients(self) -> Array:
        return np.array(self.values, dtype=np.float64 if self.values.dtype == np.float64 else np.float32, order="C")

    def for_sums(self) -> Array:
        if self.values.dtype.kind == "f":
            return self.for_quotients()
        return np.array(self.values, dtype=np.int64, order="C")

    def in_float32(self, use: str) -> Array:
        """Return the values in float32, or raise if one of them or the sum of a row does not fit."""
        largest = np.finfo(np.float32).max
        too_large = self.values.sum(axis=1, dtype=np.float64) > largest
        if too_large.any():
            row = int(np.argmax(too_large))
            raise LoadsError(
                f"weight: expected rows that sum to at most {largest:.3g}, as they are {use} in float32, "
                f"got more in row {row}; divide all by a constant"
            )
        return np.array(self.values, dtype=np.float32, order="C")

    def like_input(self, *arrays: Array) -> tuple[Any, ...]:
        if self.tensor is None:
            return arrays
        torch = sys.modules["torch"]
        return tuple(torch.from_numpy(array).to(self.tensor.device) for array in arrays)


def _is_tensor(value: Any) -> bool:
    """Return whether `value` is a torch tensor, without importing torch: whoever made one has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _to_numpy(value: Any, name: str) -> tuple[Array, str]:
    """Return `value` as an array and the name of its dtype; bfloat16, which numpy lacks, arrives as float32."""
    try:
        if not _is_tensor(value):
            array = np.asarray(value)
            return array, array.dtype.name
        precision = str(value.dtype).removeprefix("torch.")
        tensor = value.detach().cpu()
        return (tensor.float() if precision == "bfloat16" else tensor).numpy(), precision
    except (TypeError, ValueError, RuntimeError) as exc:
        kind = type(value).__name__
        raise LoadsError(f"{name}: expected a rectangular, dense array of numbers, got {kind}; {exc}") from None


def _counts(logcnt: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    counts, _ = _to_numpy(logcnt, "logcnt")
    if counts.shape != shape or counts.dtype.kind not in "iu":
        raise OptionError(
            f"logcnt: expected integers of shape {list(shape)}, as weight has, "
            f"got shape {list(counts.shape)} of dtype {counts.dtype}"
        )
    if counts.min() < 1:
        index = [int(i) for i in np.unravel_index(int(np.argmin(counts)), shape)]
        raise OptionError(f"logcnt: expected at least one replica an expert, got {counts.min()} at {index}")
    return np.array(counts, dtype=np.int64, order="C")


def _integer(value: Any, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, (bool, np.bool_)) or number < least:
        raise OptionError(f"{name}: expected an integer >= {least}, got {value!r}")
    return number


def _positive(value: Any, name: str) -> int:
    return _integer(value, name, 1)


def _check_divides(divisor: int, divisor_name: str, number: int, name: str) -> None:
    if number % divisor:
        raise InfeasibleError(f"{divisor_name}: expected a divisor of {name} ({number}), got {divisor}")


def _check_enough(num_experts: int, num_slots: int, name: str) -> None:
    if num_slots < num_experts:
        raise InfeasibleError(
            f"{name}: expected at least one slot for each of {num_experts} experts, got {num_slots}; add slots"
        )


def _check_slots(num_experts: int, num_replicas: int, num_gpus: int) -> None:
    _check_enough(num_experts, num_replicas, "num_replicas")
    if num_replicas < num_gpus:
        raise InfeasibleError(
            f"num_replicas: {num_replicas} slots leave some of {num_gpus} GPUs without one; "
            f"pass a multiple of num_gpus ({num_gpus})"
        )
    _check_divides(num_gpus, "num_gpus", num_replicas, "num_replicas")


def _check_groups(num_experts: int, num_groups: int, num_nodes: int, num_gpus: int) -> None:
    if num_groups > num_experts:
        raise InfeasibleError(f"num_groups: expected at most one group an expert ({num_experts}), got {num_groups}")
    _check_divides(num_groups, "num_groups", num_experts, "the number of experts")
    _check_divides(num_nodes, "num_nodes", num_gpus, "num_gpus")


def _check_pack_sums(weights: _Weights, dtype: np.dtype[Any], pack_index: Array, num_packs: int) -> None:
    """Raise if a pack outweighs its dtype: with an infinite or wrapped sum, "lightest" meant nothing."""
    if weights.bits == SIGNIFICANT_BITS["float16"]:
        dtype = np.dtype(np.float16)
    largest = np.nextafter(2.0**63, 0) if dtype.kind == "i" else float(np.finfo(dtype).max)
    packs = pack_index + num_packs * np.arange(weights.num_rows)[:, None]
    heaviest = np.bincount(packs.ravel(), weights=weights.values.ravel().astype(np.float64)).max()
    if heaviest > largest:
        raise LoadsError(f"weight: a pack weighs {heaviest:.3g}, more than {dtype} holds; pass float32 or float64")
