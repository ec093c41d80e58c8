"""Compiling ahead of time."""

from __future__ import annotations

import numpy as np

from eplb.deepseek import POLICIES, balanced_packing, rebalance_experts, replicate_experts, replication_fixup
from eplb.dispatch import Dispatcher, dispatch_batch, solve_split
from eplb.errors import OptionError
from eplb.forecasting import FORECASTERS
from eplb.migration import plan_transfers
from eplb.placement import Placement
from eplb.planning import plan
from eplb.topology import Topology

LOADS = [[3.0, 1.0, 2.0, 1.0]]
WINDOWS = [LOADS, [[1.0, 3.0, 2.0, 1.0]]]
TOPOLOGY = Topology(num_ranks=2, slots_per_rank=3, num_nodes=2)


def warm_up(split: str | None = None) -> None:
    """Compile everything, or load it from disk, so that no later call waits for a compiler.

    That is `plan`, for both splits, with groups and without, for one window and for several, from scratch and from a
    previous placement, on the same ranks and on others; the forecasters; `split`; dispatch of ids in int32 and int64;
    transfers; and DeepSeek's functions for float32 loads, integers included.

    Parameters
    ----------
    split : {"even", "weighted"}, optional
        Leave out what the other one alone needs, and dispatch and transfers.

    Raises
    ------
    OptionError
        If there is no such split.
    """
    if split not in (None, "even", "weighted"):
        raise OptionError(f"split: expected 'even', 'weighted', or None for all, got {split!r}")
    _warm_drop_in()
    for groups in (1, 2):
        placement = plan(LOADS, TOPOLOGY, groups=groups).placement
    for name in ("even", "weighted") if split is None else (split,):
        _warm_windows(placement, name)
    if split != "even":
        solve_split(placement, LOADS, source_loads=np.stack([LOADS, np.zeros_like(LOADS)], axis=1), whole_tokens=True)
    if split is None:
        _warm_dispatch(placement)
        plan_transfers(placement, placement, 1)


def _warm_drop_in() -> None:
    weight = np.array(LOADS, dtype=np.float32)
    for policy in POLICIES:
        rebalance_experts(weight, 6, 2, 2, 2, policy=policy)
    balanced_packing(weight, 2)
    replication_fixup(weight, replicate_experts(weight, 6)[2])


def _warm_windows(previous: Placement, split: str) -> None:
    plan(LOADS, TOPOLOGY, split=split)
    for name in FORECASTERS:
        plan(WINDOWS, TOPOLOGY, previous=previous, forecast=name, cost_per_activated_slot=1.0, split=split)
    plan(WINDOWS, Topology(num_ranks=2, slots_per_rank=4), previous=previous, split=split)


def _warm_dispatch(placement: Placement) -> None:
    source_counts = np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
    for dtype in (np.int32, np.int64):
        ids = np.array([[0, 1]], dtype=dtype)
        for mode in ("even", "weighted"):
            Dispatcher(placement, mode=mode)(ids, 0)
        Dispatcher(placement, mode="local-first", rank_invariant=False, source_rank=0)(ids, 0, 0, source_counts)
        dispatch_batch(placement, ids, 0)
