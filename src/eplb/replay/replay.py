"""`replay`: a trace driven through a policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from eplb.arrays import frozen
from eplb.errors import OptionError
from eplb.replay.parts import RecordedTrace, check_trace, steps_per_window
from eplb.replay.planner import Planner
from eplb.replay.policies import Policy
from eplb.replay.result import Replay
from eplb.replay.scoring import Scoring
from eplb.replay.splits import check_split
from eplb.replay.watching import Watch
from eplb.topology import Topology

ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29


def replay(
    trace: RecordedTrace,
    topology: Topology,
    policy: Policy,
    *,
    history: int = 24,
    interval: int = 1,
    first: int = 8,
    max_moves_share: float = 0.1,
    max_moves_per_rank: int | None = None,
    split: str = "even",
    steps: RecordedTrace | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> Replay:
    """Return what `policy` would have done on the windows of `trace`, each of which it had not seen when it planned.

    From window `first` on, the policy is asked for a placement every `interval` windows and shown at most `history`
    windows before; the placement is scored on the windows until the next plan. The first plan moves freely.

    Parameters
    ----------
    trace : LoadTrace, TraceStore, or what hands out parts as they do
        T windows, L layers, E experts; read a few windows at a time.
    topology : Topology
        The machine.
    policy : Policy
        What places the experts; see `eplb.replay.policy_named`.
    history : int, default 24
        The most windows that the policy is shown, fewer at the start of the trace; >= 1.
    interval : int, default 1
        Windows from one plan to the next, >= 1.
    first : int, default 8
        The first window that is planned for and scored, 1 to T - 1.
    max_moves_share : float, default 0.1
        Moves that each replan but the first is allowed, as a share of the slots of working ranks over all layers, 0 to
        1; 1: no limit. A policy that moves more is told of (`Replay.num_over_budget`), not stopped.
    max_moves_per_rank : int, optional
        Moves that each rank may receive in a replan, over all layers, >= 0. Default: no limit.
    split : {"even", "weighted", "weighted-lagged"}, default "even"
        How the replicas of an expert share its tokens where placements are scored: all alike; by the best weights of
        each window (and of each step), as `eplb.evaluate` does; or by the weights that were best for the window before,
        which hold for all steps of a window, as in an engine that does not solve for each batch.
    steps : LoadTrace or the like, optional
        The single steps whose sums the windows are, equally many for each. They are scored too: a sum over steps looks
        better balanced than its steps.
    progress : callable, optional
        Called with the windows scored and to score, after each.
    watch : callable, optional
        Called with the `ScoredWindows` of the trace, a few at a time and in order: for what a result does not keep.

    Raises
    ------
    OptionError
        If an option is out of its range.
    LoadsError
        If the trace or the steps do not hand out windows of one shape, or steps do not sum up to their window.
    InfeasibleError
        If the experts do not fit the slots.
    PlacementError
        If the policy returns no sound placement of the trace's layers and experts on the topology.

    Notes
    -----
    The same input gives the same result, times aside.

    Examples
    --------
    >>> from eplb import LoadTrace, Topology
    >>> from eplb.replay import StaticPolicy, replay
    >>> trace = LoadTrace(loads=[[[3, 1, 2, 2]], [[4, 1, 2, 1]], [[3, 1, 2, 2]]])
    >>> found = replay(trace, Topology(num_ranks=2, slots_per_rank=2), StaticPolicy(), first=1)
    >>> found.balancedness.tolist(), found.moves.tolist(), found.first_moves
    ([0.8, 1.0], [0], 0)
    """
    check_trace(trace)
    check_split(split)
    _check_options(trace.num_windows, topology, policy, history, interval, first, max_moves_share, max_moves_per_rank)
    num_slots = topology.num_usable_slots * trace.num_layers
    max_moves = None if max_moves_share == 1 else math.floor(max_moves_share * num_slots + ROUNDING)
    num_steps = steps_per_window(trace, steps)
    planner = Planner(policy, trace, topology, history, interval, max_moves, max_moves_per_rank)
    scoring = Scoring(trace, steps, num_steps, topology, split, _counter(trace.num_windows - first, progress), watch)
    for start in range(first, trace.num_windows, interval):
        end = min(start + interval, trace.num_windows)
        placement = planner.replan(start, end)
        scoring.score(placement, start, end)
    return Replay(
        policy=planner.name,
        sees_future=planner.sees_future,
        split=split,
        first=first,
        interval=interval,
        history=history,
        max_moves=max_moves,
        max_moves_per_rank=max_moves_per_rank,
        num_slots=num_slots,
        scores=scoring.windows.scores(),
        step_scores=None if steps is None else scoring.steps.scores(),
        moves=frozen(np.array(planner.moves, dtype=np.int64)),
        received=frozen(np.array(planner.received, dtype=np.int64)),
        first_moves=planner.first_moves,
        planning_seconds=frozen(np.array(planner.seconds)),
        placement=placement,
    )


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    done = 0

    def advanced() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return advanced


def _check_options(
    num_windows: int,
    topology: Any,
    policy: Any,
    history: Any,
    interval: Any,
    first: Any,
    max_moves_share: Any,
    max_moves_per_rank: Any,
) -> None:
    if not isinstance(topology, Topology):
        raise OptionError(f"topology: expected an eplb.Topology, got {type(topology).__name__}")
    if not callable(getattr(policy, "place", None)):
        raise OptionError(
            f"policy: expected an object with a method place, got {policy!r}; see eplb.replay.policy_named"
        )
    if num_windows < 2:
        raise OptionError(f"trace: expected at least 2 windows, one to plan from and one to score, got {num_windows}")
    _check_integer("history", history, 1)
    _check_integer("interval", interval, 1)
    _check_integer("first", first, 1, num_windows - 1, f" of a trace of {num_windows} windows")
    if max_moves_per_rank is not None:
        _check_integer("max_moves_per_rank", max_moves_per_rank, 0)
    number = isinstance(max_moves_share, (int, float, np.number)) and not isinstance(max_moves_share, bool)
    if not number or not 0 <= max_moves_share <= 1:
        raise OptionError(f"max_moves_share: expected a share of the slots, 0 to 1, got {max_moves_share!r}")


def _check_integer(name: str, value: Any, least: int, most: int | None = None, where: str = "") -> None:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f">= {least}" if most is None else f"of {least} to {most}"
        raise OptionError(f"{name}: expected an integer {bounds}{where}, got {value!r}")
