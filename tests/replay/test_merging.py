"""A policy that is shown sums of windows."""

import numpy as np
import pytest

import eplb
from eplb.replay import EplbPolicy, OraclePolicy, replay
from eplb.replay.merging import MergingPolicy, merged
from tests.replay.doubles import TOPOLOGY, Recorder, assert_equal_but_for_time, random_trace


def test_a_policy_sees_sums_that_end_now():
    """Of three windows each, the newest last; a rest is left out."""
    trace, recorder = random_trace(), Recorder()
    replay(trace, TOPOLOGY, MergingPolicy(policy=recorder, size=3), first=8, interval=3)
    sums = [trace.loads[start : start + 3].sum(axis=0) for start in (2, 5)]
    np.testing.assert_array_equal(recorder.histories[0], sums)
    np.testing.assert_array_equal(recorder.histories[1][-1], trace.loads[8:11].sum(axis=0))


def test_fewer_windows_than_a_sum_takes_are_summed():
    """At the start of a trace there is no more."""
    trace, recorder = random_trace(), Recorder()
    replay(trace, TOPOLOGY, MergingPolicy(policy=recorder, size=5), first=3, interval=50)
    np.testing.assert_array_equal(recorder.histories[0], trace.loads[:3].sum(axis=0, keepdims=True))


def test_sums_of_one_change_nothing():
    """It is as if the policy were asked."""
    trace = random_trace()
    found = replay(trace, TOPOLOGY, MergingPolicy(policy=EplbPolicy(), size=1), interval=2)
    assert_equal_but_for_time(found, replay(trace, TOPOLOGY, EplbPolicy(), interval=2))


def test_a_trace_of_sums_is_planned_alike():
    """What a policy does is what it would do on a trace whose windows are the sums."""
    trace = random_trace(24)
    found = replay(trace, TOPOLOGY, MergingPolicy(policy=EplbPolicy(), size=4), interval=8, first=8)
    alone = replay(trace.windows(4), TOPOLOGY, EplbPolicy(), interval=2, first=2)
    assert found.placement == alone.placement
    np.testing.assert_array_equal(found.moves, alone.moves)
    assert found.balancedness.size == 4 * alone.balancedness.size


def test_the_future_is_shown_window_by_window():
    """An oracle is no worse for what engines can count."""
    trace = random_trace()
    found = replay(trace, TOPOLOGY, MergingPolicy(policy=OraclePolicy(), size=4), interval=4)
    assert_equal_but_for_time(found, replay(trace, TOPOLOGY, OraclePolicy(), interval=4))


def test_labels_and_tokens_stay_with_their_windows():
    """A sum has the label of its first window and the tokens of all."""
    trace = eplb.LoadTrace(loads=[[[1, 2]]] * 5, tokens=[1, 2, 3, 4, 5], labels=list("abcde"))
    found = merged(trace, 2)
    assert found.labels == ("b", "d") and found.tokens.tolist() == [5, 9]


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2"])
def test_a_size_that_is_none_is_refused(size):
    """It is a number of windows."""
    with pytest.raises(eplb.EplbError, match="size: expected an integer >= 1"):
        MergingPolicy(policy=EplbPolicy(), size=size)
