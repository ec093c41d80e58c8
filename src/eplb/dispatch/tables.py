"""The tables of a placement that replica choice looks things up in, as numpy arrays and on torch devices."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.dispatch.quotas import ONE
from eplb.dispatch.weights import checked_weights
from eplb.errors import OptionError, PlacementError
from eplb.placement import Placement


class LayerTables(NamedTuple):
    """What replica choice knows of the E experts of one layer, with up to X replicas each: arrays or tensors."""

    replicas: Any
    """Slots of each expert, then -1, int32 [E, X]."""
    counts: Any
    """Replicas of each expert, int32 [E]."""
    shares: Any
    """Cumulative shares of the replicas in units of 2**-40, int64 [E, X]."""
    ranks: Any
    """Rank of each replica, then -1, int64 [E, X]."""
    nodes: Any
    """Node of each rank, int64 [R]; the same in all layers."""


class Tables:
    """The tables of all layers; tensors are made once for a device and keep their memory when the placement changes."""

    __slots__ = ("_arrays", "_layers", "_tensors")

    def __init__(self, placement: Placement, weights: ArrayLike | None, max_replicas: int | None) -> None:
        self._arrays = _arrays_of(placement, weights, max_replicas)
        self._layers = _by_layer(self._arrays)
        self._tensors: dict[Any, tuple[LayerTables, list[LayerTables]]] = {}

    @property
    def max_replicas(self) -> int:
        """X."""
        return int(self._arrays.replicas.shape[2])

    def arrays(self, layer: int) -> LayerTables:
        """Return the tables of a layer as numpy arrays."""
        return self._layers[layer]

    def tensors(self, layer: int, device: Any) -> LayerTables:
        """Return the tables of a layer as tensors on a torch device."""
        if device not in self._tensors:
            import torch

            tensors = LayerTables(*(torch.tensor(array, device=device) for array in self._arrays))
            self._tensors[device] = tensors, _by_layer(tensors)
        return self._tensors[device][1][layer]

    def update(self, placement: Placement, weights: ArrayLike | None) -> None:
        """Write another placement into the same memory, of arrays and tensors."""
        arrays = _arrays_of(placement, weights, self.max_replicas)
        self.check_shape(placement)
        self._write(slice(None), arrays)

    def update_layer(self, layer: int, placement: Placement, weights: ArrayLike | None) -> None:
        """Write one layer of another placement into the same memory; weights [P], if any, are those of the layer."""
        self.check_shape(placement)
        shares = None if weights is None else np.asarray(weights)[None]
        self._write(slice(layer, layer + 1), _arrays_of(one_layer(placement, layer), shares, self.max_replicas))

    def check_shape(self, placement: Placement) -> None:
        """Raise `PlacementError` unless layers, experts and ranks are as many as here."""
        (layers, experts), ranks = self._arrays.counts.shape, self._arrays.nodes.shape[1]
        before = f"{layers} layers, {experts} experts and {ranks} ranks"
        its = (placement.num_layers, placement.num_experts, placement.topology.num_ranks)
        now = "{} layers, {} experts and {} ranks".format(*its)
        if before != now:
            raise PlacementError(f"placement: expected {before}, as before, got {now}; make a new Dispatcher")

    def _write(self, layers: slice, arrays: LayerTables) -> None:
        for mine, its in zip(self._arrays, arrays, strict=True):
            mine[layers] = its
        for tensors, _ in self._tensors.values():
            import torch

            for tensor, array in zip(tensors, arrays, strict=True):
                tensor[layers].copy_(torch.from_numpy(array))


def cumulative_shares(
    placement: Placement, weights: ArrayLike | None = None, max_replicas: int | None = None
) -> NDArray[np.int64]:
    """Return the shares of the replicas of each expert, added up, in units of 2**-40.

    Parameters
    ----------
    placement : Placement
        L layers, E experts, P slots.
    weights : array_like [L, P], optional
        Share of its expert's tokens that each slot gets, as `eplb.split` returns them. Default: all replicas alike.
    max_replicas : int, optional
        X; default: the most replicas of any expert.

    Returns
    -------
    array of int64 [L, E, X]
        In the order of `placement.logical_to_physical`; 2**40 from the last replica on.

    Raises
    ------
    OptionError
        If the weights do not fit the placement, or those of an expert do not sum to 1.

    Examples
    --------
    >>> from eplb import Placement, Topology
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> (cumulative_shares(placement, [[0.75, 1, 1, 0.25]]) / 2**40).tolist()
    [[[0.75, 1.0], [1.0, 1.0], [1.0, 1.0]]]
    """
    return _shares(_replicas(placement, max_replicas), placement.replica_counts, placement, weights)


def one_layer(placement: Placement, layer: int) -> Placement:
    """Return one layer of a placement as a placement."""
    mine = slice(layer, layer + 1)
    slots, counts = placement.physical_to_logical[mine], placement.replica_counts[mine]
    return Placement.from_planner(slots, placement.topology, counts, placement.layer_ids[mine])


def check_width(width: int, max_replicas: int) -> None:
    """Raise `OptionError` unless tables of this width hold so many replicas of an expert."""
    if max_replicas > width:
        raise OptionError(
            f"max_replicas: expected an integer of at least {max_replicas}, the most replicas that an expert will "
            f"have, got {width}; make the tables that wide"
        )


def _arrays_of(placement: Placement, weights: ArrayLike | None, max_replicas: int | None) -> LayerTables:
    replicas = _replicas(placement, max_replicas)
    counts = np.array(placement.replica_counts, dtype=np.int32)
    ranks = np.where(replicas >= 0, placement.topology.rank_of_slot[replicas], -1)
    nodes = np.tile(placement.topology.node_of_rank, (len(replicas), 1))
    return LayerTables(replicas, counts, _shares(replicas, counts, placement, weights), ranks, nodes)


def _replicas(placement: Placement, max_replicas: int | None) -> NDArray[np.int32]:
    if not isinstance(placement, Placement):
        raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
    if placement.replica_counts.min() < 1:
        layer, expert = (int(i) for i in np.argwhere(placement.replica_counts < 1)[0])
        raise PlacementError(f"placement: expert {expert} of layer {layer} has no replica")
    found = placement.logical_to_physical
    width = found.shape[2] if max_replicas is None else max_replicas
    if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < found.shape[2]:
        raise OptionError(
            f"max_replicas: expected an integer of at least {found.shape[2]}, the most replicas that an expert of this "
            f"placement has, got {width!r}"
        )
    return np.pad(found, ((0, 0), (0, 0), (0, int(width) - found.shape[2])), constant_values=-1)


def _shares(
    replicas: NDArray[np.int32], counts: NDArray[np.int32], placement: Placement, weights: ArrayLike | None
) -> NDArray[np.int64]:
    """Return cumulative shares; whatever the rounding, they never fall, and end at exactly one."""
    if weights is None:
        ordinals = np.minimum(np.arange(1, replicas.shape[2] + 1), counts[:, :, None]).astype(np.int64)
        return np.asarray(ordinals * ONE // counts[:, :, None], dtype=np.int64)
    checked = checked_weights(placement, weights)
    if checked.ndim != 2:
        raise OptionError(f"weights: expected one window, [layers, slots], got shape {checked.shape}")
    layers = np.arange(len(replicas))[:, None, None]
    sums = np.where(replicas >= 0, checked[layers, replicas], 0.0).cumsum(axis=2)
    weighted: NDArray[np.int64] = np.rint(sums / sums[:, :, -1:] * ONE).astype(np.int64)
    return weighted


def _by_layer(tables: LayerTables) -> list[LayerTables]:
    return [LayerTables(*parts) for parts in zip(*tables, strict=True)]
