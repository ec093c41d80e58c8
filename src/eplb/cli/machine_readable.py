"""A summary as one JSON object."""

from __future__ import annotations

from typing import Any

import eplb
from eplb.cli.summary import Summary, balancedness_by_window


def as_json(summary: Summary) -> dict[str, Any]:
    """Return what is known of the plan, as plain JSON values.

    With several windows, loads are those expected in a window (before: with the balance of the recorded windows);
    `windows` tells the balancedness of each window by itself.
    """
    trace, placement = summary.trace, summary.plan.placement
    before, after = balancedness_by_window(placement, trace, summary.split)
    certificate, ungrouped = summary.plan.certificate, summary.ungrouped
    return {
        "model": trace.model,
        "num_windows": trace.num_windows,
        "num_layers": trace.num_layers,
        "num_experts": trace.num_experts,
        "num_slots": placement.topology.num_slots,
        "redundant_experts": placement.topology.num_usable_slots - trace.num_experts,
        "balancedness_before": summary.before.balancedness,
        "largest_load_before": summary.before.largest_load,
        **_quality(certificate),
        "ungrouped": None if ungrouped is None else _quality(ungrouped.certificate),
        "windows": {"balancedness_before": before.tolist(), "balancedness": after.tolist()},
        "per_layer": _per_layer(summary),
        "moves": summary.plan.moves,
        "largest_load_if_nothing_moves": summary.plan.largest_load_before,
        "restored": summary.plan.restored.tolist(),
        "bound_ignores_budget": certificate.ignores_budget,
        "plan_hash": placement.hash,
        "planning_seconds": summary.seconds,
        "eplb_version": eplb.__version__,
    }


def _quality(certificate: eplb.Certificate) -> dict[str, float]:
    return {
        "balancedness": certificate.balancedness,
        "best_balancedness": certificate.best_balancedness,
        "mean_load": certificate.mean_load,
        "largest_load": certificate.largest_load,
        "lower_bound": certificate.lower_bound,
        "gap": certificate.gap,
    }


def _per_layer(summary: Summary) -> dict[str, list[float]]:
    layers, before = summary.plan.certificate.per_layer, summary.before.per_layer
    return {
        "layer_ids": summary.trace.layer_ids.tolist(),
        "balancedness_before": before.balancedness.tolist(),
        "largest_load_before": before.largest_load.tolist(),
        "balancedness": layers.balancedness.tolist(),
        "best_balancedness": layers.best_balancedness.tolist(),
        "mean_load": layers.mean_load.tolist(),
        "largest_load": layers.largest_load.tolist(),
        "lower_bound": layers.lower_bound.tolist(),
        "gap": layers.gap.tolist(),
    }
