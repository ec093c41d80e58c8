"""What the replays speak for."""

import numpy as np
import pytest

import eplb
from eplb.replay import ContiguousPolicy, EplbPolicy, OraclePolicy, StaticPolicy
from eplb.report import Settings, examine, recommend

TOPOLOGY = eplb.Topology(num_ranks=4, slots_per_rank=3)


def advice(loads, *policies):
    """Return the recommendation for loads under these policies, and what it rests on."""
    found = examine(eplb.LoadTrace(loads=loads), TOPOLOGY, policies, Settings(first=4, budgets=(0.0, 0.2, 1.0)))
    return recommend(found), found


def test_balanced_loads_are_left_alone(rng):
    """Nothing to gain, nothing to do."""
    told, _ = advice(np.full((10, 2, 12), 100), ContiguousPolicy(), StaticPolicy(), EplbPolicy())
    assert told.verdict == "no-go" and not told.settings


def test_steady_loads_are_planned_once(rng):
    """Replanning gains nothing, so nothing need move."""
    told, found = advice(np.tile(rng.lognormal(4, 1, (2, 8)), (10, 1, 1)), StaticPolicy(), EplbPolicy(), OraclePolicy())
    assert told.verdict == "go" and told.headline.startswith("Plan once")
    assert f"{found.named('static').mean_balancedness:.3f}" in told.headline


def test_drifting_loads_are_replanned_within_the_smallest_budget_that_does(rng):
    """The budget that it names is one that was replayed, and as good as the best."""
    walk = rng.normal(0, 0.4, (24, 2, 8)).cumsum(axis=0)
    told, found = advice(rng.poisson(500 * np.exp(walk)), StaticPolicy(), EplbPolicy())
    share = dict(told.settings)["largest share of the slots in a replan"]
    names = {0.0: "at most 0%", 0.1: "at most 10%", 0.2: "at most 20%", 1.0: "any number"}
    points = {names[point.budget]: point.balancedness for point in found.frontier if point.budget is not None}
    assert told.verdict == "go"
    assert points[share] >= max(points.values()) - 0.003


def test_a_lone_policy_has_nothing_to_be_compared_with(found):
    """The report says what to replay."""
    from dataclasses import replace

    told = recommend(replace(found, policies=(found.named("static"),)))
    assert told.verdict == "open" and "nothing to compare" in told.headline


def test_what_is_left_names_oracle_and_bound(found):
    """Both ceilings, as they are."""
    text = " ".join(recommend(found).details)
    assert f"reaches {found.oracle.mean_balancedness:.3f}" in text
    assert f"no plan exceeds {found.trace.bound.mean():.3f}" in text


def test_bytes_are_told_where_they_are_known(found):
    """The share of the slots, and what that weighs."""
    assert "MB)" in " ".join(recommend(found).details)
    assert found.expert_bytes == 10**6


@pytest.fixture
def rng():
    """Return a seeded generator."""
    return np.random.default_rng(1)
