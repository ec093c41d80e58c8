"""What a report shows: plain values, whether they come from a trace or from saved replays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eplb.report.binning import Bins

BASELINE = "contiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertOnRank:
    """An expert of the rank that a layer waits for.

    Parameters
    ----------
    expert : int
        Its number.
    share : float
        Its share of the tokens of the layer.
    num_replicas : int
        Slots that hold it.
    """

    expert: int
    share: float
    num_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstMoment:
    """The window in which a layer waited longest for its slowest rank.

    Parameters
    ----------
    layer : int
        Index of the layer.
    window, rank : int
        When, and for which rank.
    over_mean : float
        Load of that rank over the mean rank load of the layer.
    experts : tuple of ExpertOnRank
        The heaviest experts there, by tokens that a replica gets when shares are even.
    """

    layer: int
    window: int
    rank: int
    over_mean: float
    experts: tuple[ExpertOnRank, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detail:
    """What only a replay that was watched tells of a policy; B bins, L layers, R ranks, E experts.

    Parameters
    ----------
    rank_loads : array [B, L, R]
        Rank load over the mean rank load of the layer in the middle window of each bin; NaN on failed ranks.
    rank_loads_overall : array [L, R]
        The same of the sum of all windows, which is better balanced than they are.
    moves_by_layer, moves_by_rank : arrays [B, L], [B, R]
        Moves of the replans in a bin; the first plan is left out.
    replicas : array [L, E]
        Slots of each expert in the last placement.
    waiting : array [L]
        Largest less mean rank load of each layer, summed over the windows: tokens that the other ranks wait for.
    worst : tuple of WorstMoment
        Of the layers with most waiting, in that order.
    """

    rank_loads: NDArray[np.float64]
    rank_loads_overall: NDArray[np.float64]
    moves_by_layer: NDArray[np.int64]
    moves_by_rank: NDArray[np.int64]
    replicas: NDArray[np.int64]
    waiting: NDArray[np.float64]
    worst: tuple[WorstMoment, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyFindings:
    """A policy on T' windows.

    Parameters
    ----------
    name : str
        What it is called.
    sees_future : bool
        Whether it was shown what it was scored on: a ceiling.
    balancedness, balancedness_per_layer : arrays [T'], [L]
        As in `eplb.replay.Scores`.
    step_balancedness : float or None
        Mean over single steps, where they are known.
    num_replans, num_over_budget : int
        Plans but the first, and those that moved more than they were allowed.
    moves_per_window : float
        Moves in a window, on average.
    largest_moves : int
        Moves of the largest replan.
    moves : array [B]
        Moves of the replans in each bin of windows.
    planning_seconds : float or None
        Median time of a plan, where it was measured.
    detail : Detail or None
        None where only results were saved.
    """

    name: str
    sees_future: bool
    balancedness: NDArray[np.float64]
    balancedness_per_layer: NDArray[np.float64]
    step_balancedness: float | None
    num_replans: int
    num_over_budget: int
    moves_per_window: float
    largest_moves: int
    moves: NDArray[np.int64]
    planning_seconds: float | None
    detail: Detail | None

    @property
    def mean_balancedness(self) -> float:
        """Mean over the windows."""
        return float(self.balancedness.mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceFindings:
    """What the windows themselves tell, whatever the policy.

    Parameters
    ----------
    bound, bound_per_layer : arrays [T'], [L]
        The balancedness that no plan exceeds.
    shares : array [L, E]
        Share of each expert in the tokens of its layer, over all windows that were scored.
    change : array [L]
        Share of the tokens that go to other experts than in the window before: mean total variation.
    """

    bound: NDArray[np.float64]
    bound_per_layer: NDArray[np.float64]
    shares: NDArray[np.float64]
    change: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a policy reaches within a budget of moves.

    Parameters
    ----------
    policy : str
        Its name.
    moves_per_window, balancedness : float
        Means over the windows.
    budget : float or None
        Share of the slots that a replan may move; None where the policy knows no budget.
    sees_future : bool
        Whether it is a ceiling, no policy that can run.
    """

    policy: str
    moves_per_window: float
    balancedness: float
    budget: float | None
    sees_future: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """Everything that a report shows but the recommendation.

    Parameters
    ----------
    source : str
        Where it comes from, such as the name of a file.
    model : str
        Name of the model; may be empty.
    facts : tuple of (name, text)
        What was replayed, how, and on which machine.
    layer_ids : array [L]
        The model's own number of each layer.
    num_experts, num_slots : int
        Experts of a layer, and slots of working ranks over all layers.
    bins : Bins
        The windows that were scored.
    replayed : bool
        False where one window was planned and scored on itself.
    policies : tuple of PolicyFindings
        At least one.
    trace : TraceFindings or None
        None where only results were saved.
    frontier : tuple of Point
        Balance against moves.
    expert_bytes : int or None
        Bytes of the weights of one expert, where known.
    notes : tuple of str
        What a reader must know besides.
    uninformed : array [T'] or None
        Balancedness of each window when the slots are filled without knowing any loads; None where that is not known.
    """

    source: str
    model: str
    facts: tuple[tuple[str, str], ...]
    layer_ids: NDArray[np.int64]
    num_experts: int
    num_slots: int
    bins: Bins
    replayed: bool
    policies: tuple[PolicyFindings, ...]
    trace: TraceFindings | None
    frontier: tuple[Point, ...]
    expert_bytes: int | None
    notes: tuple[str, ...]
    uninformed: NDArray[np.float64] | None = None

    def named(self, name: str) -> PolicyFindings | None:
        """Return the policy of this name, or None."""
        return next((policy for policy in self.policies if policy.name == name), None)

    @property
    def runnable(self) -> tuple[PolicyFindings, ...]:
        """The policies that could run: those that do not see the future, or all if there are no others."""
        return tuple(policy for policy in self.policies if not policy.sees_future) or self.policies

    @property
    def best(self) -> PolicyFindings:
        """The best policy that could run, of those within the budget if there are any; the first of equals."""
        within = [policy for policy in self.runnable if not policy.num_over_budget]
        return max(within or self.runnable, key=lambda policy: policy.mean_balancedness)

    @property
    def oracle(self) -> PolicyFindings | None:
        """The first policy that sees the future."""
        return next((policy for policy in self.policies if policy.sees_future), None)
