"""Replays as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import eplb
from eplb.cli.replay_source import Source
from eplb.replay import Replay, Scores


def replays_as_json(source: Source, replays: Sequence[Replay], notes: Sequence[str]) -> dict[str, Any]:
    """Return what is known of the trace and of each policy on it, as plain JSON values."""
    trace, any_replay = source.trace, replays[0]
    return {
        "model": trace.model,
        "num_windows": trace.num_windows,
        "num_layers": trace.num_layers,
        "num_experts": trace.num_experts,
        "num_slots": any_replay.num_slots,
        "layer_ids": np.asarray(trace.layer_ids).tolist(),
        "windows_scored": any_replay.balancedness.size,
        "steps_per_window": None if source.steps is None else source.steps.num_windows // trace.num_windows,
        "max_moves": any_replay.max_moves,
        "notes": list(notes),
        "policies": {replay.policy: _policy(replay) for replay in replays},
        "eplb_version": eplb.__version__,
    }


def _policy(replay: Replay) -> dict[str, Any]:
    window, value = replay.worst_window
    return {
        "split": replay.split,
        **_scores(replay.scores),
        "worst_window": {"window": window, "balancedness": value},
        "steps": None if replay.step_scores is None else _scores(replay.step_scores),
        "moves": replay.moves.tolist(),
        "received": replay.received.tolist(),
        "first_moves": replay.first_moves,
        "moves_per_window": replay.moves_per_window,
        "moved_share": replay.moved_share,
        "largest_moved_share": replay.largest_moved_share,
        "most_received": replay.most_received,
        "num_over_budget": replay.num_over_budget,
        "planning_seconds": replay.planning_seconds.tolist(),
        "median_planning_seconds": replay.median_planning_seconds,
        "total_planning_seconds": replay.total_planning_seconds,
        "last_plan_hash": replay.placement.hash,
    }


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        "mean_balancedness": float(scores.balancedness.mean()),
        "balancedness": scores.balancedness.tolist(),
        "balancedness_per_layer": scores.balancedness_per_layer.tolist(),
        "activated_experts": scores.activated_experts,
        "largest_activated_experts": scores.largest_activated_experts,
    }
