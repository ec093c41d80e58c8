"""A plan and what it is compared with, as numbers: the plain placement before, and the plan without groups."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import eplb
from eplb.baseline import contiguous_rank_loads
from eplb.certificate import Certificate, PerLayer
from eplb.cli.progress import with_progress
from eplb.errors import LoadsError

LOADS_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summary:
    """What `eplb plan` tells.

    Parameters
    ----------
    trace : LoadTrace
        The loads that were planned.
    plan : Plan
        The plan.
    ungrouped : Plan or None
        With groups, the plan of the same loads without.
    split : {"even", "weighted"}
        How replicas share tokens.
    seconds : float
        Time of planning, without compiling.
    largest_loads_before : array [L]
        Mean over the windows of the largest rank load, with each expert once in order of its id.
    rank_loads_before, rank_loads : arrays [L, R]
        Rank loads on the mean of the windows: each expert once in order of its id, and planned.
    """

    trace: eplb.LoadTrace
    plan: eplb.Plan
    ungrouped: eplb.Plan | None
    split: str
    seconds: float
    largest_loads_before: NDArray[np.float64]
    rank_loads_before: NDArray[np.float64]
    rank_loads: NDArray[np.float64]

    @property
    def before(self) -> Certificate:
        """The certificate of the placement before, on the windows as they are: the bound is the plan's.

        Loads are scaled to the tokens that the plan expects of each layer; else the two would not compare.
        """
        topology, expected = self.plan.placement.topology, self.plan.certificate.per_layer
        tokens = (self.rank_loads_before * topology.speeds).sum(axis=1)
        recorded = tokens / topology.speeds[topology.alive].sum()
        loaded = recorded > 0
        scale = np.divide(expected.mean_load, recorded, out=np.ones_like(recorded), where=loaded)
        return Certificate(
            per_layer=PerLayer(
                mean_load=np.where(loaded, expected.mean_load, recorded),
                largest_load=self.largest_loads_before * scale,
                lower_bound=expected.lower_bound,
            )
        )


def summarize(
    trace: eplb.LoadTrace,
    topology: eplb.Topology,
    groups: int,
    effort: str,
    seed: int,
    split: str = "even",
    **more: Any,
) -> Summary:
    """Plan `trace` for `topology`, with `more` options of `eplb.plan`, and return what it is compared with too."""
    forecast = more.get("forecast", "auto")
    options: dict[str, Any] = {"effort": effort, "seed": seed, "split": split, "forecast": forecast}
    what = f"planning {counted(trace.num_layers, 'layer')}"
    with_progress("loading the planner", lambda: _load_planner(groups, split, trace.num_windows > 1, more))
    start = time.perf_counter()
    plan = with_progress(what, lambda: eplb.plan(trace, topology, groups=groups, **{**options, **more}))
    seconds = time.perf_counter() - start
    ungrouped = None
    if groups > 1:
        ungrouped = with_progress(f"{what} without groups", lambda: eplb.plan(trace, topology, **options))
    mean = trace.loads.sum(axis=0, dtype=np.float64) / trace.num_windows
    return Summary(
        trace=trace,
        plan=plan,
        ungrouped=ungrouped,
        split=split,
        seconds=seconds,
        largest_loads_before=_largest_before(trace, topology),
        rank_loads_before=contiguous_rank_loads(mean, topology),
        rank_loads=eplb.evaluate(plan.placement, mean, split).rank_loads[0],
    )


def _largest_before(trace: eplb.LoadTrace, topology: eplb.Topology) -> NDArray[np.float64]:
    """Return the mean over the windows of the largest rank load without a plan, [L]."""
    total = np.zeros(trace.num_layers)
    with np.errstate(over="ignore"):
        for window in trace.loads:
            total += contiguous_rank_loads(window, topology).max(axis=1)
    return total / trace.num_windows


def _load_planner(groups: int, split: str, several: bool, more: dict[str, Any]) -> None:
    """Compile what will be needed of the planner or load it from disk, so that the time of planning is that alone."""
    topology = eplb.Topology(num_ranks=2, slots_per_rank=1, num_nodes=2)
    options: dict[str, Any] = {"groups": min(groups, 2), "split": split, "effort": "fast"}
    placement = eplb.plan([[1.0, 1.0]], topology, **options).placement
    previous = None if more.get("previous") is None else placement
    if several or previous is not None:
        forecast = more.get("forecast", "auto")
        eplb.plan([[[1.0, 1.0]]] * (2 if several else 1), topology, previous=previous, forecast=forecast, **options)


def balancedness_by_window(
    placement: eplb.Placement, trace: eplb.LoadTrace, split: str = "even"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the balancedness of every window of `trace`, [T] and [T]: each expert once, and under `placement`.

    Raises
    ------
    LoadsError
        If the loads of a window sum to more than float64 holds.
    """
    topology = placement.topology
    step = max(1, LOADS_AT_ONCE // (trace.num_layers * max(trace.num_experts, topology.num_slots)))
    before, after = [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, trace.num_windows, step):
            loads = trace.loads[first : first + step]
            planned = eplb.evaluate(placement, loads, split)
            largest = contiguous_rank_loads(loads, topology).max(axis=2).sum(axis=1)
            after.append(planned.balancedness)
            before.append(
                np.divide(planned.mean_loads.sum(axis=1), largest, out=np.ones(len(loads)), where=largest > 0)
            )
    both = np.concatenate(before), np.concatenate(after)
    if not np.isfinite(both).all():
        raise LoadsError("loads: the sum of a window is beyond the range of float64; scale them down")
    return both


def counted(number: int, noun: str) -> str:
    """Return `number` and `noun`, in the plural where there is not one.

    Examples
    --------
    >>> counted(1, "layer"), counted(1000, "layer")
    ('1 layer', '1,000 layers')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
