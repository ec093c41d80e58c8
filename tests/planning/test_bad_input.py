"""Every bad input is a named error that says what came, before anything is planned."""

import numpy as np
import pytest

import eplb
from eplb import InfeasibleError, LoadsError, OptionError, Topology, TopologyError

TOPOLOGY = Topology(num_ranks=2, slots_per_rank=3)
LOADS = [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize(
    ("loads", "says"),
    [
        ([[1.0, float("nan")]], r"got nan at \[0, 1\]"),
        ([[1.0, float("inf")]], r"got inf at \[0, 1\]"),
        ([[1.0, 2.0], [3.0, -4.0]], r"got -4.0 at \[1, 1\]"),
        ([[[1, 2]], [[3, -4]]], r"got -4 at \[1, 0, 1\]"),
        ([1.0, 2.0], r"got shape \(2,\)"),
        ([[[[1.0]]]], r"got shape \(1, 1, 1, 1\)"),
        (3.0, r"got shape \(\)"),
        (np.zeros((0, 4)), r"got shape \(0, 4\)"),
        (np.zeros((2, 0)), r"got shape \(2, 0\)"),
        (np.zeros((0, 2, 4)), r"got shape \(0, 2, 4\)"),
        ([[1, None]], "dtype object"),
        ([["a", "b"]], "dtype <U1"),
        ([[1j, 2]], "dtype complex128"),
        ([[True, False]], "dtype bool"),
        ([[1.0], [1.0, 2.0]], "rectangular"),
        (np.ma.masked_array([[1.0, 2.0]], mask=[[True, False]]), "masked array"),
        (np.full((1, 4), 1e308), "sum is beyond"),
        (np.full((9, 1, 4), 1e308), "sum is beyond"),
    ],
)
def test_bad_loads(loads, says):
    """Loads that cannot be planned name the first bad index and value, or the shape and dtype."""
    with pytest.raises(LoadsError, match=says):
        eplb.plan(loads, TOPOLOGY)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"groups": 0}, "got 0"),
        ({"groups": 8}, r"at most one group an expert \(4\), got 8"),
        ({"groups": 3}, "divisor of the 4 experts, got 3"),
        ({"groups": 1.5}, "got 1.5"),
        ({"effort": "heroic"}, "fast, balanced, thorough, got 'heroic'"),
        ({"seed": -1}, "got -1"),
        ({"seed": 2**64}, "got 18446744073709551616"),
        ({"split": "odd"}, "got 'odd'"),
    ],
)
def test_bad_options(options, says):
    """Options out of range name what came."""
    with pytest.raises(OptionError, match=says):
        eplb.plan(LOADS, TOPOLOGY, **options)


def test_a_topology_is_wanted():
    """A dict is no topology."""
    with pytest.raises(OptionError, match=r"expected an eplb.Topology, got dict"):
        eplb.plan(LOADS, {"num_ranks": 2})


def test_fewer_slots_than_experts():
    """The message says how many are missing where."""
    with pytest.raises(InfeasibleError, match="7 experts do not fit 6 usable slots"):
        eplb.plan(np.ones((1, 7)), TOPOLOGY)


def test_failed_ranks_take_their_slots_away():
    """Slots of failed ranks hold nothing."""
    with pytest.raises(InfeasibleError, match="4 experts do not fit 3 usable slots"):
        eplb.plan(LOADS, Topology(num_ranks=2, slots_per_rank=3, failed_ranks=[1]))


@pytest.mark.parametrize(
    "topology",
    [
        Topology(num_ranks=4, slots_per_rank=4, num_nodes=4),
        Topology(num_ranks=4, slots_per_rank=[1, 1, 1, 9], num_nodes=2),
        Topology(num_ranks=2, slots_per_rank=6, num_nodes=2),
    ],
    ids=["more nodes than groups", "a node without room for a group", "a group left over"],
)
def test_groups_that_cannot_be_spread(topology):
    """Groups that do not fit the nodes are refused, with the way out."""
    with pytest.raises(InfeasibleError, match="use groups=1"):
        eplb.plan(np.ones((1, 12)), topology, groups=3)


def test_ranks_without_slots():
    """A rank has at least one slot, or it failed."""
    with pytest.raises(TopologyError, match="got 0 at rank 1"):
        Topology(num_ranks=2, slots_per_rank=[3, 0])


def test_a_bad_number_of_threads(monkeypatch):
    """EPLB_NUM_THREADS is checked like any other input."""
    monkeypatch.setenv("EPLB_NUM_THREADS", "many")
    with pytest.raises(OptionError, match="EPLB_NUM_THREADS: expected an integer of 1 to 256, got 'many'"):
        eplb.plan(LOADS, TOPOLOGY)
