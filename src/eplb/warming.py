"""Compiling ahead of time."""

from __future__ import annotations

import numpy as np

from eplb.deepseek import POLICIES, balanced_packing, rebalance_experts, replicate_experts, replication_fixup
from eplb.forecasting import FORECASTERS
from eplb.planning import plan
from eplb.topology import Topology


def warm_up() -> None:
    """Compile everything, or load it from disk, so that no later call waits for a compiler.

    That is `plan`, with groups and without, for one window and for several, from scratch and from a previous placement,
    on the same ranks and on others; the forecasters; and DeepSeek's functions for float32 loads, integers included.
    """
    topology = Topology(num_ranks=2, slots_per_rank=3, num_nodes=2)
    for groups in (1, 2):
        previous = plan([[3.0, 1.0, 2.0, 1.0]], topology, groups=groups).placement
    windows = [[[3.0, 1.0, 2.0, 1.0]], [[1.0, 3.0, 2.0, 1.0]]]
    for name in FORECASTERS:
        plan(windows, topology, previous=previous, forecast=name, cost_per_activated_slot=1.0)
    plan(windows, Topology(num_ranks=2, slots_per_rank=4), previous=previous)
    weight = np.array([[3.0, 1.0, 2.0, 1.0]], dtype=np.float32)
    for policy in POLICIES:
        rebalance_experts(weight, 6, 2, 2, 2, policy=policy)
    balanced_packing(weight, 2)
    replication_fixup(weight, replicate_experts(weight, 6)[2])
