"""`run_trial`: one setting on one trace."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from eplb.advising.bounding import best_balancedness
from eplb.advising.costing import CostModel, check_cost
from eplb.advising.outcome import Outcome
from eplb.advising.setting import Setting
from eplb.errors import OptionError
from eplb.replay import Policy, RecordedTrace, Replay, policy_named, replay
from eplb.replay.merging import MergingPolicy
from eplb.replay.parts import check_trace
from eplb.replay.splits import planned_split
from eplb.replay.threshold import ThresholdPolicy

FIRST = 8
FOLDS = 4


def run_trial(
    trace: RecordedTrace,
    setting: Setting,
    *,
    cost: CostModel | None = None,
    first: int | None = None,
    last: int | None = None,
) -> Outcome:
    """Return what `setting` would have done on windows of `trace`, each of which was unseen when it was planned for.

    Parameters
    ----------
    trace : LoadTrace, TraceStore, or what hands out parts as they do
        T windows, L layers, E experts.
    setting : Setting
        The machine, the policy, and how often it may do what.
    cost : CostModel, optional
        What the windows and the moves cost.
    first : int, default 8
        The first window of the trace that is planned for and scored, >= 1.
    last : int, default T
        The window after the last that is scored; later ones are not read.

    Raises
    ------
    OptionError
        If `first` and `last` leave nothing to score, or an argument is none of these.
    LoadsError, InfeasibleError, PlacementError, TopologyError
        If the trace cannot be planned for on that machine.

    Notes
    -----
    The same input gives the same outcome, bit for bit.

    Examples
    --------
    >>> from eplb import LoadTrace
    >>> trace = LoadTrace(loads=[[[3, 1, 2, 2]], [[4, 1, 2, 1]], [[3, 1, 2, 2]]])
    >>> outcome = run_trial(trace, Setting(num_ranks=2, slots_per_rank=2, policy="static"), first=1)
    >>> outcome.balancedness, outcome.worst, outcome.bound, outcome.moves
    (0.9, 0.8, 1.0, 0)
    """
    check_trace(trace)
    if not isinstance(setting, Setting):
        raise OptionError(f"setting: expected an eplb.advising.Setting, got {type(setting).__name__}")
    check_cost(cost)
    begin, end = _stretch(trace.num_windows, first, last)
    seen = trace if end == trace.num_windows else trace.part(0, end)
    meter = None if cost is None else cost.meter(setting.topology)
    found = replay(
        seen,
        setting.topology,
        policy_of(setting),
        history=setting.history * setting.window,
        interval=setting.interval * setting.window,
        first=begin,
        max_moves_share=setting.max_moves_share,
        split=setting.split,
        watch=meter,
    )
    bound = best_balancedness(seen, begin, end, setting)
    return _outcome(found, bound, {} if meter is None else {name: float(x) for name, x in meter.totals().items()})


def policy_of(setting: Setting) -> Policy:
    """Return who places the experts under `setting`: sees sums of windows, and acts above the threshold."""
    split = planned_split(setting.split)
    policy = policy_named(setting.policy, groups=setting.groups, effort=setting.effort, seed=setting.seed, split=split)
    if setting.window > 1:
        policy = MergingPolicy(policy=policy, size=setting.window)
    if setting.threshold > 0:
        policy = ThresholdPolicy(policy=policy, threshold=setting.threshold, recent=setting.window, split=split)
    return policy


def _stretch(num_windows: int, first: int | None, last: int | None) -> tuple[int, int]:
    end = num_windows if last is None else last
    begin = FIRST if first is None else first
    for name, value in (("first", begin), ("last", end)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise OptionError(f"{name}: expected an integer, got {value!r}")
    if not 1 <= begin < end <= num_windows:
        raise OptionError(
            f"first, last: expected 1 <= first < last <= {num_windows} windows of the trace, got {begin} and {end}; "
            f"a trace needs {begin + 1} windows to score one"
        )
    return int(begin), int(end)


def _outcome(found: Replay, bound: float, costs: dict[str, float]) -> Outcome:
    balancedness = found.balancedness
    folds = [float(fold.mean()) for fold in np.array_split(balancedness, min(FOLDS, balancedness.size))]
    p10, median, p90 = (_quantile(balancedness, share) for share in (0.1, 0.5, 0.9))
    return Outcome(
        first=found.first,
        last=found.first + balancedness.size,
        balancedness=found.mean_balancedness,
        worst=found.worst_window[1],
        p10=p10,
        median=median,
        p90=p90,
        fold_least=min(folds),
        fold_largest=max(folds),
        worst_layer=float(found.balancedness_per_layer.min()),
        bound=bound,
        activated_experts=float(found.activated_experts),
        largest_activated_experts=float(found.largest_activated_experts),
        num_plans=found.moves.size + 1,
        num_replans=int((found.moves > 0).sum()),
        num_over_budget=found.num_over_budget,
        moves=int(found.moves.sum()),
        first_moves=found.first_moves,
        moved_share=found.moved_share,
        largest_moved_share=found.largest_moved_share,
        most_received=found.most_received,
        costs=costs,
    )


def _quantile(values: NDArray[np.float64], share: float) -> float:
    """Return the least of `values` that at least this share of them does not exceed."""
    return float(np.sort(values)[math.ceil(share * values.size) - 1])
