"""A policy that is asked only where the placement in force is out of balance."""

import numpy as np
import pytest

import eplb
from eplb.replay import EplbPolicy, OraclePolicy, StaticPolicy, replay
from eplb.replay.threshold import ThresholdPolicy
from tests.replay.doubles import TOPOLOGY, Recorder, Reversing, assert_equal_but_for_time, random_trace


def asked(trace, threshold, **options):
    """Return the policy that a threshold stands before, after a replay; and the replay."""
    recorder = Recorder()
    return recorder, replay(trace, TOPOLOGY, ThresholdPolicy(policy=recorder, threshold=threshold, **options), first=2)


def balancedness_before(placement, trace, window):
    """Return the balancedness of the window before `window` under `placement`."""
    return eplb.evaluate(placement, trace.loads[window - 1]).balancedness[0]


def test_zero_asks_every_time():
    """Nothing differs from a replay without a threshold."""
    trace = random_trace()
    for policy in (EplbPolicy(), StaticPolicy()):
        found = replay(trace, TOPOLOGY, ThresholdPolicy(policy=policy, threshold=0.0))
        assert_equal_but_for_time(found, replay(trace, TOPOLOGY, policy))


def test_one_asks_once():
    """Imbalance is below 1 always, so that only the first plan is made."""
    recorder, found = asked(random_trace(), 1.0)
    assert len(recorder.histories) == 1
    assert not found.moves.any() and found.moves.size == 11


def test_it_asks_exactly_where_the_newest_window_is_out_of_balance():
    """By hand: the plan in force, on the window before the one that is planned for."""
    trace, placement, expected = random_trace(30), None, []
    for window in range(2, 30):
        if placement is None or balancedness_before(placement, trace, window) < 1 - 0.25:
            placement = eplb.plan(trace.loads[window - 1], TOPOLOGY).placement
            expected.append(window)
    recorder, _ = asked(trace, 0.25)
    assert [len(history) for history in recorder.histories] == [min(window, 24) for window in expected]
    assert 1 < len(expected) < 28


def test_several_windows_count_by_their_mean():
    """One bad window in three is put up with, and two are not."""
    good, bad = [[4, 4, 4, 4]], [[16, 0, 0, 0]]
    trace = eplb.LoadTrace(loads=[good, good, good, good, bad, bad])
    policy = ThresholdPolicy(policy=Reversing(), threshold=0.3, recent=3)
    found = replay(trace, eplb.Topology(num_ranks=2, slots_per_rank=2), policy, first=1)
    assert not found.moves.any()  # (1 + 1 + 0.5) / 3 is more than 0.7
    longer = eplb.LoadTrace(loads=[*trace.loads, bad])
    found = replay(longer, eplb.Topology(num_ranks=2, slots_per_rank=2), policy, first=1)
    assert found.moves.nonzero()[0].tolist() == [4]  # that of window 6, which is shown 3 to 5


def test_the_weighted_split_is_judged_as_such():
    """Weights may balance what equal shares do not."""
    trace = eplb.LoadTrace(loads=[[[9, 3, 6]]] * 3)
    topology = eplb.Topology(num_ranks=2, slots_per_rank=2)
    found = {}
    for split in ("even", "weighted"):
        recorder = Recorder()
        policy = ThresholdPolicy(policy=recorder, threshold=0.01, split=split)
        replay(trace, topology, policy, first=1)
        found[split] = len(recorder.histories)
    assert found == {"even": 2, "weighted": 1}


def test_it_passes_for_the_policy_that_it_asks():
    """Name and wishes are those of the policy."""
    for policy in (EplbPolicy(name="ours"), OraclePolicy(), Reversing()):
        around = ThresholdPolicy(policy=policy, threshold=0.1)
        assert around.name == policy.name
        for wish in ("sees_future", "limits_each_rank", "plans_ahead"):
            assert getattr(around, wish) == getattr(policy, wish, False)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan, "0.1", None])
def test_a_threshold_that_is_none_is_refused(threshold):
    """It is an imbalance."""
    with pytest.raises(eplb.EplbError, match="threshold: expected"):
        ThresholdPolicy(policy=StaticPolicy(), threshold=threshold)


@pytest.mark.parametrize(("option", "value"), [("recent", 0), ("recent", 1.5), ("recent", True), ("split", "odd")])
def test_other_options_are_checked(option, value):
    """What came is named."""
    with pytest.raises(eplb.EplbError, match=f"{option}: expected .*{value}"):
        ThresholdPolicy(policy=StaticPolicy(), threshold=0.1, **{option: value})
