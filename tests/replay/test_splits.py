"""replay: how the replicas share the tokens of the windows and steps that are scored."""

import numpy as np
import pytest

import eplb
from eplb import LoadTrace, Topology
from eplb.replay import SPLITS, ContiguousPolicy, EplbPolicy, OraclePolicy, StaticPolicy, replay
from eplb.replay import parts as parts_module
from tests.replay.doubles import TOPOLOGY, Recorder, Reversing, Store, assert_equal_but_for_time, random_trace

UNEVEN = Topology(num_ranks=5, slots_per_rank=[3, 2, 4, 3, 3], rank_speeds=[1, 2, 1, 0.5, 1], failed_ranks=[2])


def by_hand(trace, placements, split, first, interval=1):
    """Return the evaluation of each window, one after another, under the placement that was in force."""
    found = []
    for window in range(first, trace.num_windows):
        placement = placements[(window - first) // interval]
        lagged = split == "weighted-lagged"
        weights = eplb.split(placement, trace.loads[window - 1]) if lagged else split
        found.append(eplb.evaluate(placement, trace.loads[window], weights))
    return found


def assert_scored_as(found, evaluations):
    """The windows, and each layer over them, are balanced as the evaluations say."""
    assert found.balancedness.tolist() == [float(one.balancedness[0]) for one in evaluations]
    means = sum(one.mean_loads[0] for one in evaluations)
    largest = sum(one.largest_loads[0] for one in evaluations)
    assert found.balancedness_per_layer == pytest.approx(means / largest, rel=1e-12)


# ---- windows


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("topology", [TOPOLOGY, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize(("first", "interval"), [(1, 1), (3, 2), (8, 5)])
def test_windows_are_scored_as_one_by_one(split, topology, first, interval):
    """Each under the placement in force; lagged weights are those of the window before, on that same placement."""
    trace, recorder = random_trace(seed=first), Recorder()
    found = replay(trace, topology, recorder, first=first, interval=interval, split=split)
    assert found.split == split
    assert_scored_as(found, by_hand(trace, recorder.placements, split, first, interval))


@pytest.mark.parametrize("seed", range(3))
def test_no_split_is_better_than_that_of_each_window(seed):
    """On the same placements; in sum it is better by far."""
    even, best, lagged = (replay(random_trace(seed=seed), TOPOLOGY, EplbPolicy(), split=split) for split in SPLITS)
    for other in (even, lagged):
        assert other.placement == best.placement
        assert (best.balancedness >= other.balancedness - 1e-12).all()
        assert best.mean_balancedness > other.mean_balancedness + 0.01


def test_what_lags_is_best_where_nothing_changes():
    """The same window again and again is split as if it were known."""
    trace = LoadTrace(loads=np.repeat(random_trace(1).loads, 6, axis=0))
    best, lagged = (replay(trace, TOPOLOGY, ContiguousPolicy(), first=1, split=split) for split in SPLITS[1:])
    np.testing.assert_array_equal(lagged.balancedness, best.balancedness)


@pytest.mark.parametrize("split", SPLITS[1:])
def test_without_replicas_there_is_nothing_to_split(split):
    """Each expert once: whatever the split is called, the scores are those of the even one."""
    topology = Topology(num_ranks=4, slots_per_rank=2)
    found, even = (replay(random_trace(), topology, Reversing(), split=name) for name in (split, "even"))
    assert found.balancedness == pytest.approx(even.balancedness, rel=1e-12)


@pytest.mark.parametrize("policy", [StaticPolicy, EplbPolicy, OraclePolicy])
def test_plans_for_weights_are_better_with_weights(policy):
    """In sum over traces, than plans for the even split that are then weighed."""
    gains = []
    for seed in range(5):
        trace = random_trace(30, num_layers=1, num_experts=10, seed=seed)
        mine, even = (replay(trace, TOPOLOGY, policy(split=split), split="weighted") for split in ("weighted", "even"))
        gains.append(mine.mean_balancedness - even.mean_balancedness)
    assert sum(gains) > 0


def test_the_split_changes_no_placement():
    """A policy plans for what it was made for, however it is scored."""
    for policy in (StaticPolicy(), OraclePolicy(), EplbPolicy()):
        even, *others = (replay(random_trace(), TOPOLOGY, policy, split=split) for split in SPLITS)
        for other in others:
            assert other.placement == even.placement and other.moves.tolist() == even.moves.tolist()


# ---- steps


def test_each_step_is_split_by_its_own_loads():
    """Not by those of its window."""
    steps, recorder = random_trace(24), Recorder()
    found = replay(steps.windows(4), TOPOLOGY, recorder, first=2, steps=steps, split="weighted")
    expected = by_hand(steps, recorder.placements, "weighted", first=8, interval=4)
    assert found.step_balancedness.tolist() == [one.balancedness[0] for one in expected]


def test_steps_get_the_weights_of_the_window_before():
    """All steps of a window the same ones, which were best for the sum of the steps before."""
    steps, recorder = random_trace(24), Recorder()
    windows = steps.windows(4)
    found = replay(windows, TOPOLOGY, recorder, first=2, interval=2, steps=steps, split="weighted-lagged")
    for step, scored in enumerate(found.step_balancedness, start=8):
        placement = recorder.placements[(step // 4 - 2) // 2]
        weights = eplb.split(placement, windows.loads[step // 4 - 1])
        assert scored == eplb.evaluate(placement, steps.loads[step], weights).balancedness[0]


# ---- parts


@pytest.mark.parametrize("num_windows_at_once", [1, 2, 3])
@pytest.mark.parametrize("interval", [2, 100])
def test_parts_change_nothing(monkeypatch, num_windows_at_once, interval):
    """However few windows memory holds: the newest of a part is kept for the first of the next."""
    steps = random_trace(60)
    args, options = (TOPOLOGY, EplbPolicy()), {"first": 5, "interval": interval, "split": "weighted-lagged"}
    whole = replay(steps.windows(2), *args, steps=steps, **options)
    monkeypatch.setattr(parts_module, "LOADS_AT_ONCE", num_windows_at_once * 2 * 2 * TOPOLOGY.num_slots)
    found = replay(steps.windows(2), *args, steps=steps, **options)
    assert_equal_but_for_time(found, whole)
    np.testing.assert_array_equal(found.step_balancedness, whole.step_balancedness)


def test_what_lags_reads_no_window_more_often():
    """Once to plan and once to score; the one before the first too."""
    store = Store(random_trace(30))
    replay(store, TOPOLOGY, Recorder(), first=9, history=5, interval=2, split="weighted-lagged")
    assert np.bincount([t for span in store.parts for t in range(*span)], minlength=30).max() == 2


def test_what_lags_reads_no_window_too_early():
    """When the policy plans for a window, nothing of it or after it has been read."""
    trace, recorder = random_trace(9), Recorder()
    store = Store(trace, refuse=lambda first, last: last > 2 + len(recorder.placements))
    assert len(replay(store, TOPOLOGY, recorder, first=2, split="weighted-lagged").balancedness) == 7


def test_a_policy_that_sees_the_future_does_not_move_the_lag():
    """It is shown later windows; the weights still come from the one before."""
    trace = random_trace()
    found = replay(trace, TOPOLOGY, OraclePolicy(), first=9, interval=100, split="weighted-lagged")
    assert_scored_as(found, by_hand(trace, [found.placement], "weighted-lagged", first=9, interval=100))


@pytest.mark.parametrize("split", SPLITS)
def test_a_store_is_scored_as_the_trace_in_it(tmp_path, split):
    """Window by window from disk."""
    trace = random_trace(20)
    store = eplb.TraceStore.from_trace(tmp_path / "a.zarr", trace)
    options = {"interval": 3, "split": split}
    found = replay(store, TOPOLOGY, EplbPolicy(), **options)
    assert_equal_but_for_time(found, replay(trace, TOPOLOGY, EplbPolicy(), **options))


# ---- what is refused


@pytest.mark.parametrize("split", ["", "Weighted", "lagged", None, 1, np.ones((2, 12)), ["even"]])
def test_an_unknown_split_is_refused(split):
    """Before anything is planned, with a list of what there is; weights are for `evaluate` alone."""
    recorder = Recorder()
    with pytest.raises(eplb.OptionError, match="split: expected even, weighted or weighted-lagged, got "):
        replay(random_trace(), TOPOLOGY, recorder, split=split)
    assert not recorder.placements


def test_bad_loads_before_the_first_window_are_refused():
    """Nobody but the split looks at them here."""
    loads = random_trace().loads.astype(float)
    loads[7, 1, 3] = -1
    with pytest.raises(eplb.LoadsError, match="expected finite values >= 0, got -1"):
        replay(LoadTrace(loads=loads), TOPOLOGY, ContiguousPolicy(), split="weighted-lagged")
