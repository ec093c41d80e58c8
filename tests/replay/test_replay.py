"""replay: what a policy is shown, when it plans, what it may move, and how it is scored."""

import dataclasses

import numpy as np
import pytest

import eplb
from eplb import LoadTrace, Topology
from eplb.replay import ContiguousPolicy, OraclePolicy, StaticPolicy, replay
from eplb.replay import parts as parts_module
from tests.replay.doubles import (
    TOPOLOGY,
    Fixed,
    Recorder,
    Reversing,
    Store,
    assert_equal_but_for_time,
    random_trace,
)

# ---- what those who watch are shown


def test_who_watches_sees_every_scored_window():
    """Windows come once and in order, each with the placement in force and its evaluation."""
    trace, seen = random_trace(7), []
    found = replay(trace, TOPOLOGY, StaticPolicy(), first=2, interval=2, watch=seen.append)
    assert [part.first for part in seen] == [2, 4, 6]
    assert np.concatenate([part.windows.loads for part in seen]).tolist() == trace.loads[2:].tolist()
    assert np.concatenate([part.evaluation.balancedness for part in seen]).tolist() == found.balancedness.tolist()
    assert all(part.placement is found.placement for part in seen)


# ---- what a policy is shown


def test_a_policy_sees_the_past_alone():
    """Each plan is made from the windows before it, `history` of them at most."""
    trace, recorder = random_trace(6), Recorder()
    replay(trace, TOPOLOGY, recorder, first=2, history=3)
    expected = [trace.loads[0:2], trace.loads[0:3], trace.loads[1:4], trace.loads[2:5]]
    assert [shown.tolist() for shown in recorder.histories] == [part.tolist() for part in expected]


def test_the_future_does_not_matter():
    """A trace whose later windows differ gives the same placements up to there."""
    trace = random_trace(9)
    poisoned = LoadTrace(loads=np.concatenate([trace.loads[:5], trace.loads[5:, :, ::-1] * 7]))
    one, other = Recorder(), Recorder()
    replay(trace, TOPOLOGY, one, first=2)
    replay(poisoned, TOPOLOGY, other, first=2)
    assert [p.physical_to_logical.tolist() for p in one.placements[:4]] == [
        p.physical_to_logical.tolist() for p in other.placements[:4]
    ]
    assert one.placements[4] != other.placements[4]


def test_no_window_is_read_before_it_is_planned_for():
    """When the policy plans for a window, nothing of it or after it has been read."""
    trace, recorder = random_trace(9), Recorder()
    store = Store(trace, refuse=lambda first, last: last > 2 + len(recorder.placements))
    assert len(replay(store, TOPOLOGY, recorder, first=2).balancedness) == 7


def test_a_policy_may_declare_that_it_sees_the_future():
    """It is shown the windows that it will be scored on, and the result says so."""

    class Seer(Recorder):
        sees_future = True

    trace, seer = random_trace(7), Seer()
    assert replay(trace, TOPOLOGY, seer, first=2, interval=2).sees_future
    spans = [(2, 4), (4, 6), (6, 7)]
    assert [shown.tolist() for shown in seer.histories] == [trace.loads[a:b].tolist() for a, b in spans]


def test_a_store_is_read_in_bounded_parts(monkeypatch):
    """Neither planning nor scoring asks for more windows than memory holds, even if nothing is planned anew."""
    monkeypatch.setattr(parts_module, "LOADS_AT_ONCE", 3 * 2 * TOPOLOGY.num_slots)
    trace = random_trace(60)
    store = Store(trace)
    found = replay(store, TOPOLOGY, StaticPolicy(), first=5, history=4, interval=100)
    assert max(last - first for first, last in store.parts) == 4
    assert_equal_but_for_time(found, replay(trace, TOPOLOGY, StaticPolicy(), first=5, history=4, interval=100))


def test_each_window_is_read_once_to_plan_and_once_to_score():
    """However long the history is: it is kept, with tokens and labels, and what is too old is dropped."""
    trace = LoadTrace(loads=random_trace(30).loads, tokens=range(30), labels=[f"w{t}" for t in range(30)])
    store, seen = Store(trace), []

    class Reader(Recorder):
        def place(self, history, *args):
            seen.append(history)
            return super().place(history, *args)

    replay(store, TOPOLOGY, Reader(), first=9, history=5, interval=2)
    assert np.bincount([t for span in store.parts for t in range(*span)], minlength=30).max() == 2
    assert seen[3].tokens.tolist() == [10, 11, 12, 13, 14] and seen[3].labels[0] == "w10"
    np.testing.assert_array_equal(seen[3].loads, trace.loads[10:15])


# ---- when it plans, and what it may move


def test_a_placement_holds_for_an_interval():
    """Each window is scored under the newest placement, the last interval may be short."""
    trace, recorder = random_trace(9), Recorder()
    found = replay(trace, TOPOLOGY, recorder, first=2, interval=3)
    by_hand = [eplb.evaluate(recorder.placements[(t - 2) // 3], trace.loads[t]).balancedness[0] for t in range(2, 9)]
    assert len(recorder.placements) == 3 and found.balancedness.tolist() == by_hand
    assert found.placement == recorder.placements[-1]


def test_the_first_plan_is_free():
    """It starts from nothing, without a budget, and its moves are told apart."""
    trace, recorder = random_trace(6), Recorder()
    found = replay(trace, TOPOLOGY, recorder, first=2, max_moves_share=0.25)
    assert recorder.previous == [None, *recorder.placements[:-1]]
    assert recorder.max_moves == [None, 6, 6, 6]
    in_order = ContiguousPolicy().place(trace, TOPOLOGY, None, None)
    assert found.first_moves == len(in_order.moves_to(recorder.placements[0])) > 0


@pytest.mark.parametrize(("share", "moves"), [(0, 0), (0.29, 29), (0.999, 99), (1, None), (1.0, None)])
def test_the_budget_is_a_share_of_the_slots(share, moves):
    """Of all layers, rounded down; all of them is no limit."""
    recorder = Recorder()
    topology = Topology(num_ranks=5, slots_per_rank=[13, 13, 9, 12, 12], failed_ranks=[2])
    trace = LoadTrace(loads=np.ones((3, 2, 8)))
    found = replay(trace, topology, recorder, first=1, max_moves_share=share)
    assert recorder.max_moves[1:] == [moves] and found.num_slots == 100


def test_a_limit_for_each_rank_reaches_who_asks_for_it():
    """Only a policy that declares it is given the keyword, and not at its first plan."""

    class Limited(Recorder):
        limits_each_rank = True
        each_rank = ()

        def place(self, *args, max_moves_per_rank=None):
            self.each_rank += (max_moves_per_rank,)
            return super().place(*args)

    limited = Limited()
    replay(random_trace(5), TOPOLOGY, limited, first=2, max_moves_per_rank=1)
    replay(random_trace(5), TOPOLOGY, Recorder(), first=2, max_moves_per_rank=1)
    assert limited.each_rank == (None, 1, 1)


def test_moves_are_those_of_placements():
    """Each replan's moves, and the most that one rank received, are counted from the two placements."""
    trace, recorder = random_trace(7), Recorder()
    found = replay(trace, TOPOLOGY, recorder, first=2)
    pairs = zip(recorder.placements, recorder.placements[1:], strict=False)
    moves = [before.moves_to(after) for before, after in pairs]
    assert found.moves.tolist() == [len(m) for m in moves]
    assert found.received.tolist() == [max(np.bincount(m[:, 1])) for m in moves]
    assert found.most_received == max(found.received)
    assert found.moved_share == found.moves.sum() / 5 / 24 and found.largest_moved_share == found.moves.max() / 24


def test_moving_too_much_is_told_of():
    """A policy that ignores its budget is scored all the same."""
    found = replay(random_trace(6), TOPOLOGY, Reversing(), first=2, max_moves_share=0.5)
    assert (found.moves > found.max_moves).all() and found.num_over_budget == 3
    limits = {"max_moves_share": 1, "max_moves_per_rank": 5}
    assert replay(random_trace(6), TOPOLOGY, Reversing(), first=2, **limits).num_over_budget == 3
    assert replay(random_trace(6), TOPOLOGY, StaticPolicy(), first=2, max_moves_share=0).num_over_budget == 0


# ---- how it is scored


def test_layers_and_worst_window_are_sums_by_hand():
    """A layer's balancedness divides sums over windows; the worst window has its number in the trace."""
    trace = random_trace(9)
    found = replay(trace, TOPOLOGY, ContiguousPolicy(), first=3)
    by_hand = eplb.evaluate(found.placement, trace.loads[3:])
    layers = by_hand.mean_loads.sum(axis=0) / by_hand.largest_loads.sum(axis=0)
    assert found.balancedness_per_layer == pytest.approx(layers)
    worst = int(np.argmin(by_hand.balancedness))
    assert found.worst_window == (3 + worst, by_hand.balancedness[worst])
    assert found.mean_balancedness == pytest.approx(by_hand.balancedness.mean())


def test_activated_experts_are_those_of_working_ranks():
    """The mean is over windows, layers and working ranks; the largest is summed over layers."""
    topology = Topology(num_ranks=3, slots_per_rank=2, failed_ranks=[1])
    trace = LoadTrace(loads=[[[1, 1, 1], [1, 1, 1]], [[5, 0, 0], [0, 0, 5]], [[0, 0, 0], [1, 1, 0]]])
    found = replay(trace, topology, ContiguousPolicy(), first=1)  # ranks hold [0, 1], nothing, [2, 0]
    assert found.activated_experts == pytest.approx((2 + 1 + 0 + 3) / 8)
    assert found.largest_activated_experts == pytest.approx((1 + 1 + 0 + 2) / 2)


def test_steps_are_scored_under_the_placement_in_force():
    """Each step by itself, as evaluating it by hand does; sums over steps look better."""
    steps = random_trace(24)
    trace, recorder = steps.windows(4), Recorder()
    found = replay(trace, TOPOLOGY, recorder, first=2, steps=steps)
    by_hand = [eplb.evaluate(recorder.placements[s // 4 - 2], steps.loads[s]).balancedness[0] for s in range(8, 24)]
    assert found.step_balancedness.tolist() == by_hand
    assert found.step_scores.balancedness.mean() < found.mean_balancedness
    assert replay(trace, TOPOLOGY, recorder, first=2).step_balancedness is None


def test_progress_is_told_after_each_window():
    """However long the interval."""
    seen = []
    replay(random_trace(7), TOPOLOGY, ContiguousPolicy(), first=2, interval=3, progress=lambda *at: seen.append(at))
    assert seen == [(done, 5) for done in range(1, 6)]


def test_a_replay_is_the_same_again():
    """Times aside; and nothing in it can be changed."""
    one, other = (replay(random_trace(), TOPOLOGY, StaticPolicy()) for _ in range(2))
    assert_equal_but_for_time(one, other)
    assert not one.balancedness.flags.writeable and not one.moves.flags.writeable
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.policy = "other"
    assert one.planning_seconds.size == one.moves.size + 1 == 6
    assert one.total_planning_seconds >= one.median_planning_seconds >= 0


def test_one_scored_window_has_no_replans():
    """The first plan is all there is; nothing is divided by nothing."""
    found = replay(random_trace(3), TOPOLOGY, OraclePolicy(), first=2)
    assert (found.moves.size, found.moved_share, found.largest_moved_share, found.most_received) == (0, 0, 0, 0)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"history": 0}, "history: expected an integer >= 1, got 0"),
        ({"history": 2.0}, "history: .* got 2.0"),
        ({"interval": 0}, "interval: expected an integer >= 1, got 0"),
        ({"interval": True}, "interval: .* got True"),
        ({"first": 0}, "first: expected an integer of 1 to 13 of a trace of 14 windows, got 0"),
        ({"first": 14}, "first: .* got 14"),
        ({"max_moves_share": -0.1}, "max_moves_share: expected a share of the slots, 0 to 1, got -0.1"),
        ({"max_moves_share": 1.1}, "max_moves_share: .* got 1.1"),
        ({"max_moves_share": float("nan")}, "max_moves_share: .* got nan"),
        ({"max_moves_share": None}, "max_moves_share: .* got None"),
        ({"max_moves_per_rank": -1}, "max_moves_per_rank: expected an integer >= 0, got -1"),
        ({"split": "odd"}, "split: expected even, weighted or weighted-lagged, got 'odd'"),
        ({"policy": "static"}, "policy: expected an object with a method place, got 'static'"),
        ({"topology": 8}, "topology: expected an eplb.Topology, got int"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    """The message names the option, what was expected and what came."""
    asked = {"topology": TOPOLOGY, "policy": ContiguousPolicy(), **options}
    with pytest.raises(eplb.OptionError, match=says):
        replay(random_trace(), **asked)


def test_a_single_window_cannot_be_replayed():
    """There is nothing unseen to score."""
    with pytest.raises(eplb.OptionError, match="at least 2 windows"):
        replay(random_trace(1), TOPOLOGY, ContiguousPolicy(), first=1)


@pytest.mark.parametrize("trace", [[[[1, 2]]], np.ones((9, 1, 2)), None])
def test_what_hands_out_no_parts_is_refused(trace):
    """An array has no windows that could be kept from a policy."""
    with pytest.raises(eplb.LoadsError, match=r"expected an eplb.LoadTrace"):
        replay(trace, TOPOLOGY, ContiguousPolicy())


def test_windows_of_another_shape_are_refused():
    """A store that hands out something else than it says is named, with what came."""
    store = Store(random_trace())
    store.num_experts = 9
    with pytest.raises(eplb.LoadsError, match=r"windows 0 to 7 as a LoadTrace \(8, 2, 9\), got \(8, 2, 8\)"):
        replay(store, TOPOLOGY, ContiguousPolicy())


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (random_trace(27), "equally many for each of 14 windows, got 27"),
        (random_trace(7), "equally many for each of 14 windows, got 7"),
        (random_trace(28, num_layers=1), "expected 2 layers x 8 experts as in the trace, got 1 x 8"),
        (random_trace(28), "do not sum up to window 8"),
        ([1], "steps: expected an eplb.LoadTrace"),
    ],
)
def test_steps_of_another_trace_are_refused(steps, says):
    """Scores by step and by window must be about the same tokens."""
    with pytest.raises(eplb.LoadsError, match=says):
        replay(random_trace(), TOPOLOGY, ContiguousPolicy(), steps=steps)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "expected an eplb.Placement, got NoneType"),
        (eplb.Placement(physical_to_logical=[[0, 1] * 6], topology=TOPOLOGY), "2 layers x 8 experts, got 1 x 2"),
        (
            ContiguousPolicy().place(random_trace(), Topology(num_ranks=3, slots_per_rank=4), None, None),
            "on the topology that was given",
        ),
    ],
)
def test_what_is_no_placement_is_refused(result, says):
    """The message says whose it is and for which window."""
    with pytest.raises(eplb.PlacementError, match=rf"policy fixed, planning window 8: .*{says}"):
        replay(random_trace(), TOPOLOGY, Fixed(result))


def test_too_few_slots_are_refused_at_once():
    """Before anything is planned."""
    with pytest.raises(eplb.InfeasibleError, match="8 experts do not fit 4 usable slots"):
        replay(random_trace(), Topology(num_ranks=4, slots_per_rank=1), Recorder())
