"""What the ranks computed in some batches, and how evenly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from exchange import of_all_ranks
from model import Forward

import eplb

Split = tuple[eplb.Placement, "npt.NDArray[np.float64] | None"]
"""A placement, and the share [L, P] of each slot; None if all replicas are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Batches that were served under one placement."""

    first: int
    last: int
    balancedness: float
    """As measured: of the rows that the ranks computed, over all layers and batches."""
    not_migrated: float | None
    """What the placement before the last migration would have reached on the same tokens."""
    as_at_first: float
    """The same of the placement that the run began with."""
    largest_rows: float
    """Rows of the fullest rank in a batch, added up over the layers."""
    slowest_ms: float
    """Processor time of the experts of the slowest rank in a batch, added up over the layers."""


def measure(first: int, forwards: Sequence[Forward], at_first: Split, before: Split | None) -> Window:
    """Return what was served; all ranks call it together.

    Parameters
    ----------
    first : int
        Number of the first batch.
    forwards : sequence of Forward
        One for each batch, as this rank saw them.
    at_first, before : Split
        What was in force when the run began, and before the last migration, if there was one.
    """
    own = torch.tensor([[forward.computed, forward.cpu_ms] for forward in forwards], dtype=torch.float64)
    rows, cpu_ms = of_all_ranks(own).permute(2, 1, 3, 0).numpy()  # each [T, L, R]
    loads = loads_of(forwards)
    return Window(
        first=first,
        last=first + len(forwards) - 1,
        balancedness=float(rows.mean(2).sum() / rows.max(2).sum()),
        not_migrated=None if before is None else _balancedness(before, loads),
        as_at_first=_balancedness(at_first, loads),
        largest_rows=float(rows.max(2).sum(1).mean()),
        slowest_ms=float(cpu_ms.max(2).sum(1).mean()),
    )


def loads_of(forwards: Sequence[Forward]) -> npt.NDArray[np.int64]:
    """Return the tokens of each expert in each batch, [T, L, E]."""
    return np.stack([forward.loads_le.numpy() for forward in forwards])


def _balancedness(split: Split, loads: npt.NDArray[np.int64]) -> float:
    placement, weights = split
    found = eplb.evaluate(placement, loads, split="even" if weights is None else weights)
    return float(found.mean_loads.sum() / found.largest_loads.sum())
