"""The fix-up that moves one replica: what it never does, and what it reaches."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.deepseek import replicate_experts, replication_fixup
from eplb.errors import LoadsError, OptionError
from tests import reference_deepseek as reference

DOC = Path(__file__).parents[1] / "docs" / "replication-fixup.md"
quick = settings(deadline=None, max_examples=150)
loads = st.one_of(st.integers(0, 5), st.integers(0, 1000))


@st.composite
def layers(draw, most_experts=9):
    """Draw loads and counts of one layer, small integers with many ties among them."""
    weights = draw(st.lists(loads, min_size=1, max_size=most_experts))
    counts = draw(st.lists(st.integers(1, 6), min_size=len(weights), max_size=len(weights)))
    return weights, counts


@st.composite
def layers_of_floats(draw):
    """Draw loads of any size, from zero to the largest float, and counts."""
    weights = draw(st.lists(st.floats(0, 1e300, width=64), min_size=1, max_size=9))
    return weights, draw(st.lists(st.integers(1, 9), min_size=len(weights), max_size=len(weights)))


def fixed(weights, counts, **options):
    """Return the counts of one layer after the fix-up."""
    return replication_fixup(np.array([weights]), np.array([counts]), **options)[0]


def greedy_counts(weights, total):
    """Return the counts that `replicate_experts` gives one layer."""
    return replicate_experts(np.array([weights]), total)[2][0]


@quick
@given(layers(), st.booleans())
def test_nothing_moves_after_the_greedy(layer, strict):
    """Counts from highest averages are left alone, with either rule."""
    weights, counts = layer
    granted = greedy_counts(weights, sum(counts))
    assert np.array_equal(fixed(weights, granted, steps=None, strict=strict), granted)


@quick
@given(layers_of_floats(), st.booleans())
def test_nothing_moves_after_the_greedy_on_hostile_floats(layer, strict):
    """The same holds for rounded quotients, subnormal and huge ones included."""
    weights, counts = layer
    granted = greedy_counts(weights, sum(counts))
    assert np.array_equal(fixed(weights, granted, steps=None, strict=strict), granted)


@quick
@given(layers())
def test_published_direction_changes_nothing_after_the_greedy(layer):
    """No donor with the highest average lowers the maximum of counts from highest averages."""
    weights, counts = layer
    granted = [int(c) for c in greedy_counts(weights, sum(counts))]
    donors = reference.published_donors(weights, granted)
    assert not any(reference.published_move_helps(weights, granted, donor) for donor in donors)


@quick
@given(layers())
def test_published_direction_never_fires(layer):
    """No donor with the highest average lowers the maximum, on any counts."""
    weights, counts = layer
    donors = reference.published_donors(weights, counts)
    assert not any(reference.published_move_helps(weights, counts, donor) for donor in donors)


@quick
@given(layers(), st.integers(0, 4), st.booleans())
def test_largest_average_never_rises(layer, steps, strict):
    """However many steps, the maximum stays or falls and no replica is lost."""
    weights, counts = layer
    after = fixed(weights, counts, steps=steps, strict=strict)
    assert max(reference.averages(weights, after)) <= max(reference.averages(weights, counts))
    assert after.sum() == sum(counts) and after.min() >= 1


@quick
@given(layers_of_floats(), st.booleans())
def test_largest_average_never_rises_on_hostile_floats(layer, strict):
    """The rounded maximum stays or falls too."""
    weights, counts = np.array(layer[0]), np.array(layer[1])
    assert (weights / fixed(weights, counts, steps=None, strict=strict)).max() <= (weights / counts).max()


@quick
@given(layers())
def test_repeated_without_strictness_it_reaches_the_greedy(layer):
    """From any counts the largest average becomes that of the greedy."""
    weights, counts = layer
    after = fixed(weights, counts, steps=None, strict=False)
    granted = greedy_counts(weights, sum(counts))
    assert max(reference.averages(weights, after)) == max(reference.averages(weights, granted))


@quick
@given(layers())
def test_it_takes_as_many_moves_as_replicas_are_missing(layer):
    """The optimum is reached after exactly the missing replicas, and not one move earlier."""
    weights, counts = layer
    bound = reference.optimum(weights, sum(counts))
    needed = reference.replicas_needed(weights, bound)
    missing = sum(max(0, need - count) for need, count in zip(needed, counts, strict=True))
    after = fixed(weights, counts, steps=missing, strict=False)
    assert max(reference.averages(weights, after)) == bound
    if missing:
        before = fixed(weights, counts, steps=missing - 1, strict=False)
        assert max(reference.averages(weights, before)) > bound


@quick
@given(layers())
def test_strict_rule_sticks_only_on_a_shared_maximum(layer):
    """Where the strict rule stops above the optimum, two experts or more have the largest average."""
    weights, counts = layer
    after = reference.averages(weights, fixed(weights, counts, steps=None))
    assert max(after) == reference.optimum(weights, sum(counts)) or after.count(max(after)) >= 2


@quick
@given(st.lists(loads, min_size=1, max_size=4), st.integers(0, 4))
def test_greedy_is_optimal(weights, num_redundant):
    """No counts at all have a smaller largest average; the oracle of the optimum agrees."""
    total = len(weights) + num_redundant
    best = reference.every_optimum(weights, total)
    assert max(reference.averages(weights, greedy_counts(weights, total))) == best
    assert reference.optimum(weights, total) == best


def test_strict_rule_sticks_on_a_tie():
    """One move cannot lower two maxima; counting the experts that attain it gets past."""
    weights, counts = [9, 9, 2, 2], [1, 1, 2, 2]
    assert fixed(weights, counts, steps=None).tolist() == counts
    assert fixed(weights, counts, steps=None, strict=False).tolist() == [2, 2, 1, 1]


def test_donor_is_the_cheapest_after_giving():
    """The lowest average would rise above the maximum by giving; the middle one may give."""
    assert fixed([10, 18, 9.5], [2, 3, 1]).tolist() == [2, 2, 2]


def test_one_step_moves_one_replica():
    """By default one replica moves a row, and the caller's counts stay as they were."""
    counts = np.array([[1, 5, 1], [1, 1, 1]])
    after = replication_fixup(np.array([[90, 20, 10], [9, 1, 1]]), counts)
    assert after.tolist() == [[2, 4, 1], [1, 1, 1]]
    assert counts.tolist() == [[1, 5, 1], [1, 1, 1]]


def test_lowest_ids_give_and_receive_among_equals():
    """Among equal receivers and equal donors the lowest id is taken."""
    assert fixed([8, 8, 2, 2], [1, 1, 2, 2], strict=False).tolist() == [2, 1, 1, 2]


def test_no_steps_change_nothing():
    """Zero steps return a copy of the counts."""
    assert fixed([90, 20], [1, 5], steps=0).tolist() == [1, 5]


def test_half_precision_is_kept():
    """In float16 the two highest averages are equal, so the move that pays in float32 does not."""
    weights, counts = np.array([[2042.0, 2041.0, 4.0]]), np.array([[15, 15, 2]])
    assert replication_fixup(weights.astype(np.float32), counts).tolist() == [[16, 15, 1]]
    assert replication_fixup(weights.astype(np.float16), counts).tolist() == [[15, 15, 2]]


@pytest.mark.parametrize(
    "counts",
    [[[1, 2, 3]], [1, 2], [[1.0, 2.0]], [[0, 2]], [[True, True]], [["1", "2"]], [[-1, 2]]],
)
def test_wrong_counts_are_refused(counts):
    """Counts of another shape, that are no integers or below one raise an OptionError that names them."""
    with pytest.raises(OptionError, match="logcnt"):
        replication_fixup(np.ones((1, 2)), counts)


@pytest.mark.parametrize("steps", [-1, 1.5, True, "1"])
def test_wrong_steps_are_refused(steps):
    """Steps must be an integer from zero."""
    with pytest.raises(OptionError, match="steps"):
        replication_fixup(np.ones((1, 2)), [[1, 2]], steps=steps)


def test_wrong_loads_are_refused():
    """The first bad load is named with its place."""
    with pytest.raises(LoadsError, match=r"nan at \[0, 1\]"):
        replication_fixup([[1.0, np.nan]], [[1, 2]])


def test_tensors_come_back_as_tensors():
    """A tensor of loads gives a tensor of counts."""
    torch = pytest.importorskip("torch")
    after = replication_fixup(torch.tensor([[90.0, 20.0]]), torch.tensor([[1, 2]]))
    assert after.dtype == torch.int64 and after.tolist() == [[2, 1]]


def test_documented_example_prints_what_it_says():
    """The example in docs/replication-fixup.md runs."""
    examples = DOC.read_text(encoding="utf-8").replace("```", "")
    outcome = doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(examples, {}, "doc", str(DOC), 0))
    assert outcome.attempted > 4 and outcome.failed == 0
