"""`advise`: would balancing help, how, what does it cost, and how much is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from eplb.advising.backtest import Backtest, stretches_of
from eplb.advising.batching import batch_of
from eplb.advising.candidates import slot_choices
from eplb.advising.choosing import statics, tried
from eplb.advising.comparing import compared, uninformed
from eplb.advising.recommendation import Advice
from eplb.advising.setting import Setting
from eplb.arrays import nonnegative
from eplb.errors import LoadsError, OptionError
from eplb.replay import RecordedTrace
from eplb.replay.cost import CostModel
from eplb.replay.cost.checking import count
from eplb.replay.parts import check_trace
from eplb.replay.splits import check_split

LEAST_GAIN = 0.02
SPLITS = ("even", "weighted-lagged")


def advise(
    trace: RecordedTrace,
    cost: CostModel,
    *,
    num_ranks: int,
    num_nodes: int = 1,
    groups: int = 1,
    splits: Sequence[str] = SPLITS,
    least_gain: float = LEAST_GAIN,
    effort: str = "balanced",
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Advice:
    """Return whether to balance the experts of `trace`, and how, judged on windows that did not choose.

    Settings are searched coarsely and then around the best: slots a rank, split, interval, budget of moves, windows
    that are summed, threshold. The windows are divided in time: some are only history, some choose first, and up to
    four parts are held out. Each part is scored with what did best before it.

    Parameters
    ----------
    trace : LoadTrace, TraceStore, or what hands out parts as they do
        At least 4 windows.
    cost : CostModel
        Hardware, model, and what a window is.
    num_ranks : int
        Ranks R.
    num_nodes : int, default 1
        Nodes that they stand in.
    groups : int, default 1
        Expert groups, each kept on one node.
    splits : sequence of str, default ("even", "weighted-lagged")
        Ways for replicas to share tokens that the engine knows; ("even",) for most. "weighted" solves for each batch.
    least_gain : float, default 0.02
        Gain in tokens a second that the lower end of its range must reach.
    effort, seed
        As in `eplb.plan`.
    progress : callable, optional
        Called with the number of settings tried so far.

    Raises
    ------
    OptionError
        If the trace is too short, the experts do not fit the memory, or an option is out of range.
    LoadsError
        If there is nothing in the trace, or it is of another model.

    Notes
    -----
    Some 20 to 60 replays of the trace. The same input gives the same advice, `planning_seconds` aside.

    Examples
    --------
    >>> import numpy as np
    >>> from eplb import LoadTrace
    >>> from eplb.replay.cost import hardware_named, model_named
    >>> cost = CostModel(hardware=hardware_named("h100"), model=model_named("gpt-oss-20b"))
    >>> even = LoadTrace(loads=np.full((6, 1, 32), 1000))
    >>> advice = advise(even, cost, num_ranks=4)
    >>> advice.go, advice.options["dynamic"].gain.expected
    (False, 0.0)
    """
    check_trace(trace)
    _check(trace, cost, splits)
    nonnegative(least_gain, "least_gain")
    count(num_ranks, "num_ranks")
    batch = batch_of(trace, cost)
    slots = slot_choices(trace.num_experts, num_ranks, cost)
    backtest = Backtest(trace=trace, cost=cost, stretches=stretches_of(trace.num_windows), progress=progress)
    shared = {"num_ranks": num_ranks, "num_nodes": num_nodes, "groups": groups, "effort": effort, "seed": seed}
    base = Setting(**shared, slots_per_rank=slots[0], split=splits[0])  # type: ignore[arg-type]
    none = backtest.run(replace(base, policy="contiguous"))
    blind = uninformed(backtest, base, slots, splits)
    dynamic = tried(backtest, base, slots, splits)
    static = statics(backtest, base, slots, splits)
    return compared(backtest, batch, none, blind, static, dynamic, least_gain)


def _check(trace: RecordedTrace, cost: CostModel, splits: Sequence[str]) -> None:
    if not isinstance(cost, CostModel):
        raise OptionError(f"cost: expected an eplb.replay.cost.CostModel, got {type(cost).__name__}")
    if not splits or isinstance(splits, str):
        raise OptionError(f"splits: expected at least one of even, weighted, weighted-lagged, got {splits!r}")
    for split in splits:
        check_split(split, "splits")
    if trace.num_experts != cost.model.num_experts:
        raise LoadsError(
            f"trace: {cost.model.name} has {cost.model.num_experts} experts a layer, the trace {trace.num_experts}; "
            "give the model that was recorded, or its figures"
        )
