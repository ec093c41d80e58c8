"""The windows that a serving engine handed over, kept so that all ranks keep the same ones.

An engine that plans on every rank needs equal plans, so every rank must remember equal windows, also one that has just
joined. What a rank sees of the others is the placement in force, which is the same for all. So windows are remembered
only along an unbroken chain of placements: each must follow from the one before it, and a slot that holds nothing, as
those of a rank that joins, breaks the chain on all ranks at once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CHAINS = 8
"""Models in one process whose windows are kept; the one not seen for longest is dropped."""


class Shape(NamedTuple):
    """What has to stay as it is for windows to be comparable: model and ranks."""

    num_layers: int
    num_experts: int
    num_slots: int
    num_ranks: int
    num_nodes: int
    groups: int


class Chain:
    """Windows of one model on one set of ranks, and the placements that may follow."""

    def __init__(self, most: int) -> None:
        self.windows: deque[NDArray[np.float64]] = deque(maxlen=most)
        self._placements: tuple[NDArray[np.int64], ...] = ()

    def follows(self, placement: NDArray[np.int64] | None) -> bool:
        """Return whether each layer of `placement` is as it was planned last, or still as it was before that.

        Engines move layer by layer, and some leave out what gains little.
        """
        if placement is None or placement.min() < 0:
            return False
        same = [(placement == known).all(axis=1) for known in self._placements if known.shape == placement.shape]
        return bool(same) and bool(np.logical_or.reduce(same).all())

    def planned(self, before: NDArray[np.int64] | None, after: NDArray[np.int64]) -> None:
        """Remember what was in force and what will be."""
        self._placements = (after,) if before is None else (before, after)


class Histories:
    """The chains of all models of a process.

    Parameters
    ----------
    most : int
        Windows of a model that are kept at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._chains: OrderedDict[Shape, Chain] = OrderedDict()

    def windows(
        self, shape: Shape, window: NDArray[np.float64], placement: NDArray[np.int64] | None
    ) -> NDArray[np.float64]:
        """Return the windows to plan for, oldest first and `window` last, [T, L, E]; remember `window`.

        A model (layers and experts) has one chain: other ranks start it anew.
        """
        chain = self._chains.get(shape)
        if chain is None or not chain.follows(placement):
            chain = self._anew(shape)
        self._chains.move_to_end(shape)
        chain.windows.append(window)
        return np.stack(chain.windows)

    def _anew(self, shape: Shape) -> Chain:
        for known in [known for known in self._chains if known[:2] == shape[:2]]:
            del self._chains[known]
        self._chains[shape] = Chain(self._most)
        while len(self._chains) > MAX_CHAINS:
            self._chains.popitem(last=False)
        return self._chains[shape]

    def planned(self, shape: Shape, before: NDArray[np.int64] | None, after: NDArray[np.int64]) -> None:
        """Tell the chain of `shape`, if there is one, what was in force and what will be."""
        if shape in self._chains:
            self._chains[shape].planned(before, after)
