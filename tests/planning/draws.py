"""What hypothesis draws: machines, loads over windows, and placements that were in force."""

import numpy as np
from hypothesis import strategies as st

from eplb import Placement, Topology

LOAD = st.one_of(
    st.integers(0, 9).map(float),
    st.floats(0, 1e6, allow_subnormal=True),
    st.sampled_from([0.0, 1e-300, 1.0, 1e18, 1e300]),
)
SPEED = st.sampled_from([0.5, 1.0, 1.5, 4.0])
LAYERS = 2


@st.composite
def topologies(draw, num_experts):
    """Draw a machine with slots for so many experts: uneven slots, speeds, nodes and failed ranks."""
    num_ranks = draw(st.integers(1, 5))
    slots = draw(st.lists(st.integers(1, 4), min_size=num_ranks, max_size=num_ranks))
    failed = draw(st.sets(st.integers(0, num_ranks - 1), max_size=num_ranks - 1))
    working = next(rank for rank in range(num_ranks) if rank not in failed)
    slots[working] += max(0, num_experts - sum(n for rank, n in enumerate(slots) if rank not in failed))
    return Topology(
        num_ranks=num_ranks,
        slots_per_rank=slots,
        num_nodes=draw(st.integers(1, num_ranks)),
        rank_speeds=draw(st.none() | st.lists(SPEED, min_size=num_ranks, max_size=num_ranks)),
        failed_ranks=failed,
    )


@st.composite
def placements(draw, num_experts, topology, num_layers=LAYERS):
    """Draw any placement of all experts: the rest of the slots hold whatever, twice on a rank too."""
    usable = np.flatnonzero(topology.alive[topology.rank_of_slot])
    slots = np.full((num_layers, topology.num_slots), -1)
    for row in slots:
        rest = draw(
            st.lists(
                st.integers(0, num_experts - 1),
                min_size=usable.size - num_experts,
                max_size=usable.size - num_experts,
            )
        )
        row[draw(st.permutations(usable.tolist()))] = [*range(num_experts), *rest]
    return Placement(physical_to_logical=slots, topology=topology, num_experts=num_experts)


@st.composite
def histories(draw, num_experts, num_layers=LAYERS):
    """Draw loads [T, L, E] of one to three windows."""
    shape = (draw(st.integers(1, 3)), num_layers, num_experts)
    size = shape[0] * shape[1] * shape[2]
    return np.array(draw(st.lists(LOAD, min_size=size, max_size=size))).reshape(shape)


@st.composite
def replans(draw, same_machine=False):
    """Draw loads, the machine to plan for, and the placement in force, maybe on another machine."""
    num_experts = draw(st.integers(1, 6))
    topology = draw(topologies(num_experts))
    before = topology if same_machine or draw(st.booleans()) else draw(topologies(num_experts))
    return draw(histories(num_experts)), topology, draw(placements(num_experts, before))


LIMITS = st.fixed_dictionaries(
    {
        "max_moves": st.none() | st.integers(0, 12),
        "max_moves_per_rank": st.none() | st.integers(0, 4),
        "move_cost": st.none() | st.sampled_from([0.0, 0.5, 100.0]),
        "effort": st.sampled_from(["fast", "balanced", "thorough"]),
    }
)
