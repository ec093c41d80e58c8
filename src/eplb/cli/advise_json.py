"""An advice as one JSON object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import eplb
from eplb.advising.paragraph import paragraph
from eplb.advising.recommendation import Advice
from eplb.cli.advise_settings import Asked, engine_settings


def advice_as_json(asked: Asked, best: Advice, found: Sequence[Advice]) -> dict[str, Any]:
    """Return the recommendation and what it rests on, as plain JSON values."""
    settings = engine_settings(asked, best)
    trace = asked.source.trace
    return {
        "file": asked.file,
        "trace_model": trace.model,
        "num_windows": trace.num_windows,
        "num_layers": trace.num_layers,
        "num_experts": trace.num_experts,
        "cost": asdict(asked.cost),
        "notes": list(asked.notes),
        "paragraph": paragraph(best, asked.cost),
        **_advice(best),
        "by_ranks": [_advice(advice) for advice in found],
        "engine": asked.engine,
        "engine_settings": None if settings is None else asdict(settings),
        "eplb_version": eplb.__version__,
    }


def _advice(advice: Advice) -> dict[str, Any]:
    return {
        "recommendation": "go" if advice.go else "no-go",
        "choice": advice.choice,
        "setting": advice.chosen.setting.to_dict(),
        "gain": asdict(advice.chosen.gain),
        "step_change": advice.chosen.gain.step_change,
        "tokens_per_second": advice.tokens_per_second,
        "tokens_per_second_per_rank": advice.tokens_per_second_per_rank,
        "options": {
            kind: {**asdict(option), "setting": option.setting.to_dict()} for kind, option in advice.options.items()
        },
        "least_gain": advice.least_gain,
        "dynamic_over_static": asdict(advice.dynamic_over_static),
        "spare_slots_gain": advice.spare_slots_gain,
        "bound": advice.bound,
        "tokens_per_step": advice.tokens_per_step,
        "tokens_per_expert": advice.tokens_per_expert,
        "knee_tokens": advice.knee_tokens if math.isfinite(advice.knee_tokens) else None,
        "held_out_windows": advice.held_out,
        "planning_seconds": advice.planning_seconds,
        "tried": [{**setting.to_dict(), "seconds_per_step": seconds} for setting, seconds in advice.nearby],
    }
