"""Topology: ranks, nodes, slots, speeds and failures."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import Topology, TopologyError


@pytest.fixture
def uneven():
    """Return four ranks in two nodes of unequal size, with uneven slots, two speeds and one failure."""
    return Topology(
        num_ranks=4,
        slots_per_rank=[3, 1, 2, 4],
        num_nodes=[0, 0, 0, 1],
        rank_speeds=[1.0, 0.5, 1.0, 2.0],
        failed_ranks=[2],
    )


@st.composite
def parameters(draw):
    """Draw the parameters of a sound topology."""
    num_ranks = draw(st.integers(1, 12))

    def one_per_rank(values):
        return st.lists(values, min_size=num_ranks, max_size=num_ranks)

    order = draw(st.permutations(range(num_ranks)))
    num_nodes = draw(st.integers(1, num_ranks))
    return {
        "num_ranks": num_ranks,
        "slots_per_rank": draw(st.integers(1, 9) | one_per_rank(st.integers(1, 9))),
        "num_nodes": draw(st.sampled_from([num_nodes, [rank % num_nodes for rank in order]])),
        "rank_speeds": draw(st.none() | one_per_rank(st.floats(1e-6, 1e6))),
        "failed_ranks": draw(st.lists(st.sampled_from(order[1:]))) if num_ranks > 1 else [],
    }


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.complex_numbers() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


def assert_refused(match, **changes):
    with pytest.raises(TopologyError, match=match):
        Topology(**{"num_ranks": 3, "slots_per_rank": 2, **changes})


def test_even_slots_lie_rank_after_rank():
    """Slot p stands on rank p // slots_per_rank."""
    topology = Topology(num_ranks=3, slots_per_rank=2)
    assert topology.rank_of_slot.tolist() == [0, 0, 1, 1, 2, 2]
    assert topology.num_slots == 6


def test_uneven_slots_lie_rank_after_rank(uneven):
    """Offsets are the sums of the slots before."""
    assert uneven.slot_offsets.tolist() == [0, 3, 4, 6, 10]
    assert uneven.rank_of_slot.tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 3, 3]


def test_a_failed_rank_keeps_its_slot_ids(uneven):
    """Slots of a failed rank are counted, but not usable."""
    assert uneven.num_slots == 10
    assert uneven.num_usable_slots == 8
    assert uneven.alive.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("num_ranks", "num_nodes", "nodes"),
    [(4, 2, [0, 0, 1, 1]), (5, 2, [0, 0, 0, 1, 1]), (3, 3, [0, 1, 2]), (3, [1, 0, 1], [1, 0, 1])],
)
def test_nodes_may_be_equal_or_unequal(num_ranks, num_nodes, nodes):
    """A number of nodes gives blocks of nearly equal size; a list gives each rank its own."""
    topology = Topology(num_ranks=num_ranks, slots_per_rank=1, num_nodes=num_nodes)
    assert topology.node_of_rank.tolist() == nodes
    assert topology.node_count == max(nodes) + 1


@pytest.mark.parametrize(
    "same",
    [
        {"slots_per_rank": [2, 2, 2]},
        {"slots_per_rank": np.array([2, 2, 2], dtype=np.uint8)},
        {"slots_per_rank": torch.tensor([2, 2, 2])},
        {"num_nodes": [0, 0, 0]},
        {"num_nodes": np.int64(1)},
        {"rank_speeds": [1, 1.0, 1]},
        {"failed_ranks": np.array([], dtype=int)},
    ],
)
def test_one_machine_has_one_description(same):
    """Topologies that mean the same are equal and hash alike, however they were written."""
    plain = Topology(num_ranks=3, slots_per_rank=2)
    other = Topology(**{"num_ranks": np.int32(3), "slots_per_rank": 2, **same})
    assert (other, hash(other), repr(other)) == (plain, hash(plain), repr(plain))


def test_failed_ranks_are_a_set():
    """Order and repetition of the failed ranks mean nothing, so a set of them will do."""
    for failed in ([3, 1, 3], {3, 1}, frozenset([1, 3])):
        assert Topology(num_ranks=4, slots_per_rank=1, failed_ranks=failed).failed_ranks == (1, 3)


def test_a_plain_topology_is_written_plainly():
    """Equal slots, nodes in blocks and speeds of 1 are written as short as they can be."""
    topology = Topology(num_ranks=4, slots_per_rank=[2] * 4, num_nodes=[0, 0, 1, 1], rank_speeds=[1] * 4)
    expected = {"num_ranks": 4, "slots_per_rank": 2, "num_nodes": 2, "rank_speeds": None, "failed_ranks": []}
    assert topology.to_dict() == expected


@pytest.mark.parametrize(
    "change", [{"slots_per_rank": 3}, {"num_nodes": 2}, {"rank_speeds": [1, 1, 2]}, {"failed_ranks": [0]}]
)
def test_other_machines_differ(change):
    """A change of any parameter makes another topology."""
    assert Topology(**{"num_ranks": 3, "slots_per_rank": 2, **change}) != Topology(num_ranks=3, slots_per_rank=2)


@given(parameters())
@settings(deadline=None)
def test_topologies_come_back_from_json(given_parameters):
    """`to_dict` holds plain JSON values that make the same topology again."""
    topology = Topology(**given_parameters)
    assert Topology(**json.loads(json.dumps(topology.to_dict(), allow_nan=False))) == topology


@given(parameters())
@settings(deadline=None)
def test_arrays_say_what_the_parameters_say(given_parameters):
    """The derived arrays agree with a plain loop over the ranks."""
    topology = Topology(**given_parameters)
    slots = given_parameters["slots_per_rank"]
    slots = slots if isinstance(slots, list) else [slots] * topology.num_ranks
    failed = set(given_parameters["failed_ranks"])
    assert topology.slot_counts.tolist() == slots
    assert topology.rank_of_slot.tolist() == [rank for rank, count in enumerate(slots) for _ in range(count)]
    assert topology.num_usable_slots == sum(count for rank, count in enumerate(slots) if rank not in failed)
    assert topology.speeds.tolist() == (given_parameters["rank_speeds"] or [1.0] * topology.num_ranks)


def test_a_topology_with_another_failure_is_a_replacement(uneven):
    """`dataclasses.replace` recomputes every array."""
    other = dataclasses.replace(uneven, failed_ranks=[0])
    assert other.num_usable_slots == 7
    assert uneven.num_usable_slots == 8


def test_a_topology_does_not_change(uneven):
    """Fields and arrays are read-only."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        uneven.num_ranks = 5
    for name in ("slot_counts", "slot_offsets", "node_of_rank", "speeds", "alive"):
        assert not getattr(uneven, name).flags.writeable, name


def test_what_the_caller_passed_stays_the_callers():
    """Arrays that were passed are neither changed, nor frozen, nor looked at again."""
    given_arrays = {"slots_per_rank": np.array([1, 2]), "rank_speeds": np.array([1.0, 2.0])}
    topology = Topology(num_ranks=2, **given_arrays)
    given_arrays["slots_per_rank"][:] = 9
    given_arrays["rank_speeds"][:] = 9
    assert (topology.slot_counts.tolist(), topology.speeds.tolist()) == ([1, 2], [1.0, 2.0])


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None, [3], np.array(3)])
def test_num_ranks_must_be_a_positive_integer(value):
    """The message holds the value that came."""
    assert_refused(r"num_ranks: expected an integer >= 1, got .*" + str(np.asarray(value).ravel()[0]), num_ranks=value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "slots_per_rank: expected an integer >= 1, got 0"),
        (2.5, "slots_per_rank: expected an integer >= 1, got 2.5"),
        (2**31, "slots_per_rank: expected at most 2147483647, got 2147483648"),
        (2**31 - 1, "slots_per_rank: 6442450941 slots in all, more than 2147483647"),
        ([2, 2], r"slots_per_rank: expected one integer a rank \(3\), got 2"),
        ([2, 0, 2], "slots_per_rank: expected 1 to 2147483647 slots a rank, got 0 at rank 1"),
        ([2, 2, -4], "got -4 at rank 2; name a rank that holds nothing in failed_ranks"),
        ([2, 2.5, 2], r"slots_per_rank: expected a list of integers, got shape \(3,\) of dtype float64"),
        ([2, None, 2], r"slots_per_rank: expected a list of integers, got shape \(3,\) of dtype object"),
        ([[2, 2, 2]], r"slots_per_rank: expected a list of integers, got shape \(1, 3\)"),
        ([[1], [2, 3], [4]], "slots_per_rank: expected a list of integers; .*inhomogeneous"),
        (["2", "2", "2"], "slots_per_rank: expected a list of integers, got .* of dtype <U1"),
        ([True, True, True], "slots_per_rank: expected a list of integers, got .* of dtype bool"),
        (np.array([2, 2**63, 2], dtype=np.uint64), "expected at most 2.*63 - 1, got 9223372036854775808 at index 1"),
    ],
)
def test_slots_must_be_positive_integers(value, message):
    """Ranks without slots, wrong counts, shapes and dtypes are refused."""
    assert_refused(message, slots_per_rank=value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "num_nodes: expected an integer >= 1, got 0"),
        (4, r"num_nodes: expected at most one node a rank \(3\), got 4"),
        ([0, 2, 2], r"num_nodes: expected node ids 0, 1, ... without gaps, got \[0, 2\]"),
        ([-1, 0, 1], r"num_nodes: expected node ids 0, 1, ... without gaps, got \[-1, 0, 1\]"),
        ([0, 1], r"num_nodes: expected one integer a rank \(3\), got 2"),
        ([[0], [1, 1], [2]], "num_nodes: expected a list of integers; .*inhomogeneous"),
    ],
)
def test_nodes_must_be_numbered_without_gaps(value, message):
    """More nodes than ranks, gaps and wrong lengths are refused."""
    assert_refused(message, num_nodes=value)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 1e-7, 1e7])
def test_speeds_must_be_positive_and_sane(bad):
    """The message names the rank and its speed."""
    assert_refused(
        rf"rank_speeds: expected 1e-6 to 1e6, got {bad} at rank 1".replace("+", r"\+"), rank_speeds=[1, bad, 1]
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, r"rank_speeds: expected one number a rank \(3\), got shape \(\)"),
        ([1, 1], r"rank_speeds: expected one number a rank \(3\), got shape \(2,\)"),
        ([[1], [1, 2], [1]], r"rank_speeds: expected one number a rank \(3\); .*inhomogeneous"),
        (["1", "2", "3"], "rank_speeds: .* of dtype <U1"),
        ([1, None, 2], "rank_speeds: .* of dtype object"),
        ([1, 10**400, 2], "rank_speeds: .* of dtype object"),
        ([True, True, True], "rank_speeds: .* of dtype bool"),
        (np.array([1, 2, 1j]), "rank_speeds: .* of dtype complex128"),
    ],
)
def test_speeds_must_be_one_number_a_rank(value, message):
    """Texts are not read as numbers, and nothing is cut to a real number."""
    assert_refused(message, rank_speeds=value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0, 3], "failed_ranks: expected ranks 0 to 2, got 3 at index 1"),
        ([-1], "failed_ranks: expected ranks 0 to 2, got -1 at index 0"),
        ([0, 1, 2], "failed_ranks: all 3 ranks failed; at least one must work"),
        (1, r"failed_ranks: expected a list of integers, got shape \(\)"),
        ({0, "a"}, r"failed_ranks: expected a list of integers, got shape \(2,\) of dtype"),
        (None, r"failed_ranks: expected a list of integers, got shape \(\) of dtype object"),
        ([[0], [1, 2]], "failed_ranks: expected a list of integers; .*inhomogeneous"),
    ],
)
def test_failed_ranks_must_be_ranks(value, message):
    """Foreign ranks are refused, and so is a machine without a working rank."""
    assert_refused(message, failed_ranks=value)


@pytest.mark.parametrize("value", [2**20 + 1, 10**30])
def test_a_machine_of_absurd_size_is_refused_before_memory_is_taken(value):
    """A number of ranks beyond all machines is an error, not an allocation."""
    assert_refused(f"num_ranks: expected at most 1048576, got {value}", num_ranks=value)


@given(
    st.fixed_dictionaries(
        {"num_ranks": st.integers(1, 4) | anything, "slots_per_rank": st.integers(1, 4) | anything},
        optional={"num_nodes": anything, "rank_speeds": anything, "failed_ranks": anything},
    )
)
@settings(deadline=None, max_examples=300)
def test_hostile_parameters_make_a_topology_or_a_named_error(hostile):
    """Whatever comes, nothing but `TopologyError` leaves, and what is accepted is consistent."""
    try:
        topology = Topology(**hostile)
    except TopologyError as error:
        assert str(error).split(":")[0] in hostile
    else:
        assert topology.num_slots >= topology.num_usable_slots >= 1
