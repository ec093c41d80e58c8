"""Plans for several windows: what is hot together is kept apart, and the certificate speaks of the scenarios."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eplb
from eplb import Placement, Topology
from eplb.forecasting import Exponential
from tests.planning.draws import histories, topologies
from tests.planning.soundness import (
    assert_certified,
    assert_every_expert_placed,
    assert_experts_distinct_on_ranks,
    expected_loads,
    outlook_for,
)
from tests.reference import held_by


@settings(deadline=None, max_examples=200)
@given(data=st.data(), effort=st.sampled_from(["fast", "balanced", "thorough"]))
def test_plans_are_sound_on_any_windows(data, effort):
    """Every expert is placed, distinct on ranks; the certificate is that of the slots under the scenarios."""
    num_experts = data.draw(st.integers(1, 6))
    topology, loads = data.draw(topologies(num_experts)), data.draw(histories(num_experts))
    options = {"recency": data.draw(st.sampled_from([1.0, 0.5])), "horizon": data.draw(st.sampled_from([1, 2, 9]))}
    plan = eplb.plan(loads, topology, effort=effort, **options)
    assert_every_expert_placed(plan.placement)
    assert_experts_distinct_on_ranks(plan.placement.physical_to_logical, topology, num_experts)
    assert_certified(plan, outlook_for(loads, **options))


# ---- hot in turn, hot together


PAIRS = {
    "01 and 23": [(0, 1), (2, 3)],
    "02 and 13": [(0, 2), (1, 3)],
    "03 and 12": [(0, 3), (1, 2)],
}


def in_turn(cohorts, num_windows, rng, heat=20.0):
    """Return loads [T, 1, E]: cohort after cohort of experts is hot, each expert by its `heat`."""
    num_experts = sum(len(cohort) for cohort in cohorts)
    loads = rng.uniform(0.5, 1.5, (num_windows, 1, num_experts))
    for t, window in enumerate(loads):
        hot = list(cohorts[t % len(cohorts)])
        window[0, hot] += np.broadcast_to(heat, num_experts)[hot]
    return loads


@pytest.fixture(params=PAIRS)
def pairs(request):
    return PAIRS[request.param]


def test_experts_that_are_hot_together_are_kept_apart(pairs, rng):
    """Two pairs are hot in turn: whichever two make a pair, no rank holds both."""
    plan = eplb.plan(in_turn(pairs, 12, rng), Topology(num_ranks=2, slots_per_rank=2))
    for mine in held_by(plan.placement.physical_to_logical[0], plan.placement.topology):
        assert tuple(sorted(mine)) not in pairs


def test_the_sum_does_not_tell_who_is_hot_together():
    """The three ways to make pairs have the same sum, so a plan of it fails one of them: some rank gets both."""
    topology = Topology(num_ranks=2, slots_per_rank=2)
    placement = eplb.plan(np.full((1, 4), 11.0), topology).placement
    ranks = [tuple(sorted(mine)) for mine in held_by(placement.physical_to_logical[0], topology)]
    assert ranks in PAIRS.values()


@pytest.fixture
def cohorts(rng):
    """Four sets of eight experts, at random."""
    return np.array_split(rng.permutation(32), 4)


def test_a_cohort_is_spread_over_all_ranks(cohorts, rng):
    """Four cohorts are hot in turn on eight ranks: every rank holds one expert of each. The mean tells none of it."""
    loads, topology = in_turn(cohorts, 32, rng), Topology(num_ranks=8, slots_per_rank=4)
    ours, by_mean = (eplb.plan(given, topology).placement for given in (loads, loads.mean(axis=0)))

    def is_spread(placement):
        held = held_by(placement.physical_to_logical[0], topology)
        return all(len(mine & set(cohort.tolist())) == 1 for mine, cohort in itertools.product(held, cohorts))

    assert is_spread(ours)
    assert not is_spread(by_mean)


@pytest.mark.parametrize("seed", range(5))
def test_windows_that_are_held_out_are_balanced_better_than_by_the_mean(seed):
    """On later windows of the same cohorts, some experts hotter than others: far better than a plan of the mean."""
    rng = np.random.default_rng(seed)
    cohorts, heat = np.array_split(rng.permutation(32), 4), 20 * rng.lognormal(0, 0.3, 32)
    loads, topology = in_turn(cohorts, 48, rng, heat), Topology(num_ranks=8, slots_per_rank=5)
    seen, later = loads[:24], loads[24:]
    plans = [eplb.plan(given, topology).placement for given in (seen, seen.mean(axis=0))]
    ours, by_mean = (eplb.evaluate(placement, later).balancedness.mean() for placement in plans)
    assert ours > by_mean + 0.15


def test_a_plan_is_no_worse_than_one_of_the_mean_scenario(rng):
    """The search begins there and only improves."""
    loads, topology = rng.pareto(1.5, (6, 3, 16)), Topology(num_ranks=4, slots_per_rank=5)
    outlook = outlook_for(loads)
    start = eplb.plan(outlook.means, topology).placement
    plan = eplb.plan(loads, topology)
    assert (plan.certificate.per_layer.largest_load <= expected_loads(start, outlook) * (1 + 1e-9)).all()
    assert plan.certificate.largest_load < 0.99 * expected_loads(start, outlook).sum()


# ---- options


def test_recent_windows_count_more():
    """Three regimes, of which two ranks can suit two: with a low recency, it is the last one in any order."""
    topology = Topology(num_ranks=2, slots_per_rank=2)
    for order in itertools.permutations(PAIRS.values()):
        loads = np.ones((12, 1, 4))
        for k, pairs in enumerate(order):
            loads[4 * k : 4 * k + 4, 0, list(pairs[0])] = 9
        placement = eplb.plan(loads, topology, recency=0.3, forecast="last").placement
        assert (
            set(order[2]) & {tuple(sorted(mine)) for mine in held_by(placement.physical_to_logical[0], topology)}
            == set()
        )


@pytest.mark.parametrize("forecast", ["last", "mean", "exponential", "drift", "auto"])
def test_every_forecast_is_planned_for(rng, forecast):
    """The scenarios are those of the named forecaster; an object of the same kind gives the same plan."""
    loads, topology = rng.lognormal(0, 1, (5, 2, 8)), Topology(num_ranks=3, slots_per_rank=3)
    plan = eplb.plan(loads, topology, forecast=forecast)
    assert_certified(plan, outlook_for(loads, forecast))
    own = eplb.forecasting.forecaster_named(forecast)
    assert eplb.plan(loads, topology, forecast=own).placement == plan.placement


def test_what_is_forecast_is_planned_for():
    """A regime that began two windows ago: planning for the last window balances it, planning for the mean does not."""
    before, now = np.array([[8.0, 8, 1, 1, 1, 1]]), np.array([[1.0, 1, 8, 1, 8, 1]])
    loads, topology = np.stack([before] * 10 + [now] * 2), Topology(num_ranks=2, slots_per_rank=3)
    last, mean = (
        eplb.evaluate(eplb.plan(loads, topology, forecast=name, recency=1.0).placement, now).balancedness[0]
        for name in ("last", "mean")
    )
    assert last >= mean
    assert last > 0.95


class Oracle:
    """A forecaster that knows the next window, in tokens."""

    def __init__(self, coming):
        self.coming = coming

    def forecast(self, loads):
        return np.concatenate([loads[1:], self.coming[None]])


def test_a_forecaster_speaks_of_tokens(rng):
    """What a caller's own forecaster is given and returns are tokens, as the loads are."""
    loads, topology = 1000 * rng.lognormal(0, 1, (7, 2, 8)), Topology(num_ranks=4, slots_per_rank=3)
    plan = eplb.plan(loads[:6], topology, forecast=Oracle(loads[6]))
    assert plan.certificate.largest_load < 2 * loads.sum(axis=2).max(axis=0).sum()


# ---- the certificate


def test_equal_windows_have_the_bound_of_one(rng):
    """Without variance there is one scenario: the bound and the largest load are those of a known window."""
    window, topology = rng.lognormal(0, 1, (3, 16)), Topology(num_ranks=4, slots_per_rank=5)
    one, many = (eplb.plan(np.stack([window] * n), topology).certificate for n in (1, 6))
    np.testing.assert_allclose(many.per_layer.mean_load, one.per_layer.mean_load, rtol=1e-9)
    np.testing.assert_allclose(many.per_layer.lower_bound, one.per_layer.lower_bound, rtol=1e-3)
    np.testing.assert_allclose(many.per_layer.largest_load, one.per_layer.largest_load, rtol=1e-3)


def test_variance_lifts_the_bound_where_experts_are_few(rng):
    """One slot a rank: the busiest expert of each window is alone on its rank, and the bound knows."""
    loads, topology = rng.pareto(1.5, (8, 1, 6)), Topology(num_ranks=6, slots_per_rank=1)
    certificate = eplb.plan(loads, topology).certificate
    assert certificate.gap == pytest.approx(0, abs=1e-9)
    assert certificate.lower_bound > 1.2 * eplb.plan(outlook_for(loads).means, topology).certificate.lower_bound


@pytest.mark.parametrize(
    ("limits", "ignores"), [({}, False), ({"max_moves": 3}, True), ({"max_moves_per_rank": 3}, True)], ids=str
)
def test_a_bound_that_ignores_a_budget_says_so(rng, limits, ignores):
    """Only with a limit on moves, in the certificate and in what it prints."""
    loads, topology = rng.lognormal(0, 1, (4, 2, 8)), Topology(num_ranks=2, slots_per_rank=5)
    previous = eplb.plan(loads[0], topology).placement
    certificate = eplb.plan(loads, topology, previous=previous, **limits).certificate
    assert certificate.ignores_budget is ignores
    assert ("bound ignores the budget of moves" in repr(certificate)) is ignores


def test_a_plan_without_a_previous_placement_counts_no_moves(rng):
    """There is nothing to move from, to restore, or to compare with."""
    plan = eplb.plan(rng.lognormal(0, 1, (4, 2, 8)), Topology(num_ranks=2, slots_per_rank=5))
    assert (plan.moves, plan.restored.tolist(), plan.largest_load_before) == (0, [], None)
    assert not plan.certificate.ignores_budget


# ---- activated slots


FEW = np.array([[[1.0, 1.0, 1.0, 1.0, 4.0, 0.0, 0.0, 0.0]]])
TWO_RANKS = Topology(num_ranks=2, slots_per_rank=4)


def most_activated(cost):
    placement = eplb.plan(FEW, TWO_RANKS, cost_per_activated_slot=cost, effort="thorough").placement
    return int(eplb.evaluate(placement, FEW).activated_experts.max())


def test_activated_slots_are_spread_where_they_cost():
    """Four experts with a token each and one with four: 4 + 4 tokens, or 3 + 2 activated experts."""
    assert (most_activated(0.0), most_activated(10.0)) == (4, 3)


def test_idle_experts_take_the_spare_slots_where_active_ones_cost():
    """A replica of an active expert costs a slot more, one of an idle expert does not."""
    topology, loads = Topology(num_ranks=3, slots_per_rank=3), [[25.0, 8, 4, 9, 0, 0]]
    free, dear = (eplb.plan(loads, topology, cost_per_activated_slot=c, effort="thorough").placement for c in (0, 30))
    assert free.replica_counts[0, 4:].sum() == 2
    assert dear.replica_counts[0, 4:].sum() == 3


@settings(deadline=None, max_examples=100)
@given(data=st.data(), cost=st.sampled_from([0.5, 3.0, 1e6]))
def test_the_certificate_counts_activated_slots(data, cost):
    """Largest load and bound are those of tokens and activated slots, from scratch and from a placement in force."""
    num_experts = data.draw(st.integers(1, 6))
    topology = data.draw(topologies(num_experts))
    loads = np.array(data.draw(histories(num_experts)) > 1, dtype=np.float64) * 5
    plan = eplb.plan(loads, topology, cost_per_activated_slot=cost)
    again = eplb.plan(loads, topology, cost_per_activated_slot=cost, previous=plan.placement)
    for made in (plan, again):
        assert_certified(made, outlook_for(loads, cost_per_activated_slot=cost))
    assert again.certificate.largest_load <= plan.certificate.largest_load * (1 + 1e-9)


def test_one_slot_an_expert_is_part_of_the_mean(rng):
    """The mean load holds what at least one slot of each active expert costs."""
    loads = rng.lognormal(0, 1, (3, 1, 8))
    loads[:, 0, 5] = 0
    certificate = eplb.plan(loads, Topology(num_ranks=2, slots_per_rank=4), cost_per_activated_slot=2.0).certificate
    tokens = outlook_for(loads)
    expected = (tokens.unscaled(tokens.means.sum(axis=1))[0] + 7 * 2.0) / 2
    assert certificate.mean_load == pytest.approx(expected)


def test_without_tokens_no_slot_costs():
    """A layer of zeros has no load, whatever slots cost."""
    plan = eplb.plan(np.zeros((2, 1, 4)), Topology(num_ranks=2, slots_per_rank=2), cost_per_activated_slot=5.0)
    assert plan.certificate.largest_load == 0


def test_a_plan_by_a_forecast_of_its_own(rng):
    """Any object with a method `forecast` will do."""
    loads, topology = rng.lognormal(0, 1, (5, 2, 8)), Topology(num_ranks=3, slots_per_rank=3)
    own = eplb.plan(loads, topology, forecast=Exponential(decay=0.8, pull=0.1))
    assert isinstance(own.placement, Placement)
    assert own.placement != eplb.plan(loads[:1], topology).placement
