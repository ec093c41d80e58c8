"""Which replica computes a token, while the placement changes layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

import eplb
from eplb.dispatch import Dispatcher

MODES = ("weighted", "local-first", "even")


class Replicas:
    """A `Dispatcher` that a migration keeps up to date, and the loads that its weights are made for.

    Parameters
    ----------
    placement : Placement
        In force now.
    loads : array [L, E]
        What the weighted split is made for.
    mode : {"weighted", "local-first", "even"}
        How a replica is chosen: see docs/dispatch.md.
    rank : int
        The rank whose tokens it chooses for.
    """

    def __init__(self, placement: eplb.Placement, loads: npt.NDArray[Any], mode: str, rank: int) -> None:
        self._mode, self._loads = mode, loads
        # An expert may have more replicas on the way than before or after; it never has more than this.
        most = placement.topology.num_slots - placement.num_experts + 1
        source_rank = None if mode == "even" else rank
        options: dict[str, Any] = {"rank_invariant": False, "source_rank": source_rank, "max_replicas": most}
        self._dispatcher = Dispatcher(placement, self.weights(placement), mode, **options)

    @property
    def split(self) -> str:
        """How the tokens of an expert are shared, as `eplb.plan` is to know."""
        return "even" if self._mode == "even" else "weighted"

    def weights(self, placement: eplb.Placement) -> npt.NDArray[np.float64] | None:
        """Return the share [L, P] of each slot for the loads that are expected; None if all replicas are alike."""
        return None if self._mode == "even" else eplb.split(placement, self._loads)

    def choose(self, ids_nk: Tensor, layer: int, step: int, source_counts: Tensor) -> Tensor:
        """Return the slot [N, K] of each token and expert; `source_counts` [R, E] are the tokens of all ranks."""
        counts = None if self._mode == "even" else source_counts
        return self._dispatcher(ids_nk, layer, step, counts)

    def expect(self, placement: eplb.Placement, loads: npt.NDArray[Any]) -> None:
        """From now on split the tokens for these loads [L, E]."""
        self._loads = loads
        self._dispatcher.update(placement, self.weights(placement))

    def check_fits(self, placement: eplb.Placement, max_replicas: int) -> None:
        """Called by a migration before anything moves: raise unless the tables have room."""
        self._dispatcher.check_fits(placement, max_replicas)

    def update_layer(self, layer: int, placement: eplb.Placement) -> None:
        """Called by a migration at each commit: tokens of the next forward go where their experts are now."""
        weights = self.weights(placement)
        self._dispatcher.update_layer(layer, placement, None if weights is None else weights[layer])
