"""Tables that follow a migration, in the same memory: a captured graph that reads them sees the new placement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from eplb.dispatch.tables import check_width, one_layer
from eplb.errors import OptionError, PlacementError
from eplb.migration.commits import Commits
from eplb.placement import Placement


class Table(Protocol):
    """What a migration brings up to date with each commit; `LiveTables` and `eplb.dispatch.Dispatcher` are such."""

    def check_fits(self, placement: Placement, max_replicas: int) -> None:
        """Raise unless placements of this shape fit, with up to `max_replicas` of an expert."""

    def update_layer(self, layer: int, placement: Placement) -> None:
        """Write one layer of a placement into the same memory."""


class LiveTables:
    """The maps of a placement as tensors that keep their memory.

    Parameters
    ----------
    placement : Placement
        In force now: L layers, E experts, P slots.
    max_replicas : int, optional
        Width X of `logical_to_physical`, which never changes. Default: the most replicas of any expert now. While a
        migration is under way an expert may have more than before and after it; a width of 1 + P - E always does.
    device : torch.device or str, default "cpu"
        Where the tensors are.
    dtype : torch.dtype, optional
        Of the tensors. Default: torch.int64, as engines have.

    Raises
    ------
    OptionError
        If an expert has more replicas than `max_replicas`.

    Examples
    --------
    >>> from eplb import Placement, Topology
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> tables = LiveTables(placement, max_replicas=3)
    >>> tables.logical_to_physical.tolist()
    [[[0, 3, -1], [1, -1, -1], [2, -1, -1]]]
    """

    def __init__(
        self, placement: Placement, max_replicas: int | None = None, device: Any = "cpu", dtype: Any = None
    ) -> None:
        import torch

        if not isinstance(placement, Placement):
            raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
        width = int(placement.replica_counts.max()) if max_replicas is None else max_replicas
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < 1:
            raise OptionError(f"max_replicas: expected an integer >= 1, got {width!r}")
        options = {"device": device, "dtype": torch.int64 if dtype is None else dtype}
        counts = placement.replica_counts
        self.physical_to_logical: Any = torch.empty(placement.physical_to_logical.shape, **options)
        """Expert of each slot, [L, P]."""
        self.logical_to_physical: Any = torch.empty((*counts.shape, int(width)), **options)
        """Slots of each expert, then -1, [L, E, X]."""
        self.replica_counts: Any = torch.empty(counts.shape, **options)
        """Replicas of each expert, [L, E]."""
        self.check_fits(placement, int(counts.max()))
        for layer in range(placement.num_layers):
            self.update_layer(layer, placement)

    def check_fits(self, placement: Placement, max_replicas: int) -> None:
        """Raise unless placements of this shape fit, with up to `max_replicas` of an expert.

        Raises
        ------
        PlacementError
            If layers, experts or slots are not as many as here.
        OptionError
            If there is no room for so many replicas.
        """
        (layers, slots), experts = self.physical_to_logical.shape, self.replica_counts.shape[1]
        mine = f"{layers} layers, {experts} experts and {slots} slots"
        its = f"{placement.num_layers} layers, {placement.num_experts} experts and {placement.topology.num_slots} slots"
        if mine != its:
            raise PlacementError(f"tables: expected {mine}, got {its}")
        check_width(self.logical_to_physical.shape[2], max_replicas)

    def update_layer(self, layer: int, placement: Placement) -> None:
        """Write one layer of a placement into the same memory."""
        import torch

        with torch.inference_mode(self.replica_counts.is_inference()):
            alone = one_layer(placement, layer)
            slots = alone.logical_to_physical[0]
            padded = np.full(self.logical_to_physical.shape[1:], -1, dtype=np.int32)
            padded[:, : slots.shape[1]] = slots
            for tensor, array in (
                (self.physical_to_logical, alone.physical_to_logical[0]),
                (self.logical_to_physical, padded),
                (self.replica_counts, alone.replica_counts[0]),
            ):
                tensor[layer].copy_(torch.tensor(array))


def checked_tables(tables: Any, placement: Placement, max_replicas: int) -> list[Table]:
    """Return `tables`, one or several, as a list.

    Raises
    ------
    OptionError, PlacementError
        If one is no table, or has no room.
    """
    listed = list(tables) if isinstance(tables, Sequence) else [tables]
    for table in listed:
        if not hasattr(table, "check_fits") or not hasattr(table, "update_layer"):
            raise OptionError(
                "tables: expected LiveTables, eplb.dispatch.Dispatcher, or objects with the methods check_fits and "
                f"update_layer, got {type(table).__name__}"
            )
        table.check_fits(placement, max_replicas)
    return listed


def most_replicas(commits: Commits, old: Placement) -> int:
    """Return the most replicas that an expert has before, on the way, or after."""
    rows = commits.after
    found = [int(np.bincount(row[row >= 0]).max()) for row in rows]
    return max([int(old.replica_counts.max()), *found])
