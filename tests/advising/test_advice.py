"""Go or no-go, on traces whose answer is known."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import eplb
from eplb.advising.advice import advise
from eplb.advising.deciding import decided, gain_of
from eplb.advising.paragraph import milliseconds, paragraph
from eplb.cli.demo import bundled_trace
from eplb.errors import LoadsError, OptionError
from eplb.replay.cost import CostModel, hardware_named, model_named
from tests.advising.toy import COST, shifting, shuffled, steady

TRACES = Path(__file__).parents[3] / "shared" / "traces"
QUICK = {"num_ranks": 4, "effort": "fast"}
GPT_OSS = CostModel(
    hardware=hardware_named("h100"), model=model_named("gpt-oss-20b"), steps_per_window=32, batch_scale=100
)


def recorded(name):
    """Return the recorded trace of that name, or skip the test."""
    if not (TRACES / name).exists():
        pytest.skip(f"no recorded trace {name} beside the checkout")
    return eplb.LoadTrace.load(TRACES / name)


# ---- the answer


def test_loads_that_stay_are_placed_once():
    """Replanning adds nothing to that."""
    found = advise(steady(), COST, **QUICK)
    assert found.choice == "static" and found.go
    assert found.options["static"].gain.low > 0.5
    assert found.dynamic_over_static.expected < 0.02


def test_loads_that_shift_are_replanned():
    """A placement that is made once falls behind."""
    found = advise(shifting(every=12), COST, **QUICK)
    assert found.choice == "dynamic"
    assert found.chosen.seconds_per_step < found.options["static"].seconds_per_step
    assert found.chosen.moved_bytes_per_step > 0 and found.chosen.stall_seconds_per_step > 0


def test_even_loads_are_left_alone():
    """There is nothing to gain."""
    found = advise(eplb.LoadTrace(loads=np.full((8, 2, 16), 5000)), COST, **QUICK)
    assert not found.go and found.options["dynamic"].gain.expected == 0
    assert "nearly balanced: 1.000 of at most 1.000" in paragraph(found, COST)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_windows", [8, 24])
def test_loads_that_tell_nothing_are_left_alone(seed, num_windows):
    """However skewed they are; what spare slots gain by themselves is no merit of a plan."""
    found = advise(shuffled(steady(num_windows), seed), COST, **QUICK)
    assert not found.go
    assert "do not tell enough of those after" in paragraph(found, COST)


def test_small_batches_are_left_alone():
    """A rank that waits for weights does not care how many tokens it has."""
    cost = dataclasses.replace(COST, batch_scale=1e-4)
    found = advise(steady(), cost, **QUICK)
    assert not found.go and found.tokens_per_expert < found.knee_tokens
    assert "a rank waits for weights" in paragraph(found, cost)


def test_dear_migrations_are_counted():
    """Where a replan stalls for longer than it saves, the placement that is made once is taken."""
    trace = shifting(every=12)
    slow = dataclasses.replace(COST, planner_seconds=1.0)
    assert advise(trace, COST, **QUICK).choice == "dynamic"
    found = advise(trace, slow, **QUICK)
    assert found.choice != "dynamic"
    assert found.options["dynamic"].seconds_per_step > found.options["none"].seconds_per_step


def test_what_a_step_takes_beside_dilutes_the_gain():
    """Gains are of all that is modelled."""
    alone = advise(steady(), COST, **QUICK)
    more = dataclasses.replace(COST, other_seconds_per_step=alone.options["none"].seconds_per_step)
    assert advise(steady(), more, **QUICK).chosen.gain.expected < alone.chosen.gain.expected / 2


def test_the_gain_must_be_as_large_as_asked_for():
    """Else it is no-go."""
    assert not advise(steady(), COST, **QUICK, least_gain=5.0).go


def test_one_rank_has_nothing_to_balance():
    """And still gets an answer."""
    found = advise(steady(), COST, num_ranks=1, effort="fast")
    assert not found.go
    assert "There is one rank" in paragraph(found, COST)


# ---- recorded traces


def test_mixtral_is_left_alone():
    """On its nearly balanced domains, on any number of ranks."""
    trace = recorded("mixtral_olmoe.npz")
    cost = CostModel(hardware=hardware_named("h100"), model=model_named("mixtral-8x7b"))
    assert [advise(trace, cost, num_ranks=ranks).go for ranks in (2, 4, 8)] == [False] * 3


def test_a_shuffled_recording_is_left_alone():
    """Each window and layer has its experts renamed; nothing can be learned."""
    trace = shuffled(recorded("gptoss20b_decode_steady_dev.npz").part(0, 32))
    assert not advise(trace, GPT_OSS, num_ranks=8, effort="fast").go


def test_the_bundled_trace_is_worth_replanning_where_batches_are_large():
    """And no longer when its experts are shuffled, or batches are as small as they were."""
    trace = bundled_trace()
    assert advise(trace, GPT_OSS, num_ranks=8, effort="fast", splits=("even",)).choice == "dynamic"
    assert not advise(shuffled(trace), GPT_OSS, num_ranks=8, effort="fast", splits=("even",)).go
    small = dataclasses.replace(GPT_OSS, batch_scale=1)
    assert not advise(trace, small, num_ranks=8, effort="fast", splits=("even",)).go


# ---- how it is judged


def test_a_part_is_scored_with_what_was_chosen_before_it():
    """Other loads in the last part change its gain, and no other."""
    trace = shifting()
    loads = np.array(trace.loads)
    loads[-3:] = loads[-3:, :, ::-1]
    before, after = (
        advise(found, COST, **QUICK).options["dynamic"].gain.parts
        for found in (trace, dataclasses.replace(trace, loads=loads))
    )
    assert before[:-1] == after[:-1] and before[-1] != after[-1]


def test_the_same_input_gives_the_same_advice():
    """But for the one thing that a clock decides."""
    first, second = (dataclasses.replace(advise(shifting(), COST, **QUICK), planning_seconds=0.0) for _ in range(2))
    assert first == second


def test_progress_counts_the_settings():
    """One more each time."""
    seen = []
    advise(steady(), COST, **QUICK, progress=seen.append)
    assert seen == list(range(1, len(seen) + 1))


def test_a_range_is_as_wide_as_its_parts_and_as_uncertain_as_their_number():
    """Two parts that differ say little; four that agree say much."""
    few, many = gain_of([1.1, 1.3], [1, 1]), gain_of([1.1, 1.3, 1.1, 1.3], [1, 1, 1, 1])
    assert few.expected == pytest.approx(many.expected) == pytest.approx(0.2)
    assert few.low < many.low <= min(many.parts) and few.high > many.high >= max(many.parts)
    assert gain_of([2.0, 2.0], [1, 1]).low == 1.0
    assert gain_of([2.0, 2.0], [1, 1]).step_change == -0.5


def test_the_simplest_that_surely_pays_is_taken():
    """Once, unless replanning surely gains more; nothing, unless something surely pays."""
    sure, unsure = gain_of([1.2, 1.21], [1, 1]), gain_of([0.9, 1.5], [1, 1])
    assert decided(sure, sure, unsure, 0.02) == "static"
    assert decided(sure, sure, sure, 0.02) == decided(unsure, sure, unsure, 0.02) == "dynamic"
    assert decided(sure, unsure, sure, 0.02) == "static"
    assert decided(unsure, unsure, sure, 0.02) == "none"


# ---- what is said


def test_the_paragraph_tells_gain_memory_moves_and_what_is_left():
    """Of the choice, with its range."""
    found = advise(shifting(every=12), COST, **QUICK)
    text = paragraph(found, COST)
    gain = found.chosen.gain
    for part in (
        "Go: replan,",
        f"instead of {milliseconds(found.options['none'].seconds_per_step)}",
        f"tokens/s {gain.expected:+.1%} ({gain.low:+.1%} to {gain.high:+.1%}), on 4 later parts",
        "of memory a rank",
        "Replans move",
        f"no placement on these slots exceeds {found.bound:.3f}",
        "A placement made once gains",
    ):
        assert part in text, part


def test_placing_once_says_why_not_more():
    """And of a split that engines do not know, that it must be known."""
    found = advise(steady(), COST, **QUICK, splits=("even",))
    text, over = paragraph(found, COST), found.dynamic_over_static
    assert text.startswith("Go: place the experts once, 5 slots a rank. ")
    assert f"replanning over placing once: {over.expected:+.1%} ({over.low:+.1%} to {over.high:+.1%})." in text
    lagged = advise(steady(), COST, **QUICK, splits=("weighted-lagged",))
    assert "5 slots a rank, tokens split weighted-lagged, which your engine must know." in paragraph(lagged, COST)


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"num_ranks": 0}, OptionError, "num_ranks: expected an integer >= 1, got 0"),
        ({"num_nodes": 5}, OptionError, "num_nodes"),
        ({"splits": ("lagged",)}, OptionError, "splits: expected even, weighted or weighted-lagged, got 'lagged'"),
        ({"splits": "even"}, OptionError, "splits: expected at least one"),
        ({"least_gain": -0.1}, OptionError, "least_gain"),
        ({"effort": "none"}, OptionError, "effort"),
        ({"trace": steady(3)}, OptionError, "at least 4 windows to backtest"),
        ({"trace": eplb.LoadTrace(loads=np.ones((8, 2, 4)))}, LoadsError, "toy has 16 experts a layer, the trace 4"),
        ({"trace": eplb.LoadTrace(loads=np.ones((8, 3, 16)))}, OptionError, "toy has 2 MoE layers, the trace 3"),
        ({"trace": eplb.LoadTrace(loads=np.zeros((8, 2, 16)))}, LoadsError, "got zeros alone"),
        ({"trace": [[1, 2]]}, LoadsError, "trace: expected an eplb.LoadTrace"),
        ({"cost": "h100"}, OptionError, "cost: expected an eplb.replay.cost.CostModel, got str"),
    ],
)
def test_bad_input_is_named(changes, error, says):
    """With what was expected."""
    given = {"trace": steady(8), "cost": COST, **QUICK, **changes}
    with pytest.raises(error, match=says):
        advise(given.pop("trace"), given.pop("cost"), **given)
