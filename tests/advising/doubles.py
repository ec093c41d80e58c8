"""Traces, a cost model that counts, and sweeps as programs of their own."""

import dataclasses

import numpy as np

import eplb
from eplb.advising import Setting

SMALL = Setting(num_ranks=4, slots_per_rank=3)
CHOICES = {
    "num_ranks": [1, 4],
    "slots_per_rank": [3, 4],
    "policy": ["static", "eplb"],
    "interval": [1, 3],
    "threshold": [0.0, 0.2],
    "split": ["even", "weighted"],
}


def random_trace(num_windows=14, num_layers=2, num_experts=8, seed=0):
    """Return loads far from balance, which change from window to window."""
    loads = np.random.default_rng(seed).integers(1, 1000, (num_windows, num_layers, num_experts))
    return eplb.LoadTrace(loads=loads, model="model")


class Counter:
    """A meter that counts windows and the placements that they were scored under."""

    def __init__(self, factor):
        self._factor, self._windows, self._placements = factor, [], []

    def __call__(self, scored):
        self._windows += range(scored.first, scored.first + scored.windows.num_windows)
        self._placements.append(scored.placement.hash)

    def totals(self):
        return {"windows": self._factor * len(self._windows), "first_window": self._windows[0]}


@dataclasses.dataclass(frozen=True)
class CountingCost:
    """A cost model whose meters count."""

    factor: float = 1.0

    def meter(self, topology):
        return Counter(self.factor)
