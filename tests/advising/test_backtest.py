"""How a trace is divided in time, what runs on it, and what a later window may not tell."""

import dataclasses

import numpy as np
import pytest

from eplb.advising.backtest import Backtest, SpreadPolicy, stretches_of
from eplb.advising.candidates import NEIGHBOURS, coarse, slot_choices, slots_and_splits
from eplb.advising.choosing import chosen, tried
from eplb.advising.setting import Setting
from eplb.errors import OptionError
from eplb.replay.cost import CostModel, hardware_named, model_named
from tests.advising.toy import COST, shifting, steady

BASE = Setting(num_ranks=4, slots_per_rank=4, effort="fast")


@pytest.fixture
def backtest():
    """Of a trace whose heavy experts change."""
    trace = shifting()
    return Backtest(trace=trace, cost=COST, stretches=stretches_of(trace.num_windows))


@pytest.mark.parametrize("num_windows", range(4, 200, 7))
def test_parts_follow_each_other_to_the_end(num_windows):
    """Each has windows before it to plan from and to choose on."""
    found = stretches_of(num_windows)
    assert 1 <= found.start < found.held_out and found.end == num_windows
    assert all(first < last for first, last in found.folds)
    assert [last for _, last in found.folds[:-1]] == [first for first, _ in found.folds[1:]]
    assert 2 <= len(found.folds) <= 4


@pytest.mark.parametrize("num_windows", [1, 3])
def test_too_few_windows_say_how_many_are_needed(num_windows):
    """And how many there are."""
    with pytest.raises(OptionError, match=f"at least 4 windows to backtest: .*; got {num_windows}; record more"):
        stretches_of(num_windows)


def test_a_setting_runs_once(backtest):
    """And the same setting from another window on is another run."""
    assert backtest.run(BASE) is backtest.run(dataclasses.replace(BASE))
    assert backtest.run(BASE, first=12) is not backtest.run(BASE)
    assert backtest.num_runs == 2 and backtest.run(BASE, first=12).balancedness.size == 12


def test_means_are_over_the_windows_that_are_named(backtest):
    """Counted in the trace."""
    run = backtest.run(BASE)
    seconds = run.step_seconds + run.stall_seconds
    assert run.mean_seconds(6, 9) == seconds[6 - run.first : 9 - run.first].mean()


def test_no_choice_depends_on_a_later_window(backtest):
    """Settings that are tried, and what is chosen before a part, are the same whatever the part holds."""
    (first, last) = backtest.stretches.folds[-1]
    loads = np.array(backtest.trace.loads)
    loads[first:] = loads[first:, :, ::-1] * 3
    other = Backtest(trace=dataclasses.replace(backtest.trace, loads=loads), cost=COST, stretches=backtest.stretches)
    runs, others = (tried(test, BASE, [4, 5], ["even", "weighted-lagged"]) for test in (backtest, other))
    assert [run.setting for run in runs] == [run.setting for run in others]
    for begin, _ in backtest.stretches.folds:
        assert chosen(runs, 4, begin).setting == chosen(others, 4, begin).setting
    assert chosen(runs, 4, first).mean_seconds(first, last) != chosen(others, 4, first).mean_seconds(first, last)


def test_of_settings_about_as_good_the_simplest_is_chosen(backtest):
    """Where nothing changes, replanning often gains nothing over doing so rarely."""
    trace = steady()
    test = Backtest(trace=trace, cost=COST, stretches=stretches_of(trace.num_windows))
    runs = [test.run(dataclasses.replace(BASE, interval=interval)) for interval in (1, 4)]
    assert chosen(runs, test.stretches.start, test.stretches.held_out).setting.interval == 4


def test_spare_slots_without_knowledge_are_spread():
    """A plan for equal loads puts as many replicas on each rank, and then stays."""
    trace, topology = steady(), dataclasses.replace(BASE, slots_per_rank=5).topology
    placement = SpreadPolicy().place(trace, topology, None, None)
    assert sorted(placement.replica_counts[0].tolist()) == [1] * 12 + [2] * 4
    assert SpreadPolicy().place(trace, topology, placement, None) is placement


# ---- candidates


def test_slots_are_as_few_as_hold_all_experts_and_some_more():
    """As far as the memory goes, and no more than there are experts."""
    assert slot_choices(16, 4, COST) == [4, 5]
    assert slot_choices(16, 1, COST) == [16]
    assert slot_choices(256, 32, CostModel(hardware=hardware_named("h100"), model=model_named("deepseek-v3"))) == [
        *(8, 9, 10)
    ]
    tight = dataclasses.replace(COST, hardware=dataclasses.replace(COST.hardware, memory_bytes=40 * 3 * 2**16 * 2))
    assert slot_choices(16, 1, dataclasses.replace(tight)) == [16]


def test_experts_that_do_not_fit_are_an_error():
    """That says what they take and what there is."""
    cost = CostModel(hardware=hardware_named("h100"), model=model_named("deepseek-v3"))
    with pytest.raises(OptionError, match=r"DeepSeek-V3 take 163.5 GB on each of 4 ranks, H100 SXM has 80 GB"):
        slot_choices(256, 4, cost)


def test_splits_differ_only_where_experts_have_replicas():
    """So no setting is tried twice."""
    pairs = [(s.slots_per_rank, s.split) for s in slots_and_splits(BASE, [4, 5], ["even", "weighted"])]
    assert pairs == [(4, "even"), (5, "even"), (5, "weighted")]


def test_intervals_are_no_longer_than_what_is_chosen_on():
    """Longer ones would never replan there."""
    assert {s.interval for s in coarse(BASE, [4], ["even"], 5)} == {1, 4}
    assert {s.interval for s in coarse(BASE, [4], ["even"], 1)} == {1}
    for others in NEIGHBOURS:
        assert all(s.interval * s.window <= 4 for s in others(dataclasses.replace(BASE, interval=2), 4))


def test_neighbours_differ_in_one_value():
    """Of those that are searched: interval, budget, windows, threshold."""
    changed = []
    for others in NEIGHBOURS:
        for found in others(BASE, 64):
            changed.append([n for n, value in found.to_dict().items() if value != BASE.to_dict()[n]])
    assert {len(names) for names in changed} == {1}
    assert {names[0] for names in changed} == {"interval", "max_moves_share", "window", "threshold"}
