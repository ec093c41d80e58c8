"""A summary as tables and a picture for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import eplb
from eplb.cli.console import one_line
from eplb.cli.picture import picture
from eplb.cli.summary import Summary, balancedness_by_window, counted

MAX_WORST_LAYERS = 3
INDENT = 2


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of names and what there is to say of each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, Text(one_line(text)))
    return table


def loads_facts(trace: eplb.LoadTrace, name: str) -> list[tuple[str, str]]:
    """Return what the loads are."""
    shape = f"{counted(trace.num_layers, 'layer')} x {counted(trace.num_experts, 'expert')}"
    if trace.num_windows > 1:
        shape = f"{counted(trace.num_windows, 'window')} x {shape}, planned for the window after them"
    rows = [("loads", name), ("", shape)]
    return [*rows, ("model", trace.model)] if trace.model else rows


def machine_facts(topology: eplb.Topology, num_experts: int, groups: int) -> tuple[str, str]:
    """Return what the machine is."""
    slots = topology.slot_counts
    each = f"{slots[0]}" if (slots == slots[0]).all() else f"{slots.min()} to {slots.max()}"
    text = f"{counted(topology.num_ranks, 'rank')} x {each} slots on {counted(topology.node_count, 'node')}"
    if topology.failed_ranks:
        text += f", {len(topology.failed_ranks)} failed"
    if groups > 1:
        text += f", {groups} expert groups, each on one node"
    spare = topology.num_usable_slots - num_experts
    return "machine", f"{text}; {counted(spare, 'redundant expert')} a layer"


def split_facts(split: str) -> list[tuple[str, str]]:
    """Return how replicas share tokens, unless they do as engines do by default."""
    return [] if split == "even" else [("split", f"{split}: the best shares for each window")]


def balance_table(summary: Summary, unseen: eplb.LoadTrace | None = None) -> Table:
    """Return the balancedness before and after, and what no placement exceeds."""
    trace, certificate = summary.trace, summary.plan.certificate
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("balancedness (1 is perfect)", no_wrap=True)
    for name in ("before", "after", "at best"):
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, before: float, after: float, best: float | None = None) -> None:
        table.add_row(name, f"{before:.4f}", f"{after:.4f}", "" if best is None else f"{best:.4f}")

    mean_name = "planned loads" if trace.num_windows == 1 else "expected in a window"
    add(mean_name, summary.before.balancedness, certificate.balancedness, certificate.best_balancedness)
    if summary.ungrouped is not None:
        plain = summary.ungrouped.certificate
        add("the same without groups", summary.before.balancedness, plain.balancedness, plain.best_balancedness)
    if trace.num_windows > 1:
        _add_windows(add, summary, trace, "window by window")
    if unseen is not None:
        _add_windows(add, summary, unseen, f"{unseen.num_windows} later windows, unseen")
    return table


def _add_windows(add: Callable[..., None], summary: Summary, trace: eplb.LoadTrace, name: str) -> None:
    before, after = balancedness_by_window(summary.plan.placement, trace, summary.split)
    add(f"{name}, on average", float(before.mean()), float(after.mean()))
    add(f"{name}, the worst", float(before.min()), float(after.min()))


def bound_fact(summary: Summary) -> tuple[str, str]:
    """Return the largest rank load, the bound and the gap."""
    before, after = summary.before, summary.plan.certificate
    change = after.largest_load / before.largest_load - 1 if before.largest_load > 0 else 0.0
    over = "" if summary.trace.num_layers == 1 else f", summed over {summary.trace.num_layers} layers"
    return "largest rank load", (
        f"{before.largest_load:,.6g} -> {after.largest_load:,.6g} ({change:+.1%}){over}; "
        f"lower bound {after.lower_bound:,.6g}, gap {after.gap:.2%}"
    )


def moves_facts(summary: Summary) -> list[tuple[str, str]]:
    """Return what moves from the placement in force and what that gains; nothing without one."""
    plan = summary.plan
    if plan.largest_load_before is None:
        return []
    after = plan.certificate.largest_load
    change = after / plan.largest_load_before - 1 if plan.largest_load_before > 0 else 0.0
    gain = f"expected largest rank load {plan.largest_load_before:,.6g} -> {after:,.6g} ({change:+.1%})"
    rows = [("moves", f"{plan.moves:,} of {counted(plan.placement.physical_to_logical.size, 'slot')}; {gain}")]
    if len(plan.restored):
        rows.append(("restored", f"{counted(len(plan.restored), 'expert')} that had lost all replicas"))
    if plan.certificate.ignores_budget:
        rows.append(("", "the lower bound is that of any number of moves"))
    return rows


def worst_layers_fact(summary: Summary) -> tuple[str, str]:
    """Return the layers with the lowest balancedness."""
    layers = summary.plan.certificate.per_layer
    worst = np.argsort(layers.balancedness, kind="stable")[:MAX_WORST_LAYERS]
    texts = (
        f"layer {summary.trace.layer_ids[i]}: {layers.balancedness[i]:.4f} (gap {layers.gap[i]:.2%})" for i in worst
    )
    return "least balanced", ", ".join(texts)


def print_picture(console: Console, summary: Summary) -> None:
    """Draw the layer whose busiest rank lost the most before, because layers run one after another."""
    before = summary.before.per_layer
    layer = int(np.argmax(before.largest_load - before.mean_load))
    console.print(Text(f"rank loads of layer {summary.trace.layer_ids[layer]}, the one with the most to gain"))
    lines = picture(
        summary.rank_loads_before[layer],
        summary.rank_loads[layer],
        width=max(8, console.width - INDENT),
        ascii_only=console.options.ascii_only,
    )
    for line in lines:
        console.print(Text(" " * INDENT + line), no_wrap=True, crop=True)
