"""The machines that the weighted split is measured on, and the measure: how much of the imbalance is gone."""

from __future__ import annotations

from eplb import Topology

MACHINES = {"8 x 5": (8, 5), "16 x 3": (16, 3), "32 x 2": (32, 2)}
EXPERTS = 32  # that the slots of these machines are meant for


def topology_for(machine: str, num_experts: int) -> Topology:
    """Return the machine called so, with slots in proportion to the experts."""
    num_ranks, slots_per_rank = MACHINES[machine]
    return Topology(num_ranks=num_ranks, slots_per_rank=-(-slots_per_rank * num_experts // EXPERTS))


def gone(balancedness: float, reference: float) -> float:
    """Return the share of the imbalance at `reference` that is gone at `balancedness`; below 0 if there is more."""
    return 1.0 - (1.0 - balancedness) / (1.0 - reference) if reference < 1.0 else 0.0
