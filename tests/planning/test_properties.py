"""Plans on random machines and hostile loads are sound, whatever the effort."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

import eplb
from eplb import InfeasibleError, Topology
from tests.planning.soundness import assert_sound

LOAD = st.one_of(st.integers(0, 9).map(float), st.floats(0, 1e18), st.sampled_from([0.0, 1e-300, 1e18, 1.0]))
SPEED = st.sampled_from([0.5, 1.0, 1.5, 4.0])


@st.composite
def machines(draw):
    """Draw a topology and the groups of a model that may fit it."""
    num_ranks = draw(st.integers(1, 7))
    topology = Topology(
        num_ranks=num_ranks,
        slots_per_rank=draw(
            st.lists(st.integers(1, draw(st.sampled_from([3, 7]))), min_size=num_ranks, max_size=num_ranks)
        ),
        num_nodes=draw(st.integers(1, num_ranks)),
        rank_speeds=draw(st.none() | st.lists(SPEED, min_size=num_ranks, max_size=num_ranks)),
        failed_ranks=sorted(draw(st.sets(st.integers(0, num_ranks - 1), max_size=num_ranks - 1))),
    )
    return topology, draw(st.sampled_from([1, 1, 2, 3, 4]))


@settings(deadline=None, max_examples=400)
@given(
    machine=machines(),
    size=st.integers(1, 4),
    effort=st.sampled_from(["fast", "balanced", "thorough"]),
    data=st.data(),
)
def test_plans_are_sound(machine, size, effort, data):
    """Every expert is placed, ranks hold distinct experts, and the certificate tells the truth."""
    topology, groups = machine
    loads = [data.draw(st.lists(LOAD, min_size=groups * size, max_size=groups * size))]
    try:
        plan = eplb.plan(loads, topology, groups=groups, effort=effort)
    except InfeasibleError:
        return
    assert_sound(plan, loads, topology, distinct=groups == 1)


@settings(deadline=None, max_examples=100)
@given(machine=machines(), data=st.data())
def test_balanced_is_never_worse_than_fast(machine, data):
    """More work does not raise the largest load, where no rank has slots for more than all experts."""
    topology, groups = machine
    assume(topology.slot_counts.max() <= 3)
    loads = [data.draw(st.lists(LOAD, min_size=groups * 3, max_size=groups * 3))]
    try:
        fast, balanced = (eplb.plan(loads, topology, groups=groups, effort=e).certificate for e in ("fast", "balanced"))
    except InfeasibleError:
        return
    assert balanced.largest_load <= fast.largest_load * (1 + 1e-12)
