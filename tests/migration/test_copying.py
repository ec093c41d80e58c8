"""Copies inside a rank: whatever changes places, nothing is overwritten that is still needed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.migration.applying import apply_copies
from eplb.migration.commits import gains
from eplb.migration.copying import local_copies
from eplb.migration.staging import ExpertRows

ROWS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


@settings(deadline=None, max_examples=500)
@given(data=st.data())
def test_copies_fill_the_slots(data):
    """One copy for each slot that changes, and one more for each circle; one row of staging serves all circles."""
    before = np.array(data.draw(ROWS))
    after = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(before), max_size=len(before))))
    arrived = gains(before, after)
    copies = local_copies(before, after, arrived)
    memory = [*before.tolist(), *arrived, None]
    for source, target in copies.steps:
        memory[target] = memory[source]
    assert memory[: len(before)] == after.tolist()
    circles = len(copies.steps) - int((before != after).sum())
    assert copies.num_staged == len(arrived) + (circles > 0)


def test_slots_that_stay_are_not_touched():
    copies = local_copies(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), [])
    assert copies.steps == [(3, 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.float8_e4m3fn])
def test_experts_change_places_in_memory(dtype):
    """All parameters of an expert together, in any dtype, through a row of staging."""
    weights = [torch.arange(6).reshape(3, 2).to(dtype), torch.tensor([0, 1, 0]).to(dtype)]
    wanted = [part.to(torch.float32)[[1, 2, 0]] for part in weights]
    rows = ExpertRows(weights)
    staging = torch.empty(2 * rows.expert_bytes, dtype=torch.uint8)
    apply_copies(local_copies(np.array([4, 5, 6]), np.array([5, 6, 4]), []), rows, staging)
    for part, want in zip(weights, wanted, strict=True):
        assert torch.equal(part.to(torch.float32), want)
