"""The policies that come with the package."""

import re

import numpy as np
import pytest

import eplb
from eplb import LoadTrace, Topology
from eplb.forecasting import forecaster_named
from eplb.replay import POLICIES, EplbPolicy, OraclePolicy, StaticPolicy, policy_named, replay
from eplb.replay.policies import ContiguousPolicy, placed_in_order
from tests.replay.doubles import TOPOLOGY, Recorder, random_trace


class Foreseeing:
    """A forecaster made of a function."""

    def __init__(self, function):
        self.forecast = function


def ask(policy, history, topology=TOPOLOGY, previous=None, max_moves=None):
    """Return the slots that `policy` chooses."""
    return policy.place(history, topology, previous, max_moves).physical_to_logical.tolist()


def test_contiguous_is_the_experts_in_order():
    """Spare slots hold the first experts again; with no spare slot every expert stands once."""
    assert ask(ContiguousPolicy(), random_trace(1))[0] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]
    assert ask(ContiguousPolicy(), random_trace(1), Topology(num_ranks=2, slots_per_rank=4))[1] == list(range(8))


def test_contiguous_takes_uneven_slots_and_failed_ranks():
    """Ranks fill one after another, a failed one stays empty, and the order starts again as often as needed."""
    topology = Topology(num_ranks=4, slots_per_rank=[3, 1, 2, 4], failed_ranks=[2])
    assert placed_in_order(topology, 1, 3).physical_to_logical.tolist() == [[0, 1, 2, 0, -1, -1, 1, 2, 0, 1]]


def test_contiguous_refuses_too_few_slots():
    """Slots of failed ranks do not count."""
    with pytest.raises(eplb.InfeasibleError, match="3 experts do not fit 2 usable slots"):
        placed_in_order(Topology(num_ranks=2, slots_per_rank=2, failed_ranks=[0]), 1, 3)


@pytest.mark.parametrize("policy", [ContiguousPolicy(), StaticPolicy()])
def test_what_is_static_never_moves(policy):
    """Whatever the loads do, the first placement stays."""
    found = replay(random_trace(), TOPOLOGY, policy, first=2)
    assert found.moves.tolist() == [0] * 11 and found.most_received == 0


def test_static_is_the_plan_of_the_first_history():
    """With the options of the planner."""
    trace, topology = random_trace(), Topology(num_ranks=4, slots_per_rank=3, num_nodes=2)
    options = {"groups": 2, "effort": "fast", "seed": 3}
    found = replay(trace, topology, StaticPolicy(**options), first=5, history=3)
    assert found.placement == eplb.plan(trace.part(2, 5), topology, **options).placement


@pytest.mark.parametrize("split", ["even", "weighted"])
@pytest.mark.parametrize("seed", range(3))
def test_the_oracle_is_the_ceiling(seed, split):
    """On the very windows that are scored it is better than any policy that does not know them."""
    policies = [policy_named(name, split=split) for name in ("oracle", "static", "deepseek", "contiguous")]
    oracle, *others = (replay(random_trace(seed=seed), TOPOLOGY, policy, split=split) for policy in policies)
    for other in others:
        assert (oracle.balancedness >= other.balancedness - 1e-3).all()
        assert oracle.mean_balancedness > other.mean_balancedness


def test_the_oracle_plans_all_windows_until_the_next_plan():
    """Each as it is: better than a plan of their mean, and than one that expects others."""
    trace = random_trace(20)
    oracle = replay(trace, TOPOLOGY, OraclePolicy(), first=8, interval=3)

    class OfTheirMean(Recorder):
        sees_future = True

        def place(self, history, topology, previous, max_moves):
            return eplb.plan(history.loads.mean(axis=0), topology).placement

    assert oracle.mean_balancedness > replay(trace, TOPOLOGY, OfTheirMean(), first=8, interval=3).mean_balancedness
    assert oracle.mean_balancedness > replay(trace, TOPOLOGY, EplbPolicy(), first=8, interval=3).mean_balancedness


@pytest.mark.parametrize("split", ["even", "weighted"])
@pytest.mark.parametrize("limits", [{"max_moves_share": 0.1}, {"max_moves_share": 1, "max_moves_per_rank": 1}])
def test_eplb_keeps_its_budget(limits, split):
    """Over all layers and for each rank; it moves, and the first plan is free."""
    found = replay(random_trace(num_windows=20), TOPOLOGY, EplbPolicy(split=split), split=split, **limits)
    assert found.num_over_budget == 0 and found.moves.sum() > 0 and found.first_moves > 2


def test_deepseek_is_the_drop_in_function_on_recent_windows():
    """The sum of the last eight, planned in float32."""
    trace = random_trace()
    expected = eplb.rebalance_experts(trace.loads[-8:].sum(axis=0), 12, 1, 1, 4, policy="deepseek")[0]
    assert ask(policy_named("deepseek"), trace) == expected.tolist()


def test_eplb_passes_what_the_planner_takes(monkeypatch):
    """History, what is in force, budgets, forecast and options reach `plan` under their names."""
    trace, seen = random_trace(4), {}
    planned = eplb.plan(trace, TOPOLOGY)
    monkeypatch.setattr("eplb.replay.eplb_policy.plan", lambda *args, **more: seen.update(more, args=args) or planned)

    forecaster = forecaster_named("last")
    policy = EplbPolicy(forecast=forecaster, groups=2, effort="fast", seed=7, split="weighted")
    policy.place(trace, TOPOLOGY, planned.placement, 5, max_moves_per_rank=2, horizon=4)
    assert seen.pop("forecast") is forecaster
    assert seen.pop("args") == (trace, TOPOLOGY)
    assert seen.pop("previous") is planned.placement
    assert seen.pop("horizon") == 4
    assert (seen.pop("move_cost"), seen.pop("cost_per_activated_slot")) == (None, 0.0)
    assert (seen.pop("max_moves"), seen.pop("max_moves_per_rank")) == (5, 2)
    assert seen == {"groups": 2, "effort": "fast", "seed": 7, "split": "weighted"}
    EplbPolicy().place(trace, TOPOLOGY, None, None)
    assert (seen["forecast"], seen["split"], seen["previous"]) == ("auto", "even", None)


@pytest.mark.parametrize("split", ["even", "weighted"])
def test_static_plans_for_its_split(monkeypatch, split):
    """It reaches `plan` under its name."""
    seen, planned = {}, eplb.plan(random_trace(4), TOPOLOGY)
    monkeypatch.setattr("eplb.replay.policies.plan", lambda *args, **more: seen.update(more) or planned)
    StaticPolicy(split=split).place(random_trace(4), TOPOLOGY, None, None)
    assert seen["split"] == split


@pytest.mark.parametrize("split", ["even", "weighted"])
def test_the_oracle_plans_for_its_split(monkeypatch, split):
    """It reaches the planner, which plans for the even one unless it is told otherwise."""
    seen, planned = {}, eplb.plan(random_trace(4), TOPOLOGY)
    monkeypatch.setattr("eplb.replay.policies.plan_expected", lambda *args, **more: seen.update(more) or planned)
    OraclePolicy(split=split).place(random_trace(4), TOPOLOGY, None, None)
    assert seen.get("split", "even") == split


@pytest.mark.parametrize("policy", [StaticPolicy, EplbPolicy, OraclePolicy])
@pytest.mark.parametrize("split", ["weighted-lagged", "Even", None, ["even"]])
def test_nobody_plans_for_another_split(policy, split):
    """What lags behind is nothing to plan for."""
    with pytest.raises(eplb.OptionError, match=re.escape(f"split: expected 'even' or 'weighted', got {split!r}")):
        policy(split=split).place(random_trace(4), TOPOLOGY, None, None)


@pytest.mark.parametrize("name", ["static", "eplb", "oracle"])
def test_a_split_is_given_to_those_who_plan_for_one(name):
    """The others are made without."""
    assert policy_named(name, split="weighted").split == "weighted"
    assert policy_named(name).split == "even"
    assert policy_named("contiguous", split="weighted") == ContiguousPolicy()


@pytest.mark.parametrize(
    ("forecaster", "error", "says"),
    [
        ("none", eplb.OptionError, "expected one of last, mean"),
        (3, eplb.OptionError, "expected an object with a method forecast, got int"),
        (Foreseeing(lambda loads: loads[-1]), eplb.LoadsError, "forecast|loads"),
        (Foreseeing(lambda loads: -loads), eplb.LoadsError, "expected finite values >= 0"),
    ],
)
def test_what_forecasts_wrongly_is_named(forecaster, error, says):
    """With the policy and the window."""
    with pytest.raises(error, match=f"policy eplb, planning window 8: .*({says})"):
        replay(random_trace(), TOPOLOGY, EplbPolicy(forecast=forecaster))


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_made_by_name(name):
    """And carry it into the result."""
    assert policy_named(name).name == name


@pytest.mark.parametrize("name", ["dynamic", "", None, "Static"])
def test_an_unknown_policy_is_refused(name):
    """The message lists what there is."""
    with pytest.raises(eplb.OptionError, match="expected one of contiguous, static, deepseek, eplb, oracle, or NAME="):
        policy_named(name)


def test_options_of_the_planner_are_checked_by_it():
    """The message says which policy met them, and when."""
    with pytest.raises(eplb.OptionError, match="policy static, planning window 8: effort"):
        replay(random_trace(), TOPOLOGY, policy_named("static", effort="none"))


def test_a_replay_works_without_an_own_name():
    """A policy is called by its class if it has no name."""

    class Mine:
        def place(self, history, topology, previous, max_moves):
            return placed_in_order(topology, history.num_layers, history.num_experts)

    trace = LoadTrace(loads=np.ones((3, 1, 4)))
    assert replay(trace, TOPOLOGY, Mine(), first=1).policy == "Mine"
