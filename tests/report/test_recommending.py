"""What the replays speak for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import eplb
from eplb.replay import POLICIES, ContiguousPolicy, EplbPolicy, OraclePolicy, StaticPolicy, policy_named
from eplb.report import Settings, examine, recommend
from eplb.report.gaining import gain_of_knowing
from tests.advising.toy import shuffled, steady

TOPOLOGY = eplb.Topology(num_ranks=4, slots_per_rank=3)
MIXTRAL = Path(__file__).parents[3] / "shared" / "traces" / "mixtral_olmoe.npz"


def advice(loads, *policies):
    """Return the recommendation for loads under these policies, and what it rests on."""
    found = examine(eplb.LoadTrace(loads=loads), TOPOLOGY, policies, Settings(first=4, budgets=(0.0, 0.2, 1.0)))
    return recommend(found), found


def verdict(trace, num_ranks, slots_per_rank):
    """Return the recommendation that `eplb report` makes by itself."""
    policies = [policy_named(name, effort="fast") for name in POLICIES]
    return recommend(examine(trace, eplb.Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank), policies))


def test_balanced_loads_are_left_alone(rng):
    """Nothing to gain, nothing to do."""
    told, _ = advice(np.full((10, 2, 12), 100), ContiguousPolicy(), StaticPolicy(), EplbPolicy())
    assert told.verdict == "no-go" and not told.settings


def test_steady_loads_are_planned_once(rng):
    """Replanning gains nothing, so nothing need move."""
    told, found = advice(np.tile(rng.lognormal(4, 1, (2, 8)), (10, 1, 1)), StaticPolicy(), EplbPolicy(), OraclePolicy())
    assert told.verdict == "go" and "plan once" in told.headline
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


@pytest.mark.parametrize("shape", [(4, 5), (8, 3), (4, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_loads_that_tell_nothing_are_left_alone(shape, seed):
    """However skewed they are; what spare slots gain by themselves is no merit of a plan."""
    assert verdict(shuffled(steady(16), seed), *shape).verdict == "no-go"
    assert verdict(steady(16), *shape).verdict == "go"


@pytest.mark.parametrize("shape", [(2, 4), (2, 5), (4, 2), (4, 3), (8, 1), (8, 2)])
def test_mixtral_is_left_alone(shape):
    """On its nearly balanced domains, with spare slots and without."""
    if not MIXTRAL.exists():
        pytest.skip("no recorded trace mixtral_olmoe.npz beside the checkout")
    assert verdict(eplb.LoadTrace.load(MIXTRAL), *shape).verdict == "no-go"


def test_a_shuffled_recording_is_left_alone():
    """Where the experts of each window and layer are renamed, spare slots gain, and plans do not."""
    from eplb.cli.demo import bundled_trace

    told = verdict(shuffled(bundled_trace()), 8, 5)
    assert told.verdict == "no-go" and "filled without knowing any loads" in told.headline


def test_it_says_that_time_was_not_modelled(found):
    """First, whatever it recommends, and names the command that models it."""
    told = recommend(found)
    assert told.headline.startswith("By balance alone, ")
    assert "What a step takes was not modelled" in told.details[0] and "--hardware NAME" in told.details[0]
    same, _ = advice(np.full((10, 2, 12), 100), EplbPolicy())
    assert any("What a step takes was not modelled" in text for text in same.details)


def test_a_gain_is_over_the_best_that_knows_no_loads(found):
    """In each part of the trace, by what the busiest ranks compute."""
    base, best = found.named("contiguous"), found.best
    rivals = [
        np.array([part.mean() for part in np.array_split(rival, 4)]) for rival in (base.balancedness, found.uninformed)
    ]
    reached = np.array([part.mean() for part in np.array_split(best.balancedness, 4)])
    assert gain_of_knowing(found, base, best).parts == pytest.approx(reached / np.maximum(*rivals) - 1)


def test_one_window_is_left_open():
    """It cannot tell a gain from chance, whether it was replayed or planned for."""
    for num_windows in (1, 2):
        told = verdict(steady(num_windows), 4, 5)
        assert told.verdict == "open" and "One window" in told.headline


def test_a_lone_policy_has_nothing_to_be_compared_with(found):
    """The report says what to replay."""
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
