"""The bound and the plan against brute force on tiny cases."""

from math import comb, prod

import numpy as np
import pytest

import eplb
from eplb import InfeasibleError, Topology
from eplb.kernels.known.bounds import close_bound, simple_bound
from eplb.kernels.known.cell import start_cell
from tests.planning.soundness import assert_sound
from tests.reference import optimum

CASES = 60
SIZES = 30_000  # placements that brute force looks through


def tiny_case(rng, kind):
    """Return loads [1, E], a topology and groups, small enough for brute force."""
    while True:
        num_ranks, num_experts = int(rng.integers(2, 5)), int(rng.integers(2, 7))
        slots = [int(rng.integers(1, 4))] * num_ranks if kind == "even" else rng.integers(1, 4, num_ranks).tolist()
        groups, nodes, speeds = 1, 1, None
        if kind == "speeds":
            speeds = rng.choice([0.5, 1.0, 1.5, 2.0], num_ranks).tolist()
        if kind == "grouped":
            nodes = int(rng.integers(2, num_ranks + 1))
            groups = int(rng.choice([g for g in range(2, num_experts + 1) if num_experts % g == 0]))
        if sum(slots) < num_experts or max(slots) > num_experts or prod(comb(num_experts, s) for s in slots) > SIZES:
            continue
        topology = Topology(num_ranks=num_ranks, slots_per_rank=slots, num_nodes=nodes, rank_speeds=speeds)
        shapes = (rng.integers(0, 20, num_experts), rng.lognormal(0, 1, num_experts), rng.pareto(1, num_experts))
        return np.asarray(shapes[int(rng.integers(3))], dtype=np.float64)[None], topology, groups


@pytest.mark.parametrize("kind", ["even", "uneven", "speeds", "grouped"])
def test_the_bound_never_exceeds_the_optimum_and_thorough_finds_it(kind):
    """Over many tiny cases: bound <= optimum <= plan, and thorough is optimal in at least 95% of them."""
    rng = np.random.default_rng(2026)
    found, tried = 0, 0
    while tried < CASES:
        loads, topology, groups = tiny_case(rng, kind)
        try:
            plan = eplb.plan(loads, topology, groups=groups, effort="thorough")
        except InfeasibleError:
            continue
        best = optimum(loads[0], topology, groups)
        if np.isinf(best):  # groups so uneven that some rank must hold an expert twice
            continue
        tried += 1
        certificate = plan.certificate
        assert_sound(plan, loads, topology)
        assert certificate.lower_bound <= best * (1 + 1e-9)
        assert best <= certificate.largest_load * (1 + 1e-9)
        found += certificate.largest_load <= best * (1 + 1e-9)
    assert found >= 0.95 * CASES


def simple(loads, topology):
    """Return max(W / R, D(P)): the levelled load, and the least largest average on the fastest rank."""
    loads = np.asarray(loads, dtype=np.float64)
    counts = np.ones(loads.size)
    for _ in range(topology.num_slots - loads.size):
        counts[np.argmax(loads / counts)] += 1
    return max(loads.sum() / topology.speeds.sum(), (loads / counts).max() / topology.speeds.max())


@pytest.mark.parametrize(
    ("loads", "topology", "groups"),
    [
        ([10, 10, 1, 1, 8, 8], Topology(num_ranks=4, slots_per_rank=2, num_nodes=2), 3),
        ([1] * 12, Topology(num_ranks=2, slots_per_rank=[1, 11]), 1),
        ([6, 6, 6, 1], Topology(num_ranks=4, slots_per_rank=1, rank_speeds=[1, 1, 1, 4]), 1),
        ([9, 4, 4, 4, 4], Topology(num_ranks=3, slots_per_rank=2), 1),
    ],
    ids=["grouped", "uneven", "speeds", "company of the heaviest"],
)
def test_the_bound_beats_the_simple_one(loads, topology, groups):
    """Groups, uneven slots, speeds and the company of heavy replicas each lift the bound, and it stays sound."""
    bound = eplb.plan([loads], topology, groups=groups, effort="thorough").certificate.lower_bound
    assert bound > simple(loads, topology) * 1.01
    assert bound <= optimum(loads, topology, groups) * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["even", "uneven", "speeds"])
def test_every_bound_holds_by_itself(kind, compiled):
    """The bounds of a cell, unclamped and given any reachable time, stay at or below the optimum."""
    rng = np.random.default_rng(7)
    for _ in range(CASES):
        loads, topology, _ = tiny_case(rng, kind)
        best = optimum(loads[0], topology)
        if best == 0:
            continue
        cell = compiled(start_cell)(loads[0], topology.slot_offsets.copy(), 1 / topology.speeds)
        heaviest = (cell.loads / cell.counts).max()
        assert compiled(simple_bound)(cell) <= best * (1 + 1e-9)
        for reached in (best, 1.5 * best, 4 * best):
            bound = compiled(close_bound)(cell.loads, cell.offsets, cell.costs, heaviest, reached)
            assert bound <= best * (1 + 1e-9)
