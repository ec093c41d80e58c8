"""Traces and policies that remember what they were asked, or refuse to be asked too much; and how replays compare."""

import numpy as np

import eplb
from eplb.replay.policies import placed_in_order

TOPOLOGY = eplb.Topology(num_ranks=4, slots_per_rank=3)


def random_trace(num_windows=14, num_layers=2, num_experts=8, seed=0):
    """Return loads far from balance, which change from window to window."""
    loads = np.random.default_rng(seed).integers(1, 1000, (num_windows, num_layers, num_experts))
    return eplb.LoadTrace(loads=loads, layer_ids=[4, 9][:num_layers], model="model")


def assert_equal_but_for_time(found, expected):
    """Two replays agree on everything that no clock decides."""
    for name in ("balancedness", "balancedness_per_layer", "moves", "received"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("policy", "split", "first_moves", "placement", "activated_experts", "worst_window"):
        assert getattr(found, name) == getattr(expected, name)


class Store:
    """A trace that is no `LoadTrace`: it hands out parts, remembers which, and can refuse some."""

    def __init__(self, trace, refuse=lambda first, last: False):
        self.num_windows, self.num_layers, self.num_experts = trace.loads.shape
        self.parts = []
        self._trace, self._refuse = trace, refuse

    def part(self, first, last):
        assert not self._refuse(first, last), f"read {first} to {last}"
        self.parts.append((first, last))
        return self._trace.part(first, last)


class Recorder:
    """A policy that gives the plan of its newest window and remembers all that it was given."""

    name = "recorder"

    def __init__(self):
        self.histories, self.previous, self.max_moves, self.placements = [], [], [], []

    def place(self, history, topology, previous, max_moves):
        self.histories.append(history.loads)
        self.previous.append(previous)
        self.max_moves.append(max_moves)
        self.placements.append(eplb.plan(history.loads[-1], topology).placement)
        return self.placements[-1]


class Fixed:
    """A policy that returns one thing, whatever it is."""

    name = "fixed"

    def __init__(self, result):
        self.result = result

    def place(self, history, topology, previous, max_moves):
        return self.result


class Reversing:
    """A policy that turns the experts in order around, and back, at each plan."""

    name = "reversing"

    def place(self, history, topology, previous, max_moves):
        placement = placed_in_order(topology, history.num_layers, history.num_experts)
        if previous is None or not np.array_equal(previous.physical_to_logical, placement.physical_to_logical):
            return placement
        return eplb.Placement(physical_to_logical=placement.physical_to_logical[:, ::-1], topology=topology)
