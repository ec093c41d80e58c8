"""Planning for loads that are known: one estimate for each layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eplb.certificate import Certificate, PerLayer
from eplb.errors import LoadsError
from eplb.placement import Placement
from eplb.planning.effort import Effort
from eplb.planning.machine import Machine, machine_for
from eplb.topology import Topology

SLOTS_WORTH_A_THREAD = 3_000


def plan_known(
    loads: NDArray[np.float64],
    topology: Topology,
    groups: int,
    effort: Effort,
    seed: int,
    layer_ids: NDArray[np.int64] | None,
) -> tuple[Placement, Certificate]:
    """Return a placement for `loads` [L, E] that makes the largest rank load of each layer small, with its proof."""
    from eplb.kernels.known.layers import plan_layers
    from eplb.kernels.threads import over_layers

    num_layers, num_experts = loads.shape
    machine = machine_for(topology, num_experts, groups)
    choices = _choices(loads, machine, groups, effort)
    slots = np.full((num_layers, topology.num_slots), -1, dtype=np.int32)
    counts = np.empty((num_layers, num_experts), dtype=np.int32)
    stats = np.empty((num_layers, 3))
    work = np.array([effort.max_steps, effort.max_recounts, effort.max_restarts], dtype=np.int64)
    worth = SLOTS_WORTH_A_THREAD if effort.max_steps == 0 else SLOTS_WORTH_A_THREAD // 10
    over_layers(
        plan_layers,
        num_layers,
        (loads, *machine.ranks_by_node, *choices, effort.tolerance, work, np.uint64(seed), slots, counts, stats),
        min_layers=max(1, worth // topology.num_slots),
    )
    with np.errstate(over="ignore"):
        if not np.isfinite(stats.sum(axis=0)).all():
            raise LoadsError("loads: a rank's load divided by its speed is beyond float64; scale the loads down")
    mean, largest, bound = (np.ascontiguousarray(column) for column in stats.T)
    certificate = Certificate(per_layer=PerLayer(mean_load=mean, largest_load=largest, lower_bound=bound))
    return Placement.from_planner(slots, topology, counts, layer_ids), certificate


def _choices(
    loads: NDArray[np.float64], machine: Machine, groups: int, effort: Effort
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return choices of a node for each group, [L, K, G], their bounds [L, K], and a bound for all choices, [L]."""
    num_layers, num_experts = loads.shape
    if machine.num_nodes == 1:
        return np.zeros((num_layers, 1, 1), dtype=np.int64), np.zeros((num_layers, 1)), np.zeros(num_layers)
    from eplb.kernels.known.groups import spread_layers
    from eplb.kernels.threads import over_layers

    choices = np.zeros((num_layers, effort.max_choices, groups), dtype=np.int64)
    bounds, floors = np.empty((num_layers, effort.max_choices)), np.empty(num_layers)
    args = (loads, num_experts // groups, machine.nodes, effort.max_visits, choices, bounds, floors)
    over_layers(spread_layers, num_layers, args)
    return choices, bounds, floors
