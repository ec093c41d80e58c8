"""Every bad input is a named error that says what came, before anything is planned."""

import numpy as np
import pytest

import eplb
from eplb import InfeasibleError, LoadsError, OptionError, Placement, PlacementError, Topology, TopologyError

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
        ({"split": "odd"}, "split: expected 'even' or 'weighted', got 'odd'"),
        ({"split": "Weighted"}, "got 'Weighted'"),
        ({"split": "weighted-lagged"}, "got 'weighted-lagged'"),
        ({"split": None}, "got None"),
        ({"split": ["weighted"]}, "split: expected"),
        ({"split": np.ones((1, 6))}, "split: expected"),
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


# ---- a placement in force, and what is expected of the next window

PREVIOUS = Placement(physical_to_logical=[[0, 1, 2, 3, 0, 1]], topology=TOPOLOGY)
WINDOWS = np.tile(LOADS, (4, 1, 1))


@pytest.mark.parametrize(
    ("previous", "says"),
    [
        ([[0, 1, 2, 3, 0, 1]], "previous: expected an eplb.Placement, got list"),
        ({"placement": PREVIOUS}, "previous: .* got dict"),
        (
            Placement(physical_to_logical=[[0, 1, 2, 3, 4, 0]], topology=TOPOLOGY),
            "expected the placement of 1 layers x 4 experts, got 1 x 5; is it of another model",
        ),
        (
            Placement(physical_to_logical=[[0, 1, 2, 3, 0, 1]] * 2, topology=TOPOLOGY),
            "expected the placement of 1 layers x 4 experts, got 2 x 4",
        ),
    ],
    ids=["a list", "a dict", "other experts", "other layers"],
)
def test_a_previous_placement_of_something_else(previous, says):
    """It must be a placement, of as many layers and experts as the loads."""
    with pytest.raises(PlacementError, match=says):
        eplb.plan(LOADS, TOPOLOGY, previous=previous)


def test_a_previous_placement_of_other_layers():
    """A trace knows the ids of its layers; those of the placement must be the same."""
    trace = eplb.LoadTrace(loads=LOADS * 2, layer_ids=[4, 5])
    previous = Placement(physical_to_logical=[[0, 1, 2, 3, 0, 1]] * 2, topology=TOPOLOGY, layer_ids=[4, 6])
    with pytest.raises(PlacementError, match="previous: expected layer 5 at index 1, got layer 6"):
        eplb.plan(trace, TOPOLOGY, previous=previous)


@pytest.mark.parametrize("name", ["max_moves", "max_moves_per_rank"])
@pytest.mark.parametrize("value", [-1, True, 1.0, "3", float("nan")], ids=repr)
def test_bad_limits_of_moves(name, value):
    """Limits are whole numbers >= 0 or None."""
    with pytest.raises(OptionError, match=rf"{name}: expected an integer >= 0, or None for no limit, got {value!r}"):
        eplb.plan(LOADS, TOPOLOGY, previous=PREVIOUS, **{name: value})


@pytest.mark.parametrize("name", ["max_moves", "max_moves_per_rank"])
def test_limits_of_moves_from_nothing(name):
    """A limit without a previous placement is a mistake, not a wish to be ignored."""
    with pytest.raises(OptionError, match="expected a previous placement to move from, got none"):
        eplb.plan(LOADS, TOPOLOGY, **{name: 3})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"move_cost": -1.0}, "move_cost: expected a finite number >= 0, got -1.0"),
        ({"move_cost": float("nan")}, "move_cost: .* got nan"),
        ({"move_cost": "cheap"}, "move_cost: .* got 'cheap'"),
        ({"horizon": 0}, "horizon: expected a number of windows above 0, got 0"),
        ({"horizon": -2}, "horizon: .* got -2"),
        ({"horizon": float("inf")}, "horizon: .* got inf"),
        ({"recency": 0}, "recency: expected a number above 0 and up to 1, got 0"),
        ({"recency": 1.5}, "recency: .* got 1.5"),
        ({"recency": None}, "recency: .* got None"),
        ({"cost_per_activated_slot": -0.5}, "cost_per_activated_slot: expected a finite number >= 0, got -0.5"),
        ({"cost_per_activated_slot": float("inf")}, "cost_per_activated_slot: .* got inf"),
        ({"cost_per_activated_slot": True}, "cost_per_activated_slot: .* got True"),
        ({"forecast": "tomorrow"}, "forecast: expected one of last, mean, .* got 'tomorrow'"),
        ({"forecast": 7}, "forecast: expected an object with a method forecast, got int"),
        ({"forecast": eplb.forecasting.Auto}, "forecast: expected an object with a method forecast, got type"),
        ({"groups": "2"}, "groups: expected an integer >= 1, got '2'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("previous", [None, PREVIOUS], ids=["from scratch", "from a placement"])
@pytest.mark.parametrize("split", ["even", "weighted"])
def test_bad_options_for_windows(options, says, previous, split):
    """Options out of range name what came, with several windows as with one."""
    with pytest.raises(OptionError, match=says):
        eplb.plan(WINDOWS, TOPOLOGY, previous=previous, split=split, **options)


@pytest.mark.parametrize(
    ("forecasts", "says"),
    [
        (np.ones((1, 4)), r"got shape \(1, 4\)"),
        (np.ones((1, 1, 4)), r"forecast: expected one a window, shape \(4, 1, 4\), got \(1, 1, 4\)"),
        (np.full((4, 1, 4), np.nan), r"forecast: expected finite values >= 0, got nan at \[0, 0, 0\]"),
    ],
    ids=["layers x experts", "the last alone", "NaN"],
)
def test_a_forecaster_that_returns_nonsense(forecasts, says):
    """A forecaster of the caller's own is checked like any other input."""

    class Wrong:
        def forecast(self, loads):
            return forecasts

    with pytest.raises(LoadsError, match=says):
        eplb.plan(WINDOWS, TOPOLOGY, forecast=Wrong())


@pytest.mark.parametrize("cost", [1e300, 1e308])
def test_slots_that_cost_more_than_can_be_told(cost):
    """Beside loads of 1e-300, such a cost is beyond float64 in their unit."""
    with pytest.raises(LoadsError, match="cost_per_activated_slot: too large beside the loads of a layer"):
        eplb.plan(np.array(LOADS) * 1e-300, TOPOLOGY, cost_per_activated_slot=cost)


@pytest.mark.parametrize("split", ["even", "weighted"])
def test_loads_whose_rank_loads_are_out_of_range(split):
    """A slow rank takes longer than float64 can tell, moves or not."""
    slow = Topology(num_ranks=2, slots_per_rank=3, rank_speeds=[1e-3, 1e-3])
    with pytest.raises(LoadsError, match="a rank's load divided by its speed is beyond float64"):
        eplb.plan([[1e307] * 4], slow, previous=PREVIOUS, split=split)
