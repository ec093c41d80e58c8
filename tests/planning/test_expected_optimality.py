"""Plans for several windows and within budgets of moves, and their bound, against brute force on tiny cases."""

import numpy as np
import pytest

import eplb
from eplb import Placement, Topology
from tests.planning.soundness import assert_certified, extras_of, outlook_for
from tests.reference import expected_optimum, held_by

CASES = 60


def tiny_case(rng):
    """Return loads [T, 1, E] and a topology, small enough for brute force."""
    while True:
        num_ranks, num_experts = int(rng.integers(2, 4)), int(rng.integers(2, 5))
        slots = rng.integers(1, 4, num_ranks).tolist()
        if rng.random() < 0.5:
            slots = [slots[0]] * num_ranks
        if sum(slots) < num_experts or max(slots) > num_experts:
            continue
        speeds = rng.choice([0.5, 1.0, 2.0], num_ranks).tolist() if rng.random() < 0.3 else None
        shape = (int(rng.integers(2, 5)), 1, num_experts)
        loads = [rng.integers(0, 20, shape), rng.lognormal(0, 1, shape), rng.pareto(1, shape)][int(rng.integers(3))]
        return loads.astype(np.float64), Topology(num_ranks=num_ranks, slots_per_rank=slots, rank_speeds=speeds)


def any_placement(rng, topology, num_experts):
    """Return a placement of one layer with distinct experts on every rank, at random."""
    while True:
        row = np.concatenate([rng.choice(num_experts, size, replace=False) for size in topology.slot_counts])
        if len(set(row.tolist())) == num_experts:
            return Placement(physical_to_logical=[row], topology=topology, num_experts=num_experts)


def optimum_of(outlook, topology, previous=None, **limits):
    """Return the least expected largest load of the only layer, in tokens."""
    before = None if previous is None else held_by(previous.physical_to_logical[0], topology)
    best = expected_optimum(
        outlook.scenarios[0], outlook.weights, topology, extras_of(outlook, 0), before=before, **limits
    )
    return float(outlook.unscaled(np.array([best]))[0])


@pytest.mark.parametrize("cost", [0.0, 2.0], ids=["tokens", "activated slots too"])
def test_the_bound_is_below_the_optimum_and_thorough_comes_close(cost):
    """Over many tiny cases: bound <= optimum <= plan, which is optimal in most of them."""
    rng, found, excess = np.random.default_rng(11), 0, []
    for _ in range(CASES):
        loads, topology = tiny_case(rng)
        plan = eplb.plan(loads, topology, effort="thorough", cost_per_activated_slot=cost)
        outlook = outlook_for(loads, cost_per_activated_slot=cost)
        best = optimum_of(outlook, topology)
        assert_certified(plan, outlook)
        assert plan.certificate.lower_bound <= best * (1 + 1e-9)
        assert best <= plan.certificate.largest_load * (1 + 1e-9)
        excess.append(plan.certificate.largest_load / best if best > 0 else 1.0)
        found += excess[-1] <= 1 + 1e-9
    print(found, np.mean(excess), np.max(excess))
    assert found >= 0.8 * CASES


@pytest.mark.parametrize("limit", ["max_moves", "max_moves_per_rank"])
def test_within_a_budget_no_placement_is_better_in_most_cases(limit):
    """Over tiny cases with 0 to 3 moves: a plan is never better than the best within them, and mostly equals it."""
    rng, found, excess = np.random.default_rng(12), 0, []
    for _ in range(CASES):
        loads, topology = tiny_case(rng)
        previous = any_placement(rng, topology, loads.shape[2])
        most = int(rng.integers(0, 4))
        plan = eplb.plan(loads, topology, previous=previous, effort="thorough", move_cost=0.0, **{limit: most})
        outlook = outlook_for(loads)
        brute = {"max_moves": "max_moves", "max_moves_per_rank": "max_received"}[limit]
        best = optimum_of(outlook, topology, previous, **{brute: most})
        assert_certified(plan, outlook)
        assert plan.certificate.lower_bound <= optimum_of(outlook, topology) * (1 + 1e-9)
        assert best <= plan.certificate.largest_load * (1 + 1e-9)
        excess.append(plan.certificate.largest_load / best if best > 0 else 1.0)
        found += excess[-1] <= 1 + 1e-9
    print(found, np.mean(excess), np.max(excess))
    assert found >= 0.6 * CASES
