"""How many tokens a forward pass has, and each expert of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eplb.errors import LoadsError
from eplb.replay import RecordedTrace
from eplb.replay.cost import CostModel
from eplb.replay.parts import part_of, spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A forward pass of mean size.

    Parameters
    ----------
    tokens_per_step : float
        Tokens of all ranks.
    tokens_per_expert : float
        Tokens of an activated expert, mean over windows and layers.
    """

    tokens_per_step: float
    tokens_per_expert: float


def batch_of(trace: RecordedTrace, cost: CostModel) -> Batch:
    """Return the mean pass of `trace`; an expert with n expected tokens is idle with probability exp(-n).

    Raises
    ------
    LoadsError
        If no window has any tokens.
    """
    tokens = activated = 0.0
    for start, end in spans(0, trace.num_windows, trace.num_layers * trace.num_experts):
        loads = part_of(trace, start, end).loads * cost.tokens_per_load
        tokens += float(loads.sum())
        counted = cost.tokens_per_load == 1
        activated += float(np.count_nonzero(loads) if counted else -np.expm1(-loads).sum())
    if tokens == 0:
        raise LoadsError("trace: expected tokens, got zeros alone; there is nothing to balance")
    per_layer = tokens / (trace.num_windows * trace.num_layers)
    return Batch(tokens_per_step=per_layer / cost.model.experts_per_token, tokens_per_expert=tokens / activated)
