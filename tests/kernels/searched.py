"""Random layers that the searches of the planner are tried on, for the even and for the weighted split."""

import numpy as np
from hypothesis import strategies as st

from eplb import Topology
from eplb.kernels.split.windows import improve_split_layers, time_split_layers
from eplb.kernels.windows.layers import improve_layers, time_layers
from tests import reference, reference_split

UNLIMITED = 2**62
MAX_STEPS = 60
SEEDS = st.integers(0, 2**32 - 1)


def distinct_slots(rng, num_experts, slots):
    """Return slots in which every expert is placed and no rank holds one twice."""
    while True:
        row = np.concatenate([rng.choice(num_experts, size, replace=False) for size in slots])
        if len(set(row.tolist())) == num_experts:
            return row


class WindowLayer:
    """One random layer on a random machine: its scenarios, what ranks hold and held, and the arguments of the kernels.

    With `distinct`, ranks hold an expert once and start with what they held, as plans on one machine do.
    """

    improving, timing = staticmethod(improve_layers), staticmethod(time_layers)

    def __init__(self, seed, distinct=False):
        rng = np.random.default_rng(seed)
        num_ranks, num_scenarios = int(rng.integers(2, 6)), int(rng.integers(1, 5))
        slots = rng.integers(1, 4, num_ranks).tolist()
        speeds = rng.choice([0.5, 1.0, 2.0], num_ranks).tolist()
        self.topology = Topology(num_ranks=num_ranks, slots_per_rank=slots, rank_speeds=speeds, num_nodes=2)
        self.num_experts = int(rng.integers(max(slots), self.topology.num_slots + 1))
        shape = (self.num_experts, num_scenarios)
        self.loads = [rng.lognormal(0, 1, shape), rng.integers(0, 4, shape).astype(float)][int(rng.integers(2))]
        self.extras = rng.choice([0.0, 0.5], shape)
        self.weights = reference.recency_weights(num_scenarios, 0.8)
        spare = rng.integers(0, self.num_experts, self.topology.num_slots - self.num_experts)
        self.slots = rng.permutation(np.concatenate([np.arange(self.num_experts), spare]))
        self.held = rng.integers(-1, self.num_experts, self.topology.num_slots)
        if distinct:
            self.slots = self.held = distinct_slots(rng, self.num_experts, slots)
        self.homes = np.full((1, 1), -1)

    @property
    def machine(self):
        topology = self.topology
        held = (self.homes, self.held[None], topology.slot_offsets.copy())
        scenarios = (self.loads[None], self.extras[None], self.weights)
        return (*scenarios, topology.slot_offsets.copy(), 1 / topology.speeds, topology.node_of_rank.copy(), *held)

    def improve(
        self, price=0.0, max_moves=UNLIMITED, max_received=UNLIMITED, regrants=True, target=0.0, least_gain=0.0
    ):
        """Return the steps of the search, and the expected time and the moves before and after each of them."""
        limits = np.array([max_moves, max_received, regrants, 1000], dtype=np.int64)
        steps, num_steps = np.zeros((1, MAX_STEPS, 2), dtype=np.int64), np.zeros(1, dtype=np.int64)
        times, moves = np.zeros((1, MAX_STEPS + 1)), np.zeros((1, MAX_STEPS + 1), dtype=np.int64)
        options = (np.array([target]), np.array([price]), *self.gains(least_gain), limits, self.slots[None].copy())
        self.improving(0, 1, *self.machine, *options, steps, num_steps, times, moves)
        done = int(num_steps[0])
        return steps[0, :done], times[0, : done + 1], moves[0, : done + 1]

    def timed(self):
        """Return the expected time of the slots as they are, the moves, and what each rank receives."""
        times, moves = np.empty(1), np.empty(1, dtype=np.int64)
        received = np.empty((1, self.topology.num_ranks), dtype=np.int64)
        self.timing(0, 1, *self.machine, self.slots[None].copy(), times, moves, received)
        return times[0], moves[0], received[0].tolist()

    def gains(self, least_gain):
        """Return the further arguments of the kernel."""
        return ()

    def times_of(self, slots, s):
        extras = reference.slot_costs(slots, self.extras[:, s], self.topology)
        return reference.rank_times(slots, self.loads[:, s], self.topology) + extras

    def time_of(self, slots):
        return reference.expected_time(slots, self.loads, self.weights, self.topology, self.extras)

    def received_by(self, slots):
        return reference.received(slots, self.topology, reference.held_by(self.held, self.topology))


class SplitLayer(WindowLayer):
    """A random layer, searched for the weighted split."""

    improving, timing = staticmethod(improve_split_layers), staticmethod(time_split_layers)

    def gains(self, least_gain):
        return (np.array([least_gain]),)

    def time_of(self, slots):
        return reference_split.expected_level(slots, self.loads, self.weights, self.topology, self.extras)
