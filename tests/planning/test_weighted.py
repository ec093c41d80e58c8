"""Plans of known loads for the weighted split: sound, certified, and perfectly balanced wherever slots are enough."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eplb
from benchmarks.shapes import LOADS as BENCHMARK_LOADS
from benchmarks.shapes import SHAPES
from eplb import InfeasibleError, Topology
from tests import reference_split
from tests.planning.soundness import assert_every_expert_placed, assert_experts_distinct_on_ranks
from tests.planning.test_expected_optimality import any_placement
from tests.planning.test_optimality import tiny_case
from tests.planning.test_properties import LOAD, machines
from tests.planning.weighing import assert_certified, outlook_for

EFFORTS = ("fast", "balanced", "thorough")
LOADS = {
    "lognormal": lambda rng, size: rng.lognormal(0, 1, size),
    "wide": lambda rng, size: rng.lognormal(0, 4, size),
    "zipf": lambda rng, size: rng.permutation(1 / np.arange(1.0, size + 1)),
    "dirichlet": lambda rng, size: rng.dirichlet(np.full(size, 0.3)),
    "one hot expert": lambda rng, size: np.where(np.arange(size) == rng.integers(size), 1e6, 1.0),
    "one expert alone": lambda rng, size: np.where(np.arange(size) == rng.integers(size), 1.0, 0.0),
    "all equal": lambda rng, size: np.ones(size),
    "few values": lambda rng, size: rng.integers(0, 4, size),
    "many zeros": lambda rng, size: rng.random(size) * (rng.random(size) < 0.3),
}


def weighted(loads, topology, **options):
    return eplb.plan(loads, topology, split="weighted", **options)


def assert_perfect(plan):
    assert plan.certificate.per_layer.balancedness == pytest.approx(1.0, abs=1e-9)


# ---- whatever comes


@settings(deadline=None, max_examples=300)
@given(machine=machines(), size=st.integers(1, 4), effort=st.sampled_from(EFFORTS), data=st.data())
def test_plans_are_sound(machine, size, effort, data):
    """On any machine, of hostile loads, with groups or without: all experts are placed, and what is certified is so."""
    topology, groups = machine
    loads = [data.draw(st.lists(LOAD, min_size=groups * size, max_size=groups * size))]
    try:
        plan = weighted(loads, topology, groups=groups, effort=effort)
    except InfeasibleError:
        return
    assert_certified(plan, outlook_for(loads))
    if groups == 1:
        assert_experts_distinct_on_ranks(plan.placement.physical_to_logical, topology, size)


@settings(deadline=None, max_examples=150)
@given(machine=machines(), data=st.data(), cost=st.sampled_from([0.5, 3.0, 1e6]))
def test_the_certificate_counts_activated_slots(machine, data, cost):
    """Tokens go where few slots are active."""
    topology, groups = machine
    loads = [data.draw(st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=groups, max_size=groups))]
    try:
        plan = weighted(loads, topology, cost_per_activated_slot=cost)
    except InfeasibleError:
        return
    assert_certified(plan, outlook_for(loads, cost_per_activated_slot=cost))


def test_plans_that_know_what_slots_cost_are_better():
    """Over random loads with idle experts, beside plans that are told of tokens alone."""
    rng, topology, known, unknown = np.random.default_rng(0), Topology(num_ranks=3, slots_per_rank=3), 0.0, 0.0
    for _ in range(40):
        loads, options = [rng.lognormal(0, 1, 6) * (rng.random(6) < 0.6)], {"cost_per_activated_slot": 1.0}
        known += weighted(loads, topology, **options).certificate.largest_load
        placement = weighted(loads, topology).placement
        unknown += eplb.evaluate(placement, loads, "weighted", **options).largest_loads.sum()
    assert known < 0.98 * unknown


# ---- perfectly balanced


@pytest.mark.parametrize("effort", ["fast", "balanced"])
@pytest.mark.parametrize("kind", LOADS)
def test_known_loads_are_balanced_perfectly_with_slots_enough(kind, effort):
    """With E + R - 1 slots or more, equal ones, whatever the loads are: a theorem."""
    rng = np.random.default_rng(2026)
    for _ in range(40):
        num_ranks, num_experts = int(rng.integers(1, 12)), int(rng.integers(1, 40))
        enough = -(-(num_experts + num_ranks - 1) // num_ranks)
        topology = Topology(num_ranks=num_ranks, slots_per_rank=enough + int(rng.integers(0, 2)))
        plan = weighted([LOADS[kind](rng, num_experts)], topology, effort=effort)
        assert_perfect(plan)
        assert_every_expert_placed(plan.placement)


@pytest.mark.parametrize("loads", BENCHMARK_LOADS)
@pytest.mark.parametrize("name", ["v3-global", "qwen3", "kimi", "tiny"])
def test_deployed_shapes_are_balanced_perfectly(name, loads):
    """Those that are measured, by two layers: no rank has more to do than another."""
    shape = SHAPES[name]
    loads = BENCHMARK_LOADS[loads](np.random.default_rng(3), 2, shape.num_experts)
    plan = weighted(loads, shape.topology)
    assert_perfect(plan)
    times = eplb.evaluate(plan.placement, loads, "weighted").rank_loads[0]
    np.testing.assert_allclose(times, loads.sum(axis=1, keepdims=True).repeat(shape.num_ranks, 1) / shape.num_ranks)


def test_ranks_that_failed_do_not_count():
    """Six of eight ranks work, with slots enough between them."""
    topology = Topology(num_ranks=8, slots_per_rank=5, failed_ranks=[2, 7])
    for seed in range(10):
        plan = weighted(np.random.default_rng(seed).lognormal(0, 1, (2, 24)), topology)
        assert_perfect(plan)


def test_uneven_ranks_mostly_end_at_the_same_time():
    """With uneven slots and speeds nothing is promised; what there is to gain is found."""
    rng, balancedness = np.random.default_rng(5), []
    for _ in range(20):
        slots, speeds = rng.integers(5, 9, 6).tolist(), rng.choice([0.5, 1.0, 2.0], 6)
        topology = Topology(num_ranks=6, slots_per_rank=slots, rank_speeds=speeds)
        loads = [rng.lognormal(0, 1, 24)]
        plan = weighted(loads, topology)
        assert_certified(plan, outlook_for(loads))
        balancedness.append(plan.certificate.balancedness)
    assert np.mean(balancedness) > 0.999


# ---- better than even shares


@settings(deadline=None, max_examples=100)
@given(machine=machines(), size=st.integers(1, 4), effort=st.sampled_from(EFFORTS), data=st.data())
def test_no_plan_for_even_shares_is_better(machine, size, effort, data):
    """Not even if its replicas are then weighed."""
    topology, groups = machine
    loads = [data.draw(st.lists(LOAD, min_size=groups * size, max_size=groups * size))]
    try:
        even = eplb.plan(loads, topology, groups=groups, effort=effort)
    except InfeasibleError:
        return
    largest = weighted(loads, topology, groups=groups, effort=effort).certificate.largest_load
    assert (
        largest <= eplb.evaluate(even.placement, loads, "weighted").largest_loads.sum() * (1 + 1e-12) + 1e-300
    )  # denormals round


# ---- groups


def nodes_of_groups(row, topology, groups):
    """Return the node of each group, after checking that it has but one."""
    node_of_slot, size = topology.node_of_rank[topology.rank_of_slot], (row.max() + 1) // groups
    nodes = [set(node_of_slot[(row >= 0) & (row // size == group)].tolist()) for group in range(groups)]
    assert {len(mine) for mine in nodes} == {1}
    return np.array([mine.pop() for mine in nodes])


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    ("topology", "groups"),
    [
        (Topology(num_ranks=8, slots_per_rank=9, num_nodes=4), 8),
        (Topology(num_ranks=9, slots_per_rank=9, num_nodes=[0, 0, 1, 1, 1, 1, 2, 2, 2]), 8),
        (Topology(num_ranks=9, slots_per_rank=12, num_nodes=3, failed_ranks=[3, 4, 5]), 4),
    ],
    ids=["even", "unequal nodes", "a node failed"],
)
def test_a_group_stays_on_one_node(rng, topology, groups, effort):
    """With all replicas of its experts."""
    plan = weighted(rng.lognormal(0, 1, (3, 64)), topology, groups=groups, effort=effort)
    for row in plan.placement.physical_to_logical:
        assert nodes_of_groups(row, topology, groups).size == groups


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_nodes_with_slots_enough_are_balanced_perfectly(rng, effort):
    """Each in itself: the largest load is the mean of the node that has most to do."""
    topology = Topology(num_ranks=9, slots_per_rank=9, num_nodes=[0, 0, 1, 1, 1, 1, 2, 2, 2])
    loads = rng.lognormal(0, 1, (10, 64))
    plan = weighted(loads, topology, groups=8, effort=effort)
    for row, load, largest in zip(
        plan.placement.physical_to_logical, loads, plan.certificate.per_layer.largest_load, strict=True
    ):
        nodes = nodes_of_groups(row, topology, 8)
        means = np.bincount(nodes, load.reshape(8, 8).sum(axis=1), minlength=3) / [2, 4, 3]
        assert largest == pytest.approx(means.max(), rel=1e-9)


def test_no_grouping_of_a_tiny_case_is_better_than_the_bound():
    """Over all nodes of all groups, and all placements there."""
    rng, tried, found = np.random.default_rng(4), 0, 0
    while tried < 30:
        loads, topology, groups = tiny_case(rng, "grouped")
        if loads.shape[1] > 4:
            continue
        try:
            certificate = weighted(loads, topology, groups=groups, effort="thorough").certificate
        except InfeasibleError:
            continue
        best = min(
            least_of_all(loads[0], topology, homes=np.repeat(nodes, loads.shape[1] // groups))
            for nodes in itertools.product(range(topology.node_count), repeat=groups)
        )
        if np.isinf(best):  # groups so uneven that some rank must hold an expert twice
            continue
        tried += 1
        assert certificate.lower_bound <= best * (1 + 1e-9)
        assert best <= certificate.largest_load * (1 + 1e-9)
        found += certificate.largest_load <= best * (1 + 1e-9)
    assert found >= 0.8 * tried


# ---- the optimum


def least_of_all(loads, topology, **options):
    """Return the least largest load of any placement, by trying them all."""
    return reference_split.expected_optimum(np.asarray(loads)[:, None], np.ones(1), topology, **options)


@pytest.mark.parametrize("kind", ["even", "uneven", "speeds"])
def test_the_bound_never_exceeds_the_optimum_and_plans_come_close(kind):
    """Over many tiny cases: bound <= optimum <= plan, which is optimal in at least 95% of them."""
    rng, tried, found = np.random.default_rng(2026), 0, 0
    while tried < 60:
        loads, topology, _ = tiny_case(rng, kind)
        if loads.shape[1] > 4:
            continue
        tried += 1
        certificate = weighted(loads, topology).certificate
        best = least_of_all(loads[0], topology)
        assert certificate.lower_bound <= best * (1 + 1e-9)
        assert best <= certificate.largest_load * (1 + 1e-9)
        found += certificate.largest_load <= best * (1 + 1e-9)
    assert found >= 0.95 * tried


def test_one_replica_less_than_enough_may_be_too_few():
    """Three ranks of equal experts, and no slot to spare: the fullest rank has two, and the bound is the mean."""
    certificate = weighted([[1.0] * 4], Topology(num_ranks=3, slots_per_rank=[2, 1, 1])).certificate
    assert (certificate.largest_load, certificate.lower_bound) == (2.0, 2.0)


# ---- what else


def test_a_layer_of_zeros_is_planned_as_uniform():
    """No load: the replicas are spread, and 0 out of 0 is balanced."""
    plan = weighted([[0, 0, 0, 0], [1, 2, 3, 4]], Topology(num_ranks=2, slots_per_rank=4))
    assert plan.placement.replica_counts[0].tolist() == [2, 2, 2, 2]
    assert plan.certificate.per_layer.balancedness.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**-30, 2.0**60, 2.0**1000])
def test_plans_do_not_depend_on_the_unit_of_the_loads(rng, scale):
    """A power of two changes nothing but the unit."""
    loads, topology = rng.lognormal(0, 1, (3, 16)), Topology(num_ranks=4, slots_per_rank=[5, 4, 5, 4])
    plan, scaled = weighted(loads, topology), weighted(loads * scale, topology)
    assert plan.placement == scaled.placement
    assert plan.certificate.largest_load * scale == scaled.certificate.largest_load


def test_a_plan_of_one_layer_is_that_of_the_layer_among_others(rng):
    """Layers know nothing of each other, but for the seed of disturbances."""
    loads, topology = rng.lognormal(0, 1, (4, 16)), Topology(num_ranks=4, slots_per_rank=[5, 4, 5, 4])
    whole = weighted(loads, topology, effort="fast").placement.physical_to_logical
    for layer in range(4):
        alone = weighted(loads[[layer]], topology, effort="fast").placement.physical_to_logical
        np.testing.assert_array_equal(alone[0], whole[layer])


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_plan_is_as_good_for_a_placement_in_force(rng, effort):
    """From any placement, free moves lead to what a new plan reaches; where nothing is gained, nothing moves."""
    topology = Topology(num_ranks=3, slots_per_rank=4)
    for _ in range(20):
        loads, previous = [rng.lognormal(0, 1, 8)], any_placement(rng, topology, 8)
        plan = weighted(loads, topology, previous=previous, move_cost=0, effort=effort)
        assert (
            plan.certificate.largest_load <= weighted(loads, topology, effort=effort).certificate.largest_load * 1.001
        )
        assert weighted(loads, topology, previous=plan.placement, effort=effort).moves == 0
