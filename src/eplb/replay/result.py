"""What a policy would have done, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eplb.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Balance of T' windows, or of as many single steps, each under the placement in force.

    Parameters
    ----------
    balancedness : array [T']
        Sum over layers of mean, over sum over layers of largest rank load, of each window.
    balancedness_per_layer : array [L]
        Sum over windows of mean, over sum over windows of largest rank load, of each layer.
    activated_experts : float
        Slots of a rank whose expert got any token: mean over windows, layers and working ranks.
    largest_activated_experts : float
        The same of the rank with most, summed over layers: mean over windows.
    """

    balancedness: NDArray[np.float64]
    balancedness_per_layer: NDArray[np.float64]
    activated_experts: float
    largest_activated_experts: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """A policy on the windows of a trace that it had not seen.

    Parameters
    ----------
    policy : str
        Its name.
    sees_future : bool
        Whether it was shown the windows that it was scored on: a ceiling.
    split : {"even", "weighted", "weighted-lagged"}
        How replicas shared the tokens that were scored.
    first, interval, history : int
        First window that was scored; windows from one plan to the next; most windows a plan was shown.
    max_moves, max_moves_per_rank : int or None
        Moves that a replan was allowed, over all layers, and to each rank; None: as many as it liked.
    num_slots : int
        Slots of the working ranks, over all layers: what shares of moves are of.
    scores : Scores
        Balance of the windows.
    step_scores : Scores or None
        Balance of the single steps in them, where they are known.
    moves, received : arrays [replans]
        Moves of each plan but the first, and the most that one rank received in it.
    first_moves : int
        Moves of the first plan, which is free, from the experts in order (`ContiguousPolicy`).
    planning_seconds : array [replans + 1]
        Time of each plan.
    placement : Placement
        The last one.
    """

    policy: str
    sees_future: bool
    split: str
    first: int
    interval: int
    history: int
    max_moves: int | None
    max_moves_per_rank: int | None
    num_slots: int
    scores: Scores
    step_scores: Scores | None
    moves: NDArray[np.int64]
    received: NDArray[np.int64]
    first_moves: int
    planning_seconds: NDArray[np.float64]
    placement: Placement

    @property
    def balancedness(self) -> NDArray[np.float64]:
        """Balancedness of each scored window, [T']."""
        return self.scores.balancedness

    @property
    def balancedness_per_layer(self) -> NDArray[np.float64]:
        """Balancedness of each layer over all scored windows, [L]."""
        return self.scores.balancedness_per_layer

    @property
    def step_balancedness(self) -> NDArray[np.float64] | None:
        """Balancedness of each step in the scored windows, or None where steps are not known."""
        return None if self.step_scores is None else self.step_scores.balancedness

    @property
    def activated_experts(self) -> float:
        """Slots of a rank whose expert got any token, in a window: mean over windows, layers and working ranks."""
        return self.scores.activated_experts

    @property
    def largest_activated_experts(self) -> float:
        """The same of the rank with most, summed over layers: mean over windows."""
        return self.scores.largest_activated_experts

    @property
    def mean_balancedness(self) -> float:
        """Mean over the scored windows."""
        return float(self.balancedness.mean())

    @property
    def worst_window(self) -> tuple[int, float]:
        """Number in the trace, and balancedness, of the window with the lowest."""
        worst = int(np.argmin(self.balancedness))
        return self.first + worst, float(self.balancedness[worst])

    @property
    def moves_per_window(self) -> float:
        """Moves of all replans over the scored windows."""
        return float(self.moves.sum()) / self.balancedness.size

    @property
    def moved_share(self) -> float:
        """`moves_per_window` as a share of all slots."""
        return self.moves_per_window / self.num_slots

    @property
    def largest_moved_share(self) -> float:
        """Moves of the largest replan as a share of all slots."""
        return int(self.moves.max(initial=0)) / self.num_slots

    @property
    def most_received(self) -> int:
        """The most experts that one rank received in one replan, over all layers."""
        return int(self.received.max(initial=0))

    @property
    def num_over_budget(self) -> int:
        """Replans that moved more than they were allowed."""
        over = np.zeros(self.moves.size, dtype=np.bool_)
        if self.max_moves is not None:
            over |= self.moves > self.max_moves
        if self.max_moves_per_rank is not None:
            over |= self.received > self.max_moves_per_rank
        return int(over.sum())

    @property
    def median_planning_seconds(self) -> float:
        """Median time of a plan."""
        return float(np.median(self.planning_seconds))

    @property
    def total_planning_seconds(self) -> float:
        """Time of all plans."""
        return float(self.planning_seconds.sum())
