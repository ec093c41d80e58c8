"""What was replayed, on which machine and how: the first lines of a report."""

from __future__ import annotations

from typing import Any

from eplb.replay import Replay
from eplb.topology import Topology

Facts = tuple[tuple[str, str], ...]


def trace_facts(trace: Any) -> Facts:
    """Return what the loads are."""
    rows = [(noun, str(getattr(trace, noun, ""))) for noun in ("model", "window")]
    sizes = [("windows", trace.num_windows), ("layers", trace.num_layers), ("experts a layer", trace.num_experts)]
    return (*((name, text) for name, text in rows if text), *((name, f"{size:,}") for name, size in sizes))


def machine_facts(topology: Topology, num_experts: int, groups: int) -> Facts:
    """Return what the machine is.

    Examples
    --------
    >>> machine_facts(Topology(num_ranks=4, slots_per_rank=[3, 3, 2, 2], failed_ranks=[3]), 6, 1)
    (('ranks', '4 (1 failed)'), ('slots a rank', '2 to 3'), ('nodes', '1'), ('redundant experts a layer', '2'))
    """
    slots = topology.slot_counts
    failed = f" ({len(topology.failed_ranks)} failed)" if topology.failed_ranks else ""
    return (
        ("ranks", f"{topology.num_ranks:,}{failed}"),
        ("slots a rank", f"{slots[0]}" if (slots == slots[0]).all() else f"{slots.min()} to {slots.max()}"),
        ("nodes", f"{topology.node_count}"),
        ("redundant experts a layer", f"{topology.num_usable_slots - num_experts:,}"),
        *((("expert groups", f"{groups}, each on one node"),) if groups > 1 else ()),
    )


def replay_facts(result: Replay) -> Facts:
    """Return how a trace was replayed."""
    last = result.first + result.balancedness.size - 1
    budget = "any number" if result.max_moves is None else f"at most {result.max_moves:,} of {result.num_slots:,} slots"
    if result.max_moves_per_rank is not None:
        budget += f", {result.max_moves_per_rank:,} to a rank"
    return (
        ("windows scored", f"{result.first:,} to {last:,}"),
        ("a plan every", "window" if result.interval == 1 else f"{result.interval:,} windows"),
        ("a plan sees", f"the last {result.history:,} windows"),
        ("a replan moves", budget),
        ("replicas share tokens", result.split),
    )
