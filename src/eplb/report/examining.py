"""`examine`: a trace through policies, with all that a report shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eplb.replay import ContiguousPolicy, EplbPolicy, Policy
from eplb.replay.parts import RecordedTrace, check_trace, part_of
from eplb.report.binning import bins_for
from eplb.report.facts import machine_facts, replay_facts, trace_facts
from eplb.report.findings import BASELINE, Findings
from eplb.report.replaying import Progress, Replays, name_of
from eplb.report.settings import Settings, first_for, interval_for
from eplb.report.single import examine_one_window
from eplb.topology import Topology


def examine(
    trace: RecordedTrace,
    topology: Topology,
    policies: Sequence[Policy],
    settings: Settings | None = None,
    *,
    steps: RecordedTrace | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Return what a report shows of `trace`: every policy replayed and watched, the bound, and the frontier.

    Parameters
    ----------
    trace : LoadTrace, TraceStore, or what hands out parts as they do
        T windows, read a few at a time. A single window is planned and scored on itself, whatever the policies.
    topology : Topology
        The machine.
    policies : sequence of Policy
        What is compared. The experts in order (`ContiguousPolicy`) are added where they are missing: they are the
        "before" of the report.
    settings : Settings, optional
        How; default: `Settings()`.
    steps : LoadTrace or the like, optional
        As in `eplb.replay.replay`.
    progress : callable, optional
        Called with what is replayed, and the windows scored and to score over all replays.

    Raises
    ------
    LoadsError, OptionError, InfeasibleError, PlacementError
        As `eplb.replay.replay`.

    Notes
    -----
    Memory is that of the bins, at most `eplb.report.binning.MAX_CELLS` numbers. The same input gives the same findings,
    times aside.

    Examples
    --------
    >>> from eplb import LoadTrace, Topology
    >>> from eplb.replay import StaticPolicy
    >>> trace = LoadTrace(loads=[[[3, 1, 2, 2]], [[4, 1, 2, 1]], [[3, 1, 2, 2]]])
    >>> found = examine(trace, Topology(num_ranks=2, slots_per_rank=2), [StaticPolicy()])
    >>> [(policy.name, policy.balancedness.tolist()) for policy in found.policies], found.trace.bound.tolist()
    ([('contiguous', [0.8, 1.0]), ('static', [0.8, 1.0])], [1.0, 1.0])
    """
    check_trace(trace)
    settings = Settings() if settings is None else settings
    if trace.num_windows == 1:
        return examine_one_window(part_of(trace, 0, 1), topology, settings)
    policies = _with_baseline(policies)
    settings = _settled(settings, trace, topology)
    planner = next((policy for policy in policies if isinstance(policy, EplbPolicy)), None)
    budgets = [share for share in settings.budgets if share != settings.max_moves_share] if planner else []
    replays = Replays(trace, steps, topology, settings, progress, len(policies) + len(budgets) + 1)
    first = int(settings.first or 1)
    cells_each = len(policies) * trace.num_layers * topology.num_ranks
    bins = bins_for(first, max(1, trace.num_windows - first), cells_each, int(settings.interval or 1))
    found, windows = replays.watch(policies, bins)
    if planner is not None:
        replays.within(planner, budgets)
    uninformed = replays.uninformed()
    about = (
        *trace_facts(trace),
        *machine_facts(topology, trace.num_experts, settings.groups),
        *replay_facts(replays.results[0]),
    )
    return Findings(
        source=settings.source,
        model=str(getattr(trace, "model", "")),
        facts=about,
        layer_ids=np.asarray(getattr(trace, "layer_ids", np.arange(trace.num_layers))),
        num_experts=trace.num_experts,
        num_slots=topology.num_usable_slots * trace.num_layers,
        bins=bins,
        replayed=True,
        policies=tuple(found),
        trace=windows.findings(),
        frontier=tuple(replays.points),
        expert_bytes=settings.expert_bytes,
        notes=tuple(settings.notes),
        uninformed=uninformed,
    )


def _with_baseline(policies: Sequence[Policy]) -> list[Policy]:
    if any(name_of(policy) == BASELINE for policy in policies):
        return list(policies)
    return [ContiguousPolicy(), *policies]


def _settled(settings: Settings, trace: RecordedTrace, topology: Topology) -> Settings:
    """Return `settings` with what was left to the trace."""
    first = first_for(trace.num_windows) if settings.first is None else settings.first
    num_slots = topology.num_usable_slots * trace.num_layers
    interval = interval_for(trace.num_windows - first, num_slots) if settings.interval is None else settings.interval
    return replace(settings, first=first, interval=interval)
