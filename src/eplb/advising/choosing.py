"""Choosing among settings on the windows before a held-out part, and never on the part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eplb.advising.backtest import Backtest, Run
from eplb.advising.candidates import NEIGHBOURS, coarse, slots_and_splits
from eplb.advising.setting import Setting

AS_GOOD = 0.005
"""Settings whose steps take at most so much longer than the best count as good; the simplest of them is taken."""


def tried(backtest: Backtest, base: Setting, slots: Sequence[int], splits: Sequence[str]) -> list[Run]:
    """Return runs of a coarse grid and of the neighbours of what does best before the first held-out part.

    A value is kept as soon as it does better there, and the next one is varied: no window that is held out says which
    settings are tried.
    """
    stretches = backtest.stretches
    most_windows = stretches.held_out - stretches.start
    runs = [backtest.run(setting) for setting in coarse(base, slots, splits, most_windows)]
    best = chosen(runs, stretches.start, stretches.held_out)
    for others in NEIGHBOURS:
        found = [backtest.run(setting) for setting in others(best.setting, most_windows)]
        runs += [run for run in found if run not in runs]
        best = chosen([best, *found], stretches.start, stretches.held_out)
    return runs


def statics(backtest: Backtest, base: Setting, slots: Sequence[int], splits: Sequence[str]) -> list[Run]:
    """Return runs of placements that are planned once, before the first window that is scored."""
    once = replace(base, policy="static", interval=1)
    return [backtest.run(setting) for setting in slots_and_splits(once, slots, splits)]


def chosen(runs: Sequence[Run], first: int, last: int) -> Run:
    """Return the run that does best on windows `first` to `last` - 1; of those about as good, the simplest.

    Simpler is: fewer slots, fewer bytes moved, plans less often; then the one that comes first.
    """
    seconds = [run.mean_seconds(first, last) for run in runs]
    limit = min(seconds) * (1 + AS_GOOD)
    good = [run for run, taken in zip(runs, seconds, strict=True) if taken <= limit]
    return min(
        good,
        key=lambda run: (
            run.setting.slots_per_rank,
            run.mean_of(run.moved_bytes, first, last),
            -run.setting.interval * run.setting.window,
        ),
    )
