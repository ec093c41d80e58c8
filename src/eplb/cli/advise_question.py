"""What an advice is asked with, as options say it, and the cost model that it comes to for a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eplb.advising.batching import batch_of
from eplb.cli.advise_costs import Figures, calibration_note, model_from, rates_from, scaled, steps_from
from eplb.cli.replay_source import Source
from eplb.errors import OptionError
from eplb.replay.cost import CostModel, Hardware, ModelShape
from eplb.replay.cost.checking import positive

USUAL_RANKS, RANKS_PER_NODE, MOST_MACHINES = (4, 8, 16, 32, 64, 128), 8, 3
NO_FIGURES = Figures(num_layers=None, experts_per_token=None, hidden_size=None, expert_size=None, bytes_per_weight=None)

Machines = Sequence[tuple[int, int]]
"""Pairs of ranks and nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Options of an advice; None where one was not given.

    Parameters
    ----------
    hardware : Hardware
        The GPU.
    model : str or None
        Name of a preset.
    figures : Figures, default none
        Figures in the place of the preset's.
    steps_per_window : int or None
        Forward passes in a window.
    tokens_per_step : float or None
        Tokens of a forward pass, over all ranks.
    other_ms, planner_ms, hidden_migration : float, default 0
        As in `CostModel`, in milliseconds.
    calibration : path or None, default None
        File with measured times.
    """

    hardware: Hardware
    model: str | None
    figures: Figures = NO_FIGURES
    steps_per_window: int | None
    tokens_per_step: float | None
    other_ms: float = 0.0
    planner_ms: float = 0.0
    hidden_migration: float = 0.0
    calibration: Path | None = None

    def answered(self, source: Source, machines: Machines | None) -> tuple[CostModel, Machines, tuple[str, ...]]:
        """Return the cost model for a trace, the machines or those that fit, and what was assumed."""
        shape, notes = model_from(self.model, self.figures, source.trace)
        num_steps, about_steps = steps_from(source, self.steps_per_window)
        notes += about_steps
        if machines is None:
            machines = machines_that_fit(shape, self.hardware)
            notes.append(f"--ranks was not given: {', '.join(str(pair[0]) for pair in machines)} are tried")
        fitted = rates_from(self.calibration, -(-shape.num_experts // machines[0][0]), self.hardware.tile_tokens)
        notes += [] if fitted is None else [calibration_note(fitted)]
        recorded = CostModel(
            hardware=self.hardware,
            model=shape,
            rates=None if fitted is None else fitted.rates,
            steps_per_window=num_steps,
            hidden_migration_share=self.hidden_migration,
            planner_seconds=self.planner_ms / 1e3,
            other_seconds_per_step=self.other_ms / 1e3,
        )
        return self._with_batch(recorded, source), machines, tuple(notes)

    def _with_batch(self, cost: CostModel, source: Source) -> CostModel:
        """Return `cost` for passes of `tokens_per_step` tokens, or of those recorded."""
        if self.tokens_per_step is None:
            return cost
        positive(self.tokens_per_step, "--tokens-per-step")
        return scaled(cost, self.tokens_per_step, batch_of(source.trace, cost).tokens_per_step)


def machines_that_fit(model: ModelShape, hardware: Hardware) -> list[tuple[int, int]]:
    """Return up to three pairs of ranks and nodes of 8 that hold the experts, fewest ranks first.

    Examples
    --------
    >>> from eplb.replay.cost import hardware_named, model_named
    >>> machines_that_fit(model_named("deepseek-v3"), hardware_named("h100"))
    [(16, 2), (32, 4), (64, 8)]
    """
    held = model.bytes_per_expert * model.num_layers
    fit = [
        ranks
        for ranks in USUAL_RANKS
        if ranks <= max(model.num_experts, USUAL_RANKS[0])
        and -(-model.num_experts // ranks) * held <= hardware.memory_bytes
    ]
    if not fit:
        raise OptionError(f"--ranks: {model.name} does not fit {USUAL_RANKS[-1]} of {hardware.name}; say how many")
    return [(ranks, -(-ranks // RANKS_PER_NODE)) for ranks in fit[:MOST_MACHINES]]
