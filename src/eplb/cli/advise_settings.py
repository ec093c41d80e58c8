"""What an advice was asked with, and what it means for an engine."""

from __future__ import annotations

from dataclasses import dataclass

from eplb.advising.deciding import DYNAMIC
from eplb.advising.recommendation import Advice
from eplb.cli.replay_source import Source
from eplb.engines.settings import Deployment, EngineSettings, settings_for
from eplb.replay.cost import CostModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an advice was asked with.

    Parameters
    ----------
    file : str
        The trace.
    source : Source
        What it holds.
    cost : CostModel
        Hardware, model, steps.
    engine : str or None
        Whose settings are wanted.
    notes : tuple of str
        What was assumed.
    groups : int
        Expert groups.
    """

    file: str
    source: Source
    cost: CostModel
    engine: str | None
    notes: tuple[str, ...]
    groups: int


def engine_settings(asked: Asked, advice: Advice) -> EngineSettings | None:
    """Return what to set in the engine, or None where none was named or nothing is to be done."""
    if asked.engine is None or not advice.go:
        return None
    setting, steps = advice.chosen.setting, asked.cost.steps_per_window
    plans_every = setting.interval * setting.window if advice.choice == DYNAMIC else advice.num_windows
    return settings_for(
        asked.engine,
        Deployment(
            dynamic=advice.choice == DYNAMIC,
            trace=asked.file,
            num_ranks=setting.num_ranks,
            num_nodes=setting.num_nodes,
            slots_per_rank=setting.slots_per_rank,
            num_experts=asked.source.trace.num_experts,
            groups=setting.groups,
            hidden_layers=asked.cost.model.hidden_layers,
            steps_per_window=steps * setting.window,
            steps_per_plan=steps * plans_every,
            history=setting.history,
            max_moves_share=setting.max_moves_share,
            threshold=setting.threshold,
            effort=setting.effort,
        ),
    )
