"""Which expert each slot holds, on which machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of, frozen, integers
from eplb.errors import FileFormatError, InputError, PlacementError, TopologyError
from eplb.files import parse_json, read_json, read_npz, write_atomically
from eplb.topology import Topology

FORMAT = "eplb.placement"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """The logical expert that each slot of each layer holds.

    Parameters
    ----------
    physical_to_logical : array_like of int, [L, P]
        Expert id of each slot; -1 exactly on the slots of failed ranks.
    topology : Topology
        The ranks that the P slots belong to.
    num_experts : int, optional
        Logical experts E; default: the largest id plus 1.
    layer_ids : sequence of L ints, optional
        The model's own number of each layer; default 0 .. L-1.

    Raises
    ------
    PlacementError
        If the shape does not fit the topology, an id is out of range, or an expert of a layer has no replica.

    Examples
    --------
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> placement.replica_counts.tolist(), placement.logical_to_physical.tolist()
    ([[2, 1, 1]], [[[0, 3], [1, -1], [2, -1]]])
    """

    physical_to_logical: NDArray[np.int32]
    topology: Topology
    num_experts: int = -1
    layer_ids: NDArray[np.int64] = field(default=cast("NDArray[np.int64]", None))
    _counts: NDArray[np.int32] | None = field(default=None, init=False, repr=False)
    _logical_to_physical: NDArray[np.int32] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.topology, Topology):
            raise PlacementError(f"topology: expected an eplb.Topology, got {type(self.topology).__name__}")
        slots = _slot_array(self.physical_to_logical, self.topology)
        num_experts = self.num_experts if self.num_experts != -1 else int(slots.max()) + 1
        if isinstance(num_experts, bool) or not isinstance(num_experts, (int, np.integer)) or num_experts < 1:
            raise PlacementError(f"num_experts: expected an integer >= 1, got {num_experts!r}")
        if num_experts > slots.shape[1]:
            raise PlacementError(f"num_experts: {num_experts} experts cannot all stand in {slots.shape[1]} slots")
        _check_ids(slots, self.topology, int(num_experts))
        counts = _count(slots, int(num_experts))
        if counts.min() < 1:
            layer, expert = (int(i) for i in np.argwhere(counts == 0)[0])
            raise PlacementError(f"physical_to_logical: expert {expert} of layer {layer} has no replica")
        self._fill(slots, self.topology, int(num_experts), self.layer_ids, counts)

    def _fill(
        self,
        slots: NDArray[np.int32],
        topology: Topology,
        num_experts: int,
        layer_ids: ArrayLike | None,
        counts: NDArray[np.int32],
    ) -> None:
        for name, value in (
            ("physical_to_logical", frozen(slots)),
            ("topology", topology),
            ("num_experts", num_experts),
            ("layer_ids", checked_layer_ids(layer_ids, len(slots), PlacementError)),
            ("_counts", frozen(counts)),
            ("_logical_to_physical", None),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def from_planner(
        cls,
        slots: NDArray[np.int32],
        topology: Topology,
        counts: NDArray[np.int32],
        layer_ids: ArrayLike | None = None,
    ) -> Placement:
        """Wrap arrays [L, P] and [L, E] that a planner made and that are sound by construction, without a check."""
        placement = object.__new__(cls)
        placement._fill(slots, topology, counts.shape[1], layer_ids, counts)
        return placement

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placement) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __reduce__(self) -> tuple[Any, ...]:
        return Placement.from_planner, (self.physical_to_logical, self.topology, self.replica_counts, self.layer_ids)

    @property
    def num_layers(self) -> int:
        """Layers L."""
        return len(self.physical_to_logical)

    @property
    def replica_counts(self) -> NDArray[np.int32]:
        """Replicas of each expert, [L, E]."""
        return cast("NDArray[np.int32]", self._counts)

    @property
    def logical_to_physical(self) -> NDArray[np.int32]:
        """Slots of each expert in ascending order, [L, E, X], padded with -1; built on first access."""
        if self._logical_to_physical is None:
            object.__setattr__(self, "_logical_to_physical", frozen(self._invert()))
        return cast("NDArray[np.int32]", self._logical_to_physical)

    def _invert(self) -> NDArray[np.int32]:
        slots, counts = self.physical_to_logical, self.replica_counts
        out = np.full((*counts.shape, int(counts.max())), -1, dtype=np.int32)
        for layer in range(self.num_layers):
            order = np.argsort(slots[layer], kind="stable").astype(np.int32)
            order = order[slots.shape[1] - int(counts[layer].sum()) :]
            first = np.cumsum(counts[layer]) - counts[layer]
            experts = slots[layer, order]
            out[layer, experts, np.arange(order.size) - first[experts]] = order
        return out

    @property
    def hash(self) -> str:
        """SHA-256 of the slots and the topology: equal for equal placements, on every machine."""
        topology = self.topology
        digest = hashlib.sha256()
        digest.update(f"{FORMAT} {VERSION} {self.physical_to_logical.shape} {self.num_experts}".encode())
        for array, dtype in (
            (self.physical_to_logical, "<i4"),
            (topology.slot_counts, "<i8"),
            (topology.node_of_rank, "<i8"),
            (topology.speeds, "<f8"),
            (topology.alive, "<u1"),
            (self.layer_ids, "<i8"),
        ):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        return digest.hexdigest()

    def moves_to(self, other: Placement) -> NDArray[np.int64]:
        """Return the moves [M, 3] (layer, rank, expert) that `other` needs: there after it and not before.

        Raises
        ------
        PlacementError
            If `other` has another number of layers or of experts.
        """
        if not isinstance(other, Placement):
            raise PlacementError(f"other: expected an eplb.Placement, got {type(other).__name__}")
        if (self.num_layers, self.num_experts) != (other.num_layers, other.num_experts):
            raise PlacementError(
                f"other: expected {self.num_layers} layers x {self.num_experts} experts, "
                f"got {other.num_layers} x {other.num_experts}"
            )
        num_ranks = max(self.topology.num_ranks, other.topology.num_ranks)
        keys = np.setdiff1d(other._held(num_ranks), self._held(num_ranks))
        layer, rest = np.divmod(keys, num_ranks * self.num_experts)
        return np.stack([layer, *np.divmod(rest, self.num_experts)], axis=1)

    def _held(self, num_ranks: int) -> NDArray[np.int64]:
        slots = self.physical_to_logical.astype(np.int64)
        layer, slot = np.nonzero(slots >= 0)
        rank = self.topology.rank_of_slot[slot]
        return cast("NDArray[np.int64]", np.unique((layer * num_ranks + rank) * self.num_experts + slots[layer, slot]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the placement to `path`, as `.json` or `.npz` by its ending; whole or not at all."""
        suffix = Path(path).suffix.lower()
        if suffix not in (".json", ".npz"):
            raise FileFormatError(f"{path}: expected a name that ends in .json or .npz")
        header = {
            "format": FORMAT,
            "version": VERSION,
            "num_experts": self.num_experts,
            "topology": self.topology.to_dict(),
            "hash": self.hash,
        }

        def write(stream: IO[bytes]) -> None:
            if suffix == ".npz":
                np.savez_compressed(
                    stream,
                    header=np.array(json.dumps(header)),
                    layer_ids=self.layer_ids,
                    physical_to_logical=self.physical_to_logical,
                )
                return
            body = {"layer_ids": self.layer_ids.tolist(), "physical_to_logical": self.physical_to_logical.tolist()}
            with io.TextIOWrapper(stream, encoding="utf-8", write_through=True) as text:
                json.dump({**header, **body}, text)
                text.write("\n")

        write_atomically(path, write)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Placement:
        """Read what `save` wrote.

        Raises
        ------
        FileFormatError
            If the file is truncated, not a placement, or its hash does not match its content.
        PlacementError
            If the placement in it is not sound.
        """
        if Path(path).suffix.lower() == ".npz":
            arrays = read_npz(path, ("header", "layer_ids", "physical_to_logical"))
            try:
                header = parse_json(str(arrays.pop("header")[()]))
            except (KeyError, ValueError, RecursionError):
                raise FileFormatError(f"{path}: not a placement: no header of format {FORMAT!r}") from None
            if isinstance(header, dict):
                header.update(arrays)
        else:
            header = read_json(path)
        return _from_header(header, path)


def _from_header(header: Any, path: str | os.PathLike[str]) -> Placement:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileFormatError(f"{path}: not a placement: expected format {FORMAT!r}")
    if header.get("version") != VERSION:
        raise FileFormatError(
            f"{path}: placement version {header.get('version')!r}, this eplb reads {VERSION}; update eplb"
        )
    missing = {"topology", "num_experts", "physical_to_logical"} - header.keys()
    if missing or not isinstance(header["topology"], dict):
        raise FileFormatError(f"{path}: lacks {', '.join(sorted(missing)) or 'a topology'} (truncated?)")
    try:
        placement = Placement(
            physical_to_logical=header["physical_to_logical"],
            topology=Topology(**header["topology"]),
            num_experts=header["num_experts"],
            layer_ids=cast("NDArray[np.int64]", header.get("layer_ids")),
        )
    except TypeError as exc:
        raise TopologyError(f"{path}: topology: {exc}") from None
    except InputError as exc:
        raise type(exc)(f"{path}: {exc}") from None
    if header.get("hash") not in (None, placement.hash):
        raise FileFormatError(f"{path}: the content does not match its hash; the file was damaged or edited")
    return placement


def checked_layer_ids(layer_ids: ArrayLike | None, num_layers: int, error: type[InputError]) -> NDArray[np.int64]:
    """Return `layer_ids` as a read-only array [L] of distinct ids >= 0; None gives 0 .. L-1."""
    if layer_ids is None:
        return frozen(np.arange(num_layers))
    ids = integers(layer_ids, "layer_ids", error)
    if ids.size != num_layers:
        raise error(f"layer_ids: expected one id a layer ({num_layers}), got {ids.size}")
    bad = np.ones(num_layers, dtype=np.bool_)
    bad[np.unique(ids, return_index=True)[1]] = False
    bad |= ids < 0
    if bad.any():
        index = int(np.argmax(bad))
        raise error(f"layer_ids: expected distinct ids >= 0, got {ids[index]} at index {index}")
    return frozen(ids)


def _slot_array(values: ArrayLike | Sequence[Any], topology: Topology) -> NDArray[np.int32]:
    array = array_of(values, "physical_to_logical: expected a rectangular array [layers, slots]", PlacementError)
    if array.dtype.kind not in "iu":
        raise PlacementError(f"physical_to_logical: expected integers, got dtype {array.dtype}")
    if array.ndim != 2 or len(array) == 0 or array.shape[1] != topology.num_slots:
        raise PlacementError(
            f"physical_to_logical: expected [layers, {topology.num_slots} slots] for {topology.num_ranks} ranks, "
            f"got shape {array.shape}"
        )
    if int(array.max()) > 2**31 - 1 or int(array.min()) < -1:
        layer, slot = (int(i) for i in np.argwhere((array < -1) | (array > 2**31 - 1))[0])
        raise PlacementError(
            f"physical_to_logical: expected ids of -1 to 2**31 - 1, got {array[layer, slot]} at layer {layer}, "
            f"slot {slot}"
        )
    return np.array(array, dtype=np.int32, order="C")


def _check_ids(slots: NDArray[np.int32], topology: Topology, num_experts: int) -> None:
    usable = topology.alive[topology.rank_of_slot]
    bad = (slots >= num_experts) | ((slots >= 0) != usable)
    if bad.any():
        layer, slot = (int(i) for i in np.argwhere(bad)[0])
        wanted = f"an id of 0 to {num_experts - 1}" if usable[slot] else "-1 (its rank failed)"
        raise PlacementError(
            f"physical_to_logical: expected {wanted}, got {slots[layer, slot]} at layer {layer}, slot {slot}"
        )


def _count(slots: NDArray[np.int32], num_experts: int) -> NDArray[np.int32]:
    layers = np.arange(len(slots), dtype=np.int64)[:, None]
    keys = (layers * num_experts + slots)[slots >= 0]
    counts = np.bincount(keys, minlength=len(slots) * num_experts)
    return counts.reshape(len(slots), num_experts).astype(np.int32)
