"""From runs to options: leaving experts in order, placing them once, placing them again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eplb.advising.backtest import Backtest, Run
from eplb.advising.batching import Batch
from eplb.advising.bounding import best_balancedness
from eplb.advising.candidates import slots_and_splits
from eplb.advising.choosing import chosen
from eplb.advising.deciding import DYNAMIC, NONE, STATIC, decided, gain_of
from eplb.advising.recommendation import Advice, Option
from eplb.advising.setting import Setting

Uninformed = dict[tuple[int, str], list[Run]]
Values = NDArray[np.float64]


def uninformed(backtest: Backtest, base: Setting, slots: Sequence[int], splits: Sequence[str]) -> Uninformed:
    """Return runs that know no loads, by slots a rank and split: experts in order, and spread evenly."""
    return {
        (setting.slots_per_rank, setting.split): [
            backtest.run(replace(setting, policy="contiguous")),
            backtest.spread(setting),
        ]
        for setting in slots_and_splits(base, slots, splits)
    }


def compared(
    backtest: Backtest,
    batch: Batch,
    none: Run,
    blind: Uninformed,
    static: list[Run],
    dynamic: list[Run],
    least_gain: float,
) -> Advice:
    """Return the advice that follows from all runs: each held-out part is scored with what was chosen before it."""
    start, folds, end = backtest.stretches.start, backtest.stretches.folds, backtest.stretches.end
    held_out = folds[0][0]
    once = backtest.run(chosen(static, start, held_out).setting, first=held_out)
    by_part = {
        NONE: [none] * len(folds),
        STATIC: [once] * len(folds),
        DYNAMIC: [chosen(dynamic, start, first) for first, _ in folds],
    }
    deployed = {kind: chosen(runs, start, end).setting for kind, runs in ((STATIC, static), (DYNAMIC, dynamic))}
    deployed[NONE] = none.setting
    options = {kind: _option(kind, deployed[kind], runs, none, blind, backtest) for kind, runs in by_part.items()}
    seconds = {kind: _seconds(runs, folds) for kind, runs in by_part.items()}
    over_static = gain_of(seconds[STATIC], seconds[DYNAMIC])
    choice = decided(options[STATIC].own_gain, options[DYNAMIC].own_gain, over_static, least_gain)
    used = deployed[DYNAMIC]
    spare = min(run.mean_seconds(held_out, end) for run in blind[used.slots_per_rank, used.split])
    return Advice(
        options=options,
        choice=choice,
        least_gain=least_gain,
        dynamic_over_static=over_static,
        spare_slots_gain=none.mean_seconds(held_out, end) / spare - 1,
        bound=best_balancedness(backtest.trace, held_out, end, deployed[choice]),
        tokens_per_step=batch.tokens_per_step,
        tokens_per_expert=batch.tokens_per_expert,
        knee_tokens=backtest.cost.expert_rates.knee_tokens,
        num_windows=backtest.trace.num_windows,
        held_out=end - held_out,
        nearby=_nearby(dynamic, start, end),
        planning_seconds=backtest.run(used).planning_seconds,
    )


def _option(
    kind: str, deployed: Setting, runs: Sequence[Run], none: Run, blind: Uninformed, backtest: Backtest
) -> Option:
    """Return the option whose run on each held-out part is given."""
    folds, cost = backtest.stretches.folds, backtest.cost
    after, before = _seconds(runs, folds), _seconds([none] * len(folds), folds)
    rivals = [[none, *blind[used.setting.slots_per_rank, used.setting.split]] for used in runs]
    fair = [min(run.mean_seconds(*fold) for run in some) for some, fold in zip(rivals, folds, strict=True)]
    least = -(-backtest.trace.num_experts // deployed.num_ranks)
    return Option(
        kind=kind,
        setting=deployed,
        seconds_per_step=_over_parts([run.step_seconds + run.stall_seconds for run in runs], runs, folds),
        stall_seconds_per_step=_over_parts([run.stall_seconds for run in runs], runs, folds),
        gain=gain_of(before, after),
        own_gain=gain_of(before if kind == NONE else fair, after),
        balancedness=_over_parts([run.balancedness for run in runs], runs, folds),
        moved_bytes_per_step=_over_parts([run.moved_bytes for run in runs], runs, folds) / cost.steps_per_window,
        extra_bytes_per_rank=(deployed.slots_per_rank - least) * cost.model.bytes_per_expert * cost.model.num_layers,
    )


def _seconds(runs: Sequence[Run], folds: Sequence[tuple[int, int]]) -> list[float]:
    return [run.mean_seconds(*fold) for run, fold in zip(runs, folds, strict=True)]


def _over_parts(values: Sequence[Values], runs: Sequence[Run], folds: Sequence[tuple[int, int]]) -> float:
    """Return the mean over all held-out windows of what each part's run says, one value a window."""
    sums = [
        run.mean_of(array, *fold) * (fold[1] - fold[0]) for array, run, fold in zip(values, runs, folds, strict=True)
    ]
    return sum(sums) / (folds[-1][1] - folds[0][0])


def _nearby(runs: Sequence[Run], first: int, last: int) -> tuple[tuple[Setting, float], ...]:
    found = [(run.setting, run.mean_seconds(first, last)) for run in runs]
    return tuple(sorted(found, key=lambda pair: (pair[1], pair[0].key)))
