"""What a setting would have done on a trace, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A trial in numbers, none of which depends on a clock: the same bit for bit wherever it was run.

    Balancedness is that of each window of the trace by itself, whatever `Setting.window` is.

    Parameters
    ----------
    first, last : int
        The windows that were scored: `first` to `last` - 1 of the trace.
    balancedness : float
        Mean over these windows.
    worst : float
        That of the window with the lowest.
    p10, median, p90 : float
        Quantiles over the windows.
    fold_least, fold_largest : float
        The lowest and the highest mean over one of four consecutive parts (fewer with fewer windows): how far a time
        differs from another.
    worst_layer : float
        Balancedness over all windows of the layer with the lowest.
    bound : float
        Mean over windows of the balancedness that no plan for that window exceeds.
    activated_experts, largest_activated_experts : float
        As in `eplb.replay.Scores`.
    num_plans, num_replans, num_over_budget : int
        Times that a placement was asked for; those after the first that moved something; those of them that moved more
        than allowed.
    moves, first_moves : int
        Moves of all plans but the first; and of the first, from the experts in order.
    moved_share : float
        Moves a window, as a share of all slots.
    largest_moved_share : float
        Moves of the largest replan, as a share of all slots.
    most_received : int
        The most experts that one rank received in one replan, over all layers.
    costs : dict of str to float
        What the cost model says, by its own names; empty without one.
    """

    first: int
    last: int
    balancedness: float
    worst: float
    p10: float
    median: float
    p90: float
    fold_least: float
    fold_largest: float
    worst_layer: float
    bound: float
    activated_experts: float
    largest_activated_experts: float
    num_plans: int
    num_replans: int
    num_over_budget: int
    moves: int
    first_moves: int
    moved_share: float
    largest_moved_share: float
    most_received: int
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def num_windows(self) -> int:
        """Windows that were scored."""
        return self.last - self.first
