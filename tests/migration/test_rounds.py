"""Rounds: each is a matching, and there are as few as the busiest rank allows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.migration import assign
from tests import reference_migration as reference

SEEDS = st.integers(0, 2**32 - 1)


def assert_rounds_are_matchings(found):
    """No rank sends twice, or receives twice, in a round of a row."""
    for ranks in (found.source_rank, found.target_rank):
        assert len(set(zip(found.row.tolist(), found.round.tolist(), ranks.tolist(), strict=True))) == ranks.size


def degrees_of(found, num_rows):
    """Return the most that one rank sends or receives, in each row."""
    degrees = np.zeros(num_rows, dtype=int)
    for ranks in (found.source_rank, found.target_rank):
        for row in range(num_rows):
            degrees[row] = max(degrees[row], np.bincount(ranks[found.row == row]).max(initial=0))
    return degrees


@settings(max_examples=200)
@given(SEEDS)
def test_rounds_are_as_few_as_can_be(seed):
    """A rank with that many sends or receives needs that many rounds; no row takes one more."""
    topology, before, after = reference.random_change(seed, most_ranks=16, most_slots=8)
    found = assign(np.stack([before, after]), np.stack([after, before]), topology)
    assert_rounds_are_matchings(found)
    assert found.num_rounds.tolist() == degrees_of(found, 2).tolist()
    assert all(found.round[found.row == row].max(initial=-1) == found.num_rounds[row] - 1 for row in range(2))
