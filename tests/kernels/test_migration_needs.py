"""What is needed, and who holds it, against sets of pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.kernels.migration.needs import find_needs
from tests import reference_migration as reference


@pytest.fixture(scope="module")
def found(compiled):
    """Return a function that finds the needs of a layer."""

    def needs(before, after, topology):
        slots = (before.astype(np.int64), after.astype(np.int64))
        return compiled(find_needs)(*slots, topology.slot_offsets.copy(), int(max(before.max(), after.max())) + 1)

    return needs


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_needs_and_holders_are_those_of_the_sets(found, seed):
    """Each pair once, by target rank, with all ranks that hold its expert."""
    topology, before, after = reference.random_change(seed)
    needs = found(before, after, topology)
    holders = [needs.holders[needs.starts[e] : needs.starts[e + 1]].tolist() for e in needs.experts]
    pairs = list(zip(needs.targets.tolist(), needs.experts.tolist(), strict=True))
    assert needs.targets.tolist() == sorted(needs.targets.tolist())
    assert sorted(zip(pairs, holders, strict=True)) == reference.needs_of(before, after, topology)
