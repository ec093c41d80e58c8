"""One window: nothing can be replayed, so it is planned and scored on itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from eplb.arrays import frozen
from eplb.evaluation import evaluate
from eplb.placement import Placement
from eplb.planning import plan
from eplb.replay import ScoredWindows
from eplb.replay.policies import placed_in_order
from eplb.report.binning import Bins
from eplb.report.facts import machine_facts, trace_facts
from eplb.report.findings import BASELINE, Findings, PolicyFindings
from eplb.report.observing import PolicyObserver, TraceObserver
from eplb.report.settings import Settings
from eplb.topology import Topology
from eplb.trace import LoadTrace

PLANNED = "eplb"
NOTE = "The trace has one window: nothing could be replayed, so the plan is scored on the very loads it was made for."
BINS = Bins(first=0, num_windows=1, size=1)


def examine_one_window(trace: LoadTrace, topology: Topology, settings: Settings) -> Findings:
    """Return the experts in order and a plan, both scored on the one window of `trace`."""
    planning: dict[str, Any] = {
        "groups": settings.groups,
        "split": "even" if settings.split == "even" else "weighted",
    }
    windows = TraceObserver(trace.num_layers, trace.num_experts, topology, **planning)
    before = placed_in_order(topology, trace.num_layers, trace.num_experts)
    found: list[PolicyFindings] = []
    for name, placement in ((BASELINE, before), (PLANNED, plan(trace, topology, **planning).placement)):
        scored = _scored(trace, placement, planning["split"])
        if not found:
            windows(scored)
        found.append(_findings(name, scored, topology))
    facts = (*trace_facts(trace), *machine_facts(topology, trace.num_experts, settings.groups))
    return Findings(
        source=settings.source,
        model=trace.model,
        facts=(*facts, ("replicas share tokens", planning["split"])),
        layer_ids=trace.layer_ids,
        num_experts=trace.num_experts,
        num_slots=topology.num_usable_slots * trace.num_layers,
        bins=BINS,
        replayed=False,
        policies=tuple(found),
        trace=windows.findings(),
        frontier=(),
        expert_bytes=settings.expert_bytes,
        notes=(*settings.notes, NOTE),
    )


def _scored(trace: LoadTrace, placement: Placement, split: str) -> ScoredWindows:
    return ScoredWindows(first=0, windows=trace, placement=placement, evaluation=evaluate(placement, trace, split))


def _findings(name: str, scored: ScoredWindows, topology: Topology) -> PolicyFindings:
    observer = PolicyObserver(BINS, scored.placement.num_layers, topology)
    observer(scored)
    return PolicyFindings(
        name=name,
        sees_future=False,
        balancedness=scored.evaluation.balancedness,
        balancedness_per_layer=scored.evaluation.balancedness_per_layer[0],
        step_balancedness=None,
        num_replans=0,
        num_over_budget=0,
        moves_per_window=0.0,
        largest_moves=0,
        moves=frozen(np.zeros(1, dtype=np.int64)),
        planning_seconds=None,
        detail=observer.detail(),
    )
