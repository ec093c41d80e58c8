"""When each layer waited longest for its slowest rank, and which experts that rank held."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eplb.placement import Placement
from eplb.replay import ScoredWindows
from eplb.report.findings import ExpertOnRank, WorstMoment

MAX_WORST = 10
MAX_EXPERTS = 4


class Moments:
    """The worst window of each layer so far.

    Parameters
    ----------
    num_layers : int
        Layers L.
    """

    def __init__(self, num_layers: int) -> None:
        self.waiting: NDArray[np.float64] = np.zeros(num_layers)
        self._longest = np.full(num_layers, -1.0)
        self._moments: list[_Moment | None] = [None] * num_layers

    def add(self, scored: ScoredWindows) -> None:
        """Add windows that were scored."""
        found = scored.evaluation
        waits = found.largest_loads - found.mean_loads
        for wait in waits:  # one after another: the order of a sum decides its last bit
            self.waiting += wait
        worst = waits.argmax(axis=0)
        for layer in np.flatnonzero(waits.max(axis=0) > self._longest):
            window = int(worst[layer])
            self._longest[layer] = waits[window, layer]
            rank_loads = found.rank_loads[window, layer]
            mean = found.mean_loads[window, layer]
            self._moments[layer] = _Moment(
                scored.first + window,
                int(rank_loads.argmax()),
                float(rank_loads.max() / mean) if mean > 0 else 1.0,
                scored.windows.loads[window, layer].astype(np.float64),
                scored.placement,
            )

    def worst(self) -> tuple[WorstMoment, ...]:
        """Return the worst window of the layers that waited most in all, most first."""
        order = np.argsort(-self.waiting, kind="stable")[:MAX_WORST]
        found = ((int(layer), self._moments[layer]) for layer in order)
        return tuple(moment.told(layer) for layer, moment in found if moment is not None)


class _Moment:
    __slots__ = ("_loads", "_over_mean", "_placement", "_rank", "_window")

    def __init__(
        self, window: int, rank: int, over_mean: float, loads: NDArray[np.float64], placement: Placement
    ) -> None:
        self._window, self._rank, self._over_mean = window, rank, over_mean
        self._loads, self._placement = loads, placement

    def told(self, layer: int) -> WorstMoment:
        """Return it with the heaviest experts of the rank."""
        offsets = self._placement.topology.slot_offsets
        slots = self._placement.physical_to_logical[layer, offsets[self._rank] : offsets[self._rank + 1]]
        held = np.unique(slots[slots >= 0])
        replicas = self._placement.replica_counts[layer, held]
        heaviest = held[np.argsort(-self._loads[held] / replicas, kind="stable")[:MAX_EXPERTS]]
        total = self._loads.sum()
        experts = tuple(
            ExpertOnRank(
                expert=int(expert),
                share=float(self._loads[expert] / total) if total > 0 else 0.0,
                num_replicas=int(self._placement.replica_counts[layer, expert]),
            )
            for expert in heaviest
        )
        return WorstMoment(
            layer=layer, window=self._window, rank=self._rank, over_mean=self._over_mean, experts=experts
        )
