"""The rows that a layer passes through: every expert covered, staging kept to, no transfer more than needed."""

import tracemalloc
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import Placement, Topology
from eplb.migration.assignment import assign
from eplb.migration.commits import commits_between, gains, path_of
from eplb.migration.copying import local_copies
from tests.migration.group import random_placement

SEEDS = st.integers(0, 2**32 - 1)


def random_pair(seed, num_layers=1):
    """Return two placements of a random small machine, of which a rank may have failed."""
    rng = np.random.default_rng(seed)
    num_ranks = int(rng.integers(1, 7))
    failed = [0] if num_ranks > 1 and rng.random() < 0.2 else []
    topology = Topology(num_ranks=num_ranks, slots_per_rank=rng.integers(1, 6, num_ranks).tolist(), failed_ranks=failed)
    num_experts = int(rng.integers(1, topology.num_usable_slots + 1))
    return [random_placement(rng, topology, num_experts, num_layers) for _ in range(2)]


def slots_by_rank(placement):
    offsets = placement.topology.slot_offsets
    return [slice(int(a), int(b)) for a, b in pairwise(offsets)]


def assert_sound_step(before, after, ranks, num_experts, most):
    """Every expert has a slot after it, and no rank stages more than it may; return the experts that cross."""
    assert set(after.tolist()) - {-1} == set(range(num_experts))
    assert ((after < 0) == (before < 0)).all()
    arrived = [gains(before[mine], after[mine]) for mine in ranks]
    for mine, experts in zip(ranks, arrived, strict=True):
        assert local_copies(before[mine], after[mine], experts).num_staged <= most
    return sum(map(len, arrived))


@settings(deadline=None, max_examples=300)
@given(seed=SEEDS, most=st.integers(1, 4))
def test_a_layer_is_cut_into_sound_steps(seed, most):
    """The last row is the new one, and as many experts cross in all as there are moves."""
    old, new = random_pair(seed)
    before, after = old.physical_to_logical[0], new.physical_to_logical[0]
    path, crossed = path_of(before, after, new.topology, most), 0
    for here, there in zip([before, *path], path, strict=False):
        crossed += assert_sound_step(here, there, slots_by_rank(old), old.num_experts, most)
    np.testing.assert_array_equal(path[-1], after)
    assert crossed == len(old.moves_to(new))


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS)
def test_enough_staging_takes_one_commit_a_layer(seed):
    """Without a limit, and with one that is not reached; layers that stay have none."""
    old, new = random_pair(seed, num_layers=3)
    changed = np.flatnonzero((old.physical_to_logical != new.physical_to_logical).any(axis=1))
    for most in (None, np.full(3, 6)):
        commits = commits_between(old, new, most)
        np.testing.assert_array_equal(commits.layer, changed)
        np.testing.assert_array_equal(commits.before, old.physical_to_logical[changed])
        np.testing.assert_array_equal(commits.after, new.physical_to_logical[changed])


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS)
def test_each_commit_of_a_layer_goes_on_from_the_one_before(seed):
    """And its transfers can be planned: every expert that is needed is there."""
    old, new = random_pair(seed, num_layers=2)
    commits = commits_between(old, new, np.array([1, 2]))
    for layer in range(2):
        mine = commits.layer == layer
        np.testing.assert_array_equal(commits.before[mine][1:], commits.after[mine][:-1])
    assert len(assign(commits.before, commits.after, new.topology).row) == len(old.moves_to(new))


def test_a_circle_of_ranks_moves_together():
    """Nobody can let go of the only copy of an expert before another has it."""
    topology = Topology(num_ranks=4, slots_per_rank=1)
    path = path_of(np.array([0, 1, 2, 3]), np.array([3, 0, 1, 2]), topology, 1)
    assert [row.tolist() for row in path] == [[3, 0, 1, 2]]


def test_plans_of_a_large_model_take_little_memory():
    """58 layers x 288 slots on 32 ranks, everything moving, an expert at a time: below 50 MB."""
    rng = np.random.default_rng(0)
    topology = Topology(num_ranks=32, slots_per_rank=9, num_nodes=4)
    old, new = (random_placement(rng, topology, 256, 58) for _ in range(2))
    tracemalloc.start()
    commits = commits_between(old, new, np.ones(58, dtype=np.int64))
    assign(commits.before, commits.after, topology)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_a_placement_that_stays_takes_no_commit():
    topology = Topology(num_ranks=2, slots_per_rank=2)
    placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=topology)
    assert commits_between(placement, placement).before.shape == (0, 4)
