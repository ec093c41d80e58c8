"""`Advice`: what to do, what it gains, what it costs, and how much is left."""

from __future__ import annotations

from dataclasses import dataclass

from eplb.advising.deciding import NONE, Gain
from eplb.advising.setting import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing to do, and what it did on held-out windows.

    Parameters
    ----------
    kind : {"none", "static", "dynamic"}
        Leave experts in order; place them once; place them again and again.
    setting : Setting
        As it would be deployed: chosen on all windows. On each held-out part, what had been chosen before it ran.
    seconds_per_step : float
        Mean time of a step, stalls included.
    stall_seconds_per_step : float
        Of that, stalls.
    gain : Gain
        Over leaving experts in order, without spare slots.
    own_gain : Gain
        Over that, or over the same slots filled without knowing any loads, whichever does better: what is gained by
        knowing loads. The decision rests on it.
    balancedness : float
        Mean over windows.
    moved_bytes_per_step : float
        Weights that cross ranks, spread over steps.
    extra_bytes_per_rank : float
        Memory for slots beyond those that hold each expert once.
    """

    kind: str
    setting: Setting
    seconds_per_step: float
    stall_seconds_per_step: float
    gain: Gain
    own_gain: Gain
    balancedness: float
    moved_bytes_per_step: float
    extra_bytes_per_rank: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to do on a number of ranks.

    Parameters
    ----------
    options : dict of str to Option
        "none", "static" and "dynamic".
    choice : str
        Which of them.
    least_gain : float
        What the lower end of the range of a gain must reach.
    dynamic_over_static : Gain
        What replanning gains over the placement that is made once.
    spare_slots_gain : float
        What the slots of the dynamic option gain when they are filled without knowing any loads.
    bound : float
        Balancedness that no placement on the slots of the choice exceeds, mean over held-out windows.
    tokens_per_step : float
        Tokens of all ranks in a forward pass.
    tokens_per_expert : float
        Of these, how many an activated expert gets.
    knee_tokens : float
        Tokens of an expert from which on products take longer than reading its weights.
    num_windows, held_out : int
        Windows of the trace; those of them that were scored without having been chosen on.
    nearby : tuple of (Setting, float)
        Settings that were tried, best first, with seconds of a step over all windows that were scored.
    planning_seconds : float
        Median time of a plan of the dynamic option, here.
    """

    options: dict[str, Option]
    choice: str
    least_gain: float
    dynamic_over_static: Gain
    spare_slots_gain: float
    bound: float
    tokens_per_step: float
    tokens_per_expert: float
    knee_tokens: float
    num_windows: int
    held_out: int
    nearby: tuple[tuple[Setting, float], ...]
    planning_seconds: float

    @property
    def go(self) -> bool:
        """Whether to balance."""
        return self.choice != NONE

    @property
    def chosen(self) -> Option:
        """What to do."""
        return self.options[self.choice]

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second of all ranks, as far as `CostModel` knows what a step takes."""
        return self.tokens_per_step / self.chosen.seconds_per_step

    @property
    def tokens_per_second_per_rank(self) -> float:
        """The same of one rank: what numbers of ranks are compared by."""
        return self.tokens_per_second / self.chosen.setting.num_ranks
