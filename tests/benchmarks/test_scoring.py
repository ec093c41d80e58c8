"""The benchmark's scorer on plans small enough to score by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
LOADS = np.array([[6, 2, 1, 1]], dtype=np.float32)
PERFECT = np.ones(1)


@pytest.fixture
def scored(monkeypatch):
    """Return a function that scores one layer of six slots on two ranks, four experts, two groups, two nodes."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import scoring
    from shapes import Shape

    shape = Shape(name="toy", num_layers=1, num_experts=4, num_slots=6, num_ranks=2, num_nodes=2, num_groups=2)
    yield lambda slots: scoring.score(np.array([slots]), LOADS, shape, PERFECT)
    for name in ("scoring", "shapes"):
        sys.modules.pop(name)


def test_a_balanced_plan_reaches_the_bound(scored):
    """Loads 3 + 1 + 1 on both ranks."""
    result = scored([0, 1, 2, 0, 1, 3])
    assert (result.balancedness, result.below_bound, result.duplicates) == (1.0, 0.0, 0)


def test_an_expert_twice_on_a_rank_is_a_duplicate(scored):
    """Loads 2 + 2 + 2 and 2 + 1 + 1: expert 0 stands three times on rank 0."""
    result = scored([0, 0, 0, 1, 2, 3])
    assert (result.balancedness, result.duplicates) == (pytest.approx(5 / 6), 2)


@pytest.mark.parametrize(
    ("slots", "split"), [([0, 1, 0, 2, 3, 2], 0), ([0, 1, 2, 3, 3, 2], 1), ([0, 2, 1, 3, 0, 1], 2)]
)
def test_groups_on_two_nodes_are_counted(scored, slots, split):
    """Experts 0 and 1 are a group, 2 and 3 another; each should stand on one rank here."""
    assert scored(slots).split_groups == split


@pytest.mark.parametrize("slots", [[0, 1, 2, 0, 1, 2], [0, 1, 2, 3, 4, 0], [0, 1, 2, 3, -1, 0], [0, 1, 2, 3]])
def test_an_unsound_plan_is_refused(scored, slots):
    """An expert left out, an id out of range, -1, a wrong shape."""
    with pytest.raises(ValueError, match="unsound plan"):
        scored(slots)
