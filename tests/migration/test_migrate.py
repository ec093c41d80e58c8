"""Four processes on gloo go from placement to placement: to the last bit, in place, in step."""

import pytest

from eplb import Topology
from tests.migration.group import assert_all_hold, random_placement, random_placements
from tests.migration.rank import PARAMETERS

FAST = {"timeout_s": 20.0}


def staged_bytes(kind):
    """Return the bytes of an expert in staging: those of each parameter rounded up to 16."""
    sizes = [dtype.itemsize * _count(shape) for dtype, shape in PARAMETERS[kind]]
    return sum(-(-size // 16) * 16 for size in sizes)


def _count(shape):
    count = 1
    for length in shape:
        count *= length
    return count


@pytest.mark.parametrize("kind", PARAMETERS)
def test_weights_follow_a_random_placement(groups, kind):
    """Of any dtype, several parameters an expert, of odd sizes and of none, at the same addresses; and back again."""
    first, second = random_placements(len(kind), 2)
    told = groups.play(placements=[first, second, first], kind=kind, options=FAST)
    assert_all_hold(told, first)
    assert {word["commits"] for word in told} == {6}


def test_between_commits_the_weights_are_those_of_the_placement_in_force(groups):
    """A serving loop runs forwards there, and collectives of its own over the same group."""
    placements = random_placements(7, 4, num_experts=8)
    told = groups.play(placements=placements, kind="fp8", options=FAST, forwards=True)
    assert_all_hold(told, placements[-1])


@pytest.mark.parametrize("experts", [1, 2])
def test_little_staging_takes_more_commits(groups, experts):
    """Each of them a placement; the buffer is never larger than the limit."""
    placements, limit = random_placements(3, 3), experts * staged_bytes("bf16")
    options = {**FAST, "max_staging_bytes": limit}
    told = groups.play(placements=placements, kind="bf16", options=options, forwards=True)
    assert_all_hold(told, placements[-1])
    assert max(word["staging"] for word in told) == limit
    assert told[0]["commits"] > 6


def test_ranks_may_differ_in_slots_and_one_may_have_failed(groups):
    """Slots of a failed rank take no part, whether its process is in the group or not."""
    machine = {"slots_per_rank": [2, 5, 3, 4], "failed_ranks": [2]}
    placements = random_placements(4, 3, num_experts=8, **machine)
    assert_all_hold(groups.play(placements=placements, kind="int4", options=FAST), placements[-1])
    told = groups.play(placements=placements, kind="int4", options=FAST, num_ranks=3, members=[0, 1, 3])
    assert_all_hold(told, placements[-1])


def test_a_placement_that_stays_is_agreed_on_and_moves_nothing(groups):
    """No commit, no error."""
    first, second = random_placements(5, 2)
    told = groups.play(placements=[first, first, second], kind="bf16", options=FAST)
    assert_all_hold(told, second)
    assert {word["commits"] for word in told} == {3}


def test_the_store_does_not_grow(groups):
    """Keys of commits that are over are removed; those of the last one are when the next migration begins."""
    first, second = random_placements(6, 2)
    groups.play(placements=[first, second], kind="bf16", options=FAST)
    before = groups.store.num_keys()
    num_commits = sum(
        word["commits"] for word in groups.play(placements=[first, *[second, first] * 10], kind="bf16", options=FAST)
    )
    grown = groups.store.num_keys() - before
    assert grown < num_commits / 2  # a commit has a dozen keys, and ranks remove theirs a little later


def test_an_interrupt_waits_for_the_commit(groups):
    """Ctrl-C in the middle of a commit is raised when it is over, and the migration can go on."""
    placements = random_placements(8, 2)
    faults = {rank: {"at": "wait", "commit": 1, "signal": "interrupt"} for rank in (1, 2)}
    told = groups.play(placements=placements, kind="bf16", options=FAST, faults=faults)
    assert_all_hold(told, placements[-1])
    assert [word["interrupts"] for word in told] == [0, 1, 1, 0]


@pytest.mark.slow
def test_random_machines(groups, rng):
    """Slots, experts, staging and dtypes at random."""
    for _ in range(40):
        topology = Topology(num_ranks=4, slots_per_rank=rng.integers(1, 7, 4).tolist(), num_nodes=2)
        num_experts = int(rng.integers(1, topology.num_slots + 1))
        placements = [random_placement(rng, topology, num_experts, 4) for _ in range(4)]
        kind = str(rng.choice(list(PARAMETERS)))
        limit = None if rng.random() < 0.3 else int(rng.integers(1, 4)) * staged_bytes(kind)
        options = {**FAST, "max_staging_bytes": limit}
        told = groups.play(placements=placements, kind=kind, options=options, forwards=bool(rng.random() < 0.5))
        assert_all_hold(told, placements[-1])
