"""Plans for the weighted split of what is to come: certified, within limits, and made to need few moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eplb
from eplb import InfeasibleError, Placement, Topology
from tests import reference_split
from tests.planning.draws import LIMITS, histories, placements, replans, topologies
from tests.planning.soundness import (
    assert_every_expert_placed,
    assert_experts_distinct_on_ranks,
    assert_within,
    extras_of,
)
from tests.planning.test_elastic import lost_on
from tests.planning.test_expected_optimality import any_placement, tiny_case
from tests.planning.weighing import assert_certified, expected_levels, outlook_for
from tests.reference import held_by

EFFORTS = ("fast", "balanced", "thorough")
TOPOLOGY = Topology(num_ranks=4, slots_per_rank=5)


@pytest.fixture
def loads(rng):
    return rng.lognormal(0, 1, (4, 16)) * 1000


@pytest.fixture
def previous(loads):
    return weighted(loads, effort="thorough").placement


def weighted(loads, topology=TOPOLOGY, **options):
    return eplb.plan(loads, topology, split="weighted", **options)


def drifting(seed, num_windows=40, num_layers=2, num_experts=16):
    """Return loads [T, L, E] whose logarithms walk at random around their mean, and jitter."""
    rng = np.random.default_rng(seed)
    walk = np.zeros((num_windows, num_layers, num_experts))
    for t in range(1, num_windows):
        walk[t] = 0.9 * walk[t - 1] + rng.normal(0, 0.3, walk[t].shape)
    return np.exp(rng.normal(0, 0.7, walk.shape[1:]) + walk + rng.normal(0, 0.1, walk.shape))


# ---- whatever comes


@settings(deadline=None, max_examples=200)
@given(data=st.data(), effort=st.sampled_from(EFFORTS), cost=st.sampled_from([0.0, 0.0, 2.0]))
def test_plans_are_sound_on_any_windows(data, effort, cost):
    """Every expert is placed, distinct on ranks; the certificate is that of the exact split of each scenario."""
    num_experts = data.draw(st.integers(1, 6))
    topology, loads = data.draw(topologies(num_experts)), data.draw(histories(num_experts))
    loads = (
        np.minimum(loads, 1e6) * (loads >= 1) if cost else loads
    )  # a cost is no news beside 1e300, nor beside 1e-300
    options = {
        "recency": data.draw(st.sampled_from([1.0, 0.5])),
        "horizon": data.draw(st.sampled_from([1, 2, 9])),
        "cost_per_activated_slot": cost,
    }
    plan = weighted(loads, topology, effort=effort, **options)
    assert_experts_distinct_on_ranks(plan.placement.physical_to_logical, topology, num_experts)
    assert_certified(plan, outlook_for(loads, **options))


@pytest.mark.filterwarnings("ignore:eplb. max_moves or max_moves_per_rank are too few:RuntimeWarning")
@settings(deadline=None, max_examples=250)
@given(replan=replans(), limits=LIMITS)
def test_limits_hold_on_any_machine(replan, limits):
    """Moves stay within both limits and are counted right, all experts are placed; or the new machine needs more."""
    loads, topology, previous = replan
    limited = (limits["max_moves"], limits["max_moves_per_rank"])
    try:
        plan = weighted(loads, topology, previous=previous, **limits)
    except InfeasibleError:
        assert previous.topology != topology
        assert limited != (None, None)
        return
    assert_within(plan, previous, *limited)
    assert_certified(plan, outlook_for(loads))
    assert plan.certificate.ignores_budget == (limited != (None, None))


@settings(deadline=None, max_examples=250)
@given(replan=replans(same_machine=True), limits=LIMITS)
def test_the_expected_load_never_rises(replan, limits):
    """On the same machine, a plan is at least as good as the placement that it starts from, whose load it tells."""
    loads, topology, previous = replan
    plan = weighted(loads, topology, previous=previous, **limits)
    assert plan.certificate.largest_load <= plan.largest_load_before * (1 + 1e-12)
    before = expected_levels(previous, outlook_for(loads)).sum()
    assert plan.largest_load_before == pytest.approx(before, rel=1e-9)
    assert plan.restored.shape == (0, 2)


@settings(deadline=None, max_examples=100)
@given(replan=replans())
def test_what_no_rank_holds_any_more_is_restored(replan):
    """On any other machine: all that was lost is placed again, and said to be."""
    loads, topology, previous = replan
    old = previous.topology
    stay = [r for r in range(min(topology.num_ranks, old.num_ranks)) if topology.alive[r] and old.alive[r]]
    plan = weighted(loads, topology, previous=previous)
    restored = plan.restored.tolist()
    assert all(lost in restored for lost in lost_on(set(range(old.num_ranks)) - set(stay), previous))
    assert_every_expert_placed(plan.placement)


# ---- the optimum


def optimum_of(outlook, topology, previous=None, **limits):
    """Return the least expected largest load of the only layer, in tokens."""
    before = None if previous is None else held_by(previous.physical_to_logical[0], topology)
    scenarios, extras = outlook.scenarios[0], extras_of(outlook, 0)
    options = {"before": before, **limits}
    best = reference_split.expected_optimum(scenarios, outlook.weights, topology, extras, **options)
    return float(outlook.unscaled(np.array([best]))[0])


@pytest.mark.parametrize("effort", ["balanced", "thorough"])
def test_the_bound_is_below_the_optimum_and_plans_come_close(effort):
    """Over many tiny cases: bound <= optimum <= plan, which is optimal in most of them."""
    rng, found = np.random.default_rng(11), 0
    for _ in range(60):
        loads, topology = tiny_case(rng)
        plan, outlook = weighted(loads, topology, effort=effort), outlook_for(loads)
        best = optimum_of(outlook, topology)
        assert_certified(plan, outlook)
        assert plan.certificate.lower_bound <= best * (1 + 1e-9)
        assert best <= plan.certificate.largest_load * (1 + 1e-9)
        found += plan.certificate.largest_load <= best * (1 + 1e-9)
    assert found >= 0.9 * 60


def test_the_bound_holds_where_slots_cost():
    """Over tiny cases: bound <= optimum <= plan."""
    rng = np.random.default_rng(13)
    for _ in range(40):
        loads, topology = tiny_case(rng)
        certificate = weighted(loads, topology, cost_per_activated_slot=2.0).certificate
        best = optimum_of(outlook_for(loads, cost_per_activated_slot=2.0), topology)
        assert certificate.lower_bound <= best * (1 + 1e-9)
        assert best <= certificate.largest_load * (1 + 1e-9)


@pytest.mark.parametrize(("limit", "brute"), [("max_moves", "max_moves"), ("max_moves_per_rank", "max_received")])
def test_within_a_budget_no_placement_is_better_in_most_cases(limit, brute):
    """Over tiny cases with 0 to 3 moves: a plan is never better than the best within them, and mostly equals it."""
    rng, found = np.random.default_rng(12), 0
    for _ in range(60):
        loads, topology = tiny_case(rng)
        previous, most = any_placement(rng, topology, loads.shape[2]), int(rng.integers(0, 4))
        options = {"effort": "thorough", "move_cost": 0.0, limit: most}
        certificate = weighted(loads, topology, previous=previous, **options).certificate
        best = optimum_of(outlook_for(loads), topology, previous, **{brute: most})
        assert best <= certificate.largest_load * (1 + 1e-9)
        found += certificate.largest_load <= best * (1 + 1e-9)
    assert found >= 0.6 * 60


# ---- moves that pay


def test_a_move_is_made_if_it_saves_more_than_it_costs():
    """Experts 0 and 1 are hot together: to swap 1 and 2 takes two moves and saves 4 tokens, 2 for each."""
    topology = Topology(num_ranks=2, slots_per_rank=2)
    previous = Placement(physical_to_logical=[[0, 1, 2, 3]], topology=topology)
    moves = [
        weighted([[9, 5, 1, 1]], topology, previous=previous, move_cost=cost, horizon=horizon).moves
        for cost, horizon in ((1.9, 1), (2.1, 1), (19, 10), (21, 10))
    ]
    assert moves == [2, 0, 2, 0]


def test_the_same_loads_move_nothing(loads, previous):
    """Nor with windows that are all alike."""
    assert weighted(loads, previous=previous).placement == previous
    assert weighted(np.stack([loads] * 5), previous=previous).placement == previous


@pytest.mark.parametrize("num_windows", [1, 8])
@pytest.mark.parametrize(
    "topology",
    [TOPOLOGY, Topology(num_ranks=4, slots_per_rank=[7, 5, 5, 6], rank_speeds=[2, 1, 1, 1])],
    ids=["even", "uneven"],
)
def test_noise_of_one_percent_moves_nothing(rng, topology, num_windows):
    """The split takes it in."""
    for _ in range(10):
        planned = rng.lognormal(0, 1, (4, 16)) * 1000
        previous = weighted(planned, topology).placement
        noisy = planned * rng.lognormal(0, 0.01, (num_windows, *planned.shape))
        assert weighted(noisy, topology, previous=previous).placement == previous


def test_a_layer_that_changes_moves_alone(rng, loads, previous):
    """The others, with 1% of noise, stay as they are."""
    noisy = loads * rng.lognormal(0, 0.01, loads.shape)
    noisy[3] = loads[3, ::-1]
    moves = previous.moves_to(weighted(noisy, previous=previous).placement)
    assert set(moves[:, 0].tolist()) == {3}


def test_more_moves_are_never_worse(rng, loads, previous):
    """The expected load falls with the limit."""
    changed = loads[:, ::-1] * rng.lognormal(0, 0.5, (5, *loads.shape))
    largest = [
        weighted(changed, previous=previous, max_moves=most, move_cost=0).certificate.largest_load
        for most in (0, 2, 4, 8, 16, 1000)
    ]
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] < 0.95 * largest[0]


def test_loads_that_were_turned_round_are_caught_up_with(loads, previous):
    """In one step without limits; within limits in several, each no worse than the one before."""
    changed = loads[:, ::-1]
    fresh = weighted(changed, previous=previous).certificate
    assert fresh.balancedness > 0.98
    placement, largest = previous, []
    for _ in range(12):
        plan = weighted(changed, previous=placement, max_moves=8, max_moves_per_rank=3)
        assert_within(plan, placement, 8, 3)
        placement = plan.placement
        largest.append(plan.certificate.largest_load)
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] <= 1.02 * fresh.largest_load


# ---- another machine


@pytest.mark.parametrize(
    ("machine", "gone"),
    [
        (Topology(num_ranks=4, slots_per_rank=5, failed_ranks=[2]), {2}),
        (Topology(num_ranks=3, slots_per_rank=6), {3}),
        (Topology(num_ranks=4, slots_per_rank=[5, 12, 5, 5], failed_ranks=[0, 2]), {0, 2}),
    ],
    ids=["a rank failed", "a rank was taken away", "two failed and another grew"],
)
def test_what_stood_on_lost_ranks_alone_is_restored(rng, machine, gone):
    """Exactly that; all have a replica again."""
    loads = rng.lognormal(0, 1, (3, 14))
    previous = weighted(loads).placement
    plan = weighted(loads, machine, previous=previous)
    assert plan.restored.tolist() == lost_on(gone, previous) != []
    assert_certified(plan, outlook_for(loads))
    assert_within(plan, previous)


def test_a_new_rank_takes_its_share(loads, previous):
    """It is filled by moves that pay."""
    machine = Topology(num_ranks=5, slots_per_rank=5)
    plan = weighted(loads, machine, previous=previous)
    assert plan.certificate.balancedness > 0.99
    assert plan.restored.size == 0


@pytest.mark.parametrize("limits", [{}, {"max_moves": 6}, {"move_cost": 0.0}, {"max_moves_per_rank": 1}], ids=str)
def test_groups_stay_on_one_node(rng, loads, limits):
    """However the loads change, from moves that pay or a new plan that takes the place of a layer."""
    topology = Topology(num_ranks=4, slots_per_rank=5, num_nodes=2)
    grouped = weighted(loads, topology, groups=4).placement
    node_of_slot = topology.node_of_rank[topology.rank_of_slot]
    for _ in range(5):
        plan = weighted(rng.permuted(loads, axis=1), topology, groups=4, previous=grouped, **limits)
        for row in plan.placement.physical_to_logical:
            assert [len(set(node_of_slot[row // 4 == group].tolist())) for group in range(4)] == [1] * 4
        assert plan.certificate.largest_load <= plan.largest_load_before * (1 + 1e-12)


# ---- what it is worth


@pytest.mark.parametrize("seed", range(5))
def test_windows_that_are_held_out_are_balanced_better_than_by_a_plan_for_even_shares(seed):
    """Both planned for the same windows, both split exactly on later ones; the plan that knew of it is ahead."""
    loads, topology = drifting(seed), Topology(num_ranks=8, slots_per_rank=3)
    ours, even = (eplb.plan(loads[:24], topology, split=split).placement for split in ("weighted", "even"))
    found, other = (eplb.evaluate(mine, loads[24:], "weighted").balancedness.mean() for mine in (ours, even))
    assert found > other
    assert found > eplb.evaluate(even, loads[24:]).balancedness.mean() + 0.05


def moves_while_drifting(split, seed):
    """Return the moves of plans for every window, each from the one before."""
    loads, topology, moves = drifting(seed, num_windows=20), Topology(num_ranks=4, slots_per_rank=6), 0
    placement = eplb.plan(loads[:8], topology, split=split).placement
    for now in range(8, 20):
        plan = eplb.plan(loads[:now], topology, split=split, previous=placement)
        placement, moves = plan.placement, moves + plan.moves
    return moves


@pytest.mark.parametrize("seed", range(3))
def test_a_placement_for_weights_hardly_changes_while_loads_drift(seed):
    """Planned every window, it moves less than a quarter of what one for even shares does."""
    assert moves_while_drifting("weighted", seed) < 0.25 * moves_while_drifting("even", seed)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_an_outlook_of_equal_windows_is_that_of_one(data):
    """The expected load of windows that are all alike is the load of one."""
    num_experts = data.draw(st.integers(1, 6))
    topology = data.draw(topologies(num_experts))
    window = data.draw(histories(num_experts))[0]
    placement = data.draw(placements(num_experts, topology))
    one, many = (
        weighted(np.stack([window] * n), topology, previous=placement, max_moves=0).certificate for n in (1, 4)
    )
    np.testing.assert_allclose(one.per_layer.largest_load, many.per_layer.largest_load, rtol=1e-9, atol=1e-300)
