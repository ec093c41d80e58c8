"""Watching replays: what passes by is added up into bins, and nothing else is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import frozen
from eplb.certificate import ratio
from eplb.placement import Placement
from eplb.planning import plan
from eplb.replay import ScoredWindows
from eplb.report.binning import Bins
from eplb.report.findings import Detail, TraceFindings
from eplb.report.moments import Moments
from eplb.topology import Topology


class PolicyObserver:
    """Adds up what one policy does; memory is that of the bins, whatever the length of the trace.

    Parameters
    ----------
    bins : Bins
        The windows that will be seen.
    num_layers : int
        Layers L.
    topology : Topology
        The ranks.
    """

    def __init__(self, bins: Bins, num_layers: int, topology: Topology) -> None:
        self._bins, self._topology = bins, topology
        self._shown = {window: index for index, window in enumerate(bins.shown())}
        self._over_mean = np.zeros((len(bins), num_layers, topology.num_ranks))
        self._loads, self._means = np.zeros((num_layers, topology.num_ranks)), np.zeros(num_layers)
        self._moves_by_layer = np.zeros((len(bins), num_layers), dtype=np.int64)
        self._moves_by_rank = np.zeros((len(bins), topology.num_ranks), dtype=np.int64)
        self._placement: Placement | None = None
        self._moments = Moments(num_layers)

    def __call__(self, scored: ScoredWindows) -> None:
        """Add windows that were scored."""
        self._count_moves(scored)
        found = scored.evaluation
        for i, (loads, means) in enumerate(zip(found.rank_loads, found.mean_loads, strict=True)):
            self._loads += loads
            self._means += means
            if scored.first + i in self._shown:
                self._over_mean[self._shown[scored.first + i]] = self._relative(loads, means)
        self._moments.add(scored)

    def _count_moves(self, scored: ScoredWindows) -> None:
        before, self._placement = self._placement, scored.placement
        if before is None or before is scored.placement:
            return
        layers, ranks, _ = before.moves_to(scored.placement).T
        index = self._bins.of(scored.first)
        self._moves_by_layer[index] += np.bincount(layers, minlength=self._means.size)
        self._moves_by_rank[index] += np.bincount(ranks, minlength=self._topology.num_ranks)

    def detail(self) -> Detail:
        """Return what was added up, once all windows were seen."""
        assert self._placement is not None  # a replay scores at least one window
        return Detail(
            rank_loads=frozen(self._over_mean),
            rank_loads_overall=frozen(self._relative(self._loads, self._means)),
            moves_by_layer=frozen(self._moves_by_layer),
            moves_by_rank=frozen(self._moves_by_rank),
            replicas=frozen(self._placement.replica_counts.astype(np.int64)),
            waiting=self._moments.waiting,
            worst=self._moments.worst(),
        )

    def _relative(self, loads: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        over = ratio(loads, np.broadcast_to(means[:, None], loads.shape))
        over[:, ~self._topology.alive] = np.nan
        return over


class TraceObserver:
    """Adds up what the windows tell whatever the policy: the bound, the shares of experts, and how much they change.

    Parameters
    ----------
    num_layers, num_experts : int
        Layers L and experts E.
    topology : Topology
        The machine that the bound is for.
    planning : dict
        Options `groups` and `split` of `eplb.plan`; the bound is proven by its quickest plan of each window.
    """

    def __init__(self, num_layers: int, num_experts: int, topology: Topology, **planning: Any) -> None:
        self._topology, self._planning = topology, planning
        self._bounds: list[float] = []
        self._means, self._lower = np.zeros(num_layers), np.zeros(num_layers)
        self._shares = np.zeros((num_layers, num_experts))
        self._change = np.zeros(num_layers)
        self._newest: NDArray[np.float64] | None = None

    def __call__(self, scored: ScoredWindows) -> None:
        """Add windows that were scored, under whatever placement."""
        for loads, means in zip(scored.windows.loads, scored.evaluation.mean_loads, strict=True):
            self._add(loads.astype(np.float64), means)

    def _add(self, loads: NDArray[np.float64], means: NDArray[np.float64]) -> None:
        lower = plan(loads, self._topology, effort="fast", **self._planning).certificate.per_layer.lower_bound
        lower = np.maximum(lower, means)  # the mean is a bound too, and rounding is not to hide it
        self._bounds.append(float(ratio(means.sum(keepdims=True), lower.sum(keepdims=True))[0]))
        self._means += means
        self._lower += lower
        totals = loads.sum(axis=1, keepdims=True)
        shares = np.divide(loads, totals, out=np.full_like(loads, 1 / loads.shape[1]), where=totals > 0)
        self._shares += shares
        if self._newest is not None:
            self._change += np.abs(shares - self._newest).sum(axis=1) / 2
        self._newest = shares

    def findings(self) -> TraceFindings:
        """Return what was added up, once all windows were seen."""
        count = len(self._bounds)
        return TraceFindings(
            bound=frozen(np.array(self._bounds)),
            bound_per_layer=frozen(ratio(self._means, self._lower)),
            shares=frozen(self._shares / count),
            change=frozen(self._change / max(1, count - 1)),
        )
