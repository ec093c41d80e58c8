"""What a swap or a re-grant is said to do, against working everything out anew."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eplb import Topology
from eplb.kernels.windows.exchanges import regrant_change, swap_change, swap_hopes
from tests import reference

SCALED = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5, 0.25, 1e-300, 5e-324]))


def standing(case, slots):
    """Return what a board holds of `slots`, worked out slot by slot."""
    topology, num_experts = case.topology, len(case.loads)
    times = np.stack(
        [
            reference.rank_times(slots, case.loads[:, s], topology)
            + reference.slot_costs(slots, case.extras[:, s], topology)
            for s in range(case.weights.size)
        ],
        axis=1,
    )
    tops, slow = np.full((3, case.weights.size), -1), np.zeros((3, case.weights.size))
    for s, column in enumerate(times.T):
        order = np.argsort(-column, kind="stable")[:3]
        tops[: len(order), s], slow[: len(order), s] = order, column[order]
    copies = np.zeros((num_experts, topology.num_ranks), dtype=np.int64)
    np.add.at(copies, (slots, topology.rank_of_slot), 1)
    counts = copies.sum(axis=1)
    sizes = case.loads / counts[:, None] + case.extras
    return SimpleNamespace(times=times, tops=tops, slow=slow, copies=copies, counts=counts, sizes=sizes)


def expected_change(case, steps):
    """Return the change of the expected time that follows from the slots alone."""
    options = (case.loads, case.weights, case.topology, case.extras)
    before = reference.expected_time(case.slots, *options)
    change = reference.expected_time(reference.after(case.slots, steps), *options) - before
    return pytest.approx(change, rel=1e-9, abs=1e-12 * (1 + before))


@st.composite
def cases(draw):
    """Draw loads [E, S], extras, weights, a machine and any slots on it, experts twice on a rank too."""
    num_ranks, num_scenarios = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    slots_per_rank = draw(st.lists(st.integers(1, 3), min_size=num_ranks, max_size=num_ranks))
    speeds = draw(st.lists(st.sampled_from([0.5, 1.0, 1.5]), min_size=num_ranks, max_size=num_ranks))
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank, rank_speeds=speeds)
    num_experts = draw(st.integers(1, topology.num_slots))
    size = num_experts * num_scenarios
    rest = st.integers(0, num_experts - 1)
    spare = topology.num_slots - num_experts
    slots = [*range(num_experts), *draw(st.lists(rest, min_size=spare, max_size=spare))]
    return SimpleNamespace(
        loads=np.array(draw(st.lists(SCALED, min_size=size, max_size=size))).reshape(num_experts, num_scenarios),
        extras=np.array(draw(st.lists(st.sampled_from([0.0, 0.25]), min_size=size, max_size=size))).reshape(
            num_experts, num_scenarios
        ),
        weights=reference.recency_weights(num_scenarios, draw(st.sampled_from([1.0, 0.5]))),
        topology=topology,
        slots=np.array(draw(st.permutations(slots))),
    )


@settings(deadline=None, max_examples=200)
@given(case=cases(), data=st.data())
def test_a_swap_does_what_is_said(compiled, case, data):
    """Its change is that of the expected time; it never gains more than was hoped for; above the limit it is inf."""
    slot, other = (data.draw(st.integers(0, case.slots.size - 1)) for _ in range(2))
    here, there = case.topology.rank_of_slot[[slot, other]]
    assume(here != there)
    now, costs, num_scenarios = standing(case, case.slots), 1 / case.topology.speeds, case.weights.size
    rest, hopes = np.empty(num_scenarios), np.empty(num_scenarios + 1)
    hope = compiled(swap_hopes)(now.tops, now.slow, case.weights, here, there, rest, hopes)
    experts = (case.slots[slot], case.slots[other])
    options = (now.sizes, now.times, case.weights, now.slow, costs, here, there, *experts, rest, hopes)
    change = compiled(swap_change)(*options, np.inf)
    assert change == expected_change(case, [(slot, other)])
    assert -change <= hope + 1e-12 * (1 + hope)
    assert compiled(swap_change)(*options, change + 1e-9) == change
    assert compiled(swap_change)(*options, change - 1e-9) == np.inf


@settings(deadline=None, max_examples=200)
@given(case=cases(), data=st.data())
def test_a_regrant_does_what_is_said(compiled, case, data):
    """Its change is that of the expected time, on all ranks whose experts get another share."""
    slot = data.draw(st.integers(0, case.slots.size - 1))
    expert = data.draw(st.integers(0, len(case.loads) - 1))
    now, donor = standing(case, case.slots), case.slots[slot]
    assume(now.counts[donor] > 1 and donor != expert)
    rank, touched = case.topology.rank_of_slot[slot], np.empty(case.topology.num_ranks, np.int64)
    state = (now.counts, now.copies, now.times, case.weights, now.tops, now.slow, 1 / case.topology.speeds)
    change = compiled(regrant_change)(case.loads, case.extras, *state, rank, donor, expert, touched)
    assert change == expected_change(case, [(slot, -1 - expert)])
