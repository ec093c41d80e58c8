"""Counts by step and layer, added up over ranks, that become a trace of the steps that are whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eplb.engines.hints import MAX_LAYERS
from eplb.engines.remarks import Remarks
from eplb.errors import FileFormatError
from eplb.files import MAX_LOADS_BYTES
from eplb.trace import LoadTrace

OVERHEAD = 64
"""Entries of an array that take as much memory as the array itself."""


class Steps:
    """Tokens of each expert by step and layer.

    Examples
    --------
    >>> steps = Steps()
    >>> for step, layer, rank, counts in ((0, 3, 0, [1, 2]), (0, 3, 1, [5]), (1, 3, 0, [9])):
    ...     steps.add(step, layer, rank, np.array(counts))
    >>> steps.trace(2, "1 step", Remarks()).loads.tolist()  # step 1 lacks rank 1
    [[[6, 2]]]
    """

    __slots__ = ("_bit_of_layer", "_counts", "_num_entries", "_seen")

    def __init__(self) -> None:
        self._counts: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._bit_of_layer: dict[int, int] = {}
        self._seen: dict[int, dict[int, int]] = {}  # a bit a layer, by step and rank
        self._num_entries = 0

    @property
    def num_experts(self) -> int:
        """The most experts that a layer was seen to have."""
        return max((counts.size for counts in self._counts.values()), default=0)

    @property
    def num_ranks(self) -> int:
        """Ranks that were added."""
        return len({rank for ranks in self._seen.values() for rank in ranks})

    def add(self, step: int, layer: int, rank: int, counts: NDArray[np.int64]) -> None:
        """Add the tokens that a rank routed to the experts of a layer in a step.

        Raises
        ------
        FileFormatError
            If there are more layers or steps than are read.
        """
        before = self._counts.get((step, layer))
        if before is None or before.size < counts.size:
            self._num_entries += counts.size + (OVERHEAD if before is None else -before.size)
            counts = counts.copy()
            if before is not None:
                counts[: before.size] += before
            self._counts[step, layer] = counts
        else:
            before[: counts.size] += counts
        bit = self._bit_of_layer.setdefault(layer, len(self._bit_of_layer))
        ranks = self._seen.setdefault(step, {})
        ranks[rank] = ranks.get(rank, 0) | 1 << bit
        if bit >= MAX_LAYERS or self._num_entries * 8 > MAX_LOADS_BYTES:
            raise FileFormatError(f"more than {MAX_LOADS_BYTES:,} bytes of loads; record fewer steps, or take a part")

    def trace(self, num_experts: int, window: str, remarks: Remarks) -> LoadTrace:
        """Return the steps that have every layer of every rank, in order; say how many have not.

        Raises
        ------
        FileFormatError
            If no step is whole, or the loads would be too large.
        """
        steps, layers = self._whole_steps(remarks), sorted(self._bit_of_layer)
        if len(steps) * len(layers) * num_experts * 8 > MAX_LOADS_BYTES:
            raise FileFormatError(f"more than {MAX_LOADS_BYTES:,} bytes of loads; record fewer steps, or take a part")
        loads = np.zeros((len(steps), len(layers), num_experts), dtype=np.int64)
        for index, step in enumerate(steps):
            for row, layer in enumerate(layers):
                counts = self._counts[step, layer]
                loads[index, row, : counts.size] = counts
        return LoadTrace(loads=loads, layer_ids=np.array(layers), window=window)

    def _whole_steps(self, remarks: Remarks) -> list[int]:
        wanted: dict[int, int] = {}
        for ranks in self._seen.values():
            for rank, bits in ranks.items():
                wanted[rank] = wanted.get(rank, 0) | bits
        whole = sorted(step for step, ranks in self._seen.items() if ranks == wanted)
        if not whole:
            raise FileFormatError("no step has all layers of all ranks; give the files of one recording")
        if len(whole) < len(self._seen):
            left_out = len(self._seen) - len(whole)
            remarks.warn(f"{left_out:,} of {len(self._seen):,} steps lack a layer or a rank, and are left out")
        return whole
