"""`run_trial`: what a setting would have done, in plain numbers."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

import eplb
from eplb.advising import Outcome, Setting, run_trial
from eplb.replay import policy_named, replay
from tests.advising.doubles import SMALL, CountingCost, random_trace


def replayed(trace, setting, **options):
    """Return the replay that a trial without windows to sum and without threshold is."""
    policy = policy_named(setting.policy, effort=setting.effort, seed=setting.seed)
    return replay(trace, setting.topology, policy, history=setting.history, split=setting.split, **options)


@pytest.mark.parametrize("policy", ["contiguous", "static", "deepseek", "eplb", "oracle"])
def test_a_trial_is_a_replay(policy):
    """Its numbers are those of `eplb.replay.replay`."""
    trace, setting = random_trace(), replace(SMALL, policy=policy, interval=2, max_moves_share=0.2)
    outcome, expected = run_trial(trace, setting), replayed(trace, setting, interval=2, max_moves_share=0.2)
    assert outcome.balancedness == expected.mean_balancedness
    assert outcome.worst == expected.worst_window[1]
    assert (outcome.moves, outcome.first_moves) == (expected.moves.sum(), expected.first_moves)
    assert (outcome.moved_share, outcome.most_received) == (expected.moved_share, expected.most_received)
    assert outcome.num_over_budget == expected.num_over_budget
    assert outcome.worst_layer == expected.balancedness_per_layer.min()
    assert (outcome.first, outcome.last, outcome.num_windows, outcome.num_plans) == (8, 14, 6, 3)


def test_an_outcome_holds_plain_numbers():
    """None is numpy's, so that each is written alike everywhere."""
    outcome = run_trial(random_trace(), SMALL, cost=CountingCost())
    for field in dataclasses.fields(Outcome):
        if field.name != "costs":
            assert type(getattr(outcome, field.name)).__name__ == field.type
    assert {type(value) for value in outcome.costs.values()} == {float}


def test_quantiles_and_parts_are_those_of_the_windows():
    """By hand."""
    trace = random_trace(28)
    outcome, values = run_trial(trace, SMALL), replayed(trace, SMALL).balancedness
    assert outcome.p10 == np.sort(values)[1] and outcome.p90 == np.sort(values)[17]
    assert outcome.median == np.sort(values)[9]
    means = [values[start : start + 5].mean() for start in (0, 5, 10, 15)]
    assert (outcome.fold_least, outcome.fold_largest) == (min(means), max(means))


def test_one_window_is_enough():
    """All quantiles are it."""
    outcome = run_trial(random_trace(9), SMALL)
    assert outcome.worst == outcome.p10 == outcome.median == outcome.p90 == outcome.fold_least == outcome.balancedness


@pytest.mark.parametrize("split", ["even", "weighted"])
def test_no_plan_exceeds_the_bound(split):
    """Not that of an oracle, asked for each window, either; and it comes close to it."""
    setting = Setting(num_ranks=4, slots_per_rank=3, policy="oracle", split=split, max_moves_share=1, effort="thorough")
    outcome = run_trial(random_trace(), setting)
    assert outcome.bound - 0.05 < outcome.balancedness <= outcome.bound + 1e-12


def test_a_bound_below_one_is_found():
    """An expert without a replica keeps half of all tokens on one of four ranks."""
    loads = [[9, 0, 0, *[1] * 9]]
    outcome = run_trial(eplb.LoadTrace(loads=[loads] * 10), SMALL)
    assert outcome.bound == pytest.approx(0.5) and outcome.balancedness == 0.5


def test_windows_that_are_summed_are_scored_singly():
    """A trial with a longer window scores the same windows, under a placement that it kept for as long."""
    trace = random_trace(20)
    outcome = run_trial(trace, replace(SMALL, window=4))
    assert (outcome.first, outcome.last, outcome.num_plans) == (8, 20, 3)
    kept = run_trial(trace, replace(SMALL, policy="contiguous", window=4))
    assert kept == replace(run_trial(trace, replace(SMALL, policy="contiguous")), num_plans=3)


def test_a_threshold_saves_replans():
    """The higher, the fewer; without any imbalance put up with, all are made."""
    trace = random_trace(40)
    replans = [run_trial(trace, replace(SMALL, threshold=share)).num_replans for share in (0, 0.25, 0.35, 1)]
    assert replans == sorted(replans, reverse=True) and replans[0] > replans[1] > replans[2] > replans[3] == 0


def test_a_part_of_a_trace_is_scored_as_if_it_ended_there():
    """Later windows change nothing."""
    trace = random_trace(20)
    for setting in (SMALL, replace(SMALL, policy="oracle", interval=3), replace(SMALL, window=3)):
        found = run_trial(trace, setting, first=5, last=13)
        assert found == run_trial(trace.part(0, 13), setting, first=5)
        assert (found.first, found.last) == (5, 13)


def test_a_cost_model_watches_the_windows_that_are_scored():
    """Each once, whatever is summed."""
    for window in (1, 3):
        outcome = run_trial(random_trace(), replace(SMALL, window=window), cost=CountingCost(factor=2.0), first=4)
        assert outcome.costs == {"windows": 20.0, "first_window": 4.0}


def test_the_same_input_gives_the_same_outcome():
    """On any number of threads."""
    trace = random_trace(num_layers=6)
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for threads in ("1", "3"):
            patch.setenv("EPLB_NUM_THREADS", threads)
            found += [run_trial(trace, SMALL)] * 2
    assert len({repr(outcome) for outcome in found}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 0}, "expected 1 <= first < last <= 14 .*got 0 and 14"),
        ({"first": 14}, "got 14 and 14; a trace needs 15 windows to score one"),
        ({"last": 15}, "got 8 and 15"),
        ({"last": 8}, "got 8 and 8"),
        ({"first": 2.5}, "first: expected an integer, got 2.5"),
        ({"cost": 3}, "cost: expected an object with a method meter, got int"),
    ],
)
def test_what_leaves_nothing_to_score_is_refused(options, message):
    """With the number of windows there are, and are needed."""
    with pytest.raises(eplb.EplbError, match=message):
        run_trial(random_trace(), SMALL, **options)


def test_a_machine_too_small_is_refused():
    """With what would help."""
    with pytest.raises(eplb.EplbError, match="8 experts do not fit 4 usable slots"):
        run_trial(random_trace(), Setting(num_ranks=4, slots_per_rank=1))


def test_what_is_no_trace_or_setting_is_refused():
    """By name."""
    with pytest.raises(eplb.EplbError, match=r"trace: expected an eplb.LoadTrace"):
        run_trial([[1, 2]], SMALL)
    with pytest.raises(eplb.EplbError, match=r"setting: expected an eplb.advising.Setting, got dict"):
        run_trial(random_trace(), SMALL.to_dict())
