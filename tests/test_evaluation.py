"""evaluate: what a placement does to loads, against a slow twin."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from eplb import LoadsError, LoadTrace, OptionError, Placement, PlacementError, Topology, evaluate
from tests.test_placement import placements


@pytest.fixture
def placement():
    """Return one layer of three experts on two ranks of two slots; expert 0 has a replica on each rank."""
    return Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))


@st.composite
def cases(draw):
    """Draw a placement with loads [T, L, E] in integers or floats, zeros included."""
    placement = draw(placements())
    shape = (draw(st.integers(1, 3)), placement.num_layers, placement.num_experts)
    elements = draw(st.sampled_from([st.integers(0, 9), st.integers(0, 2**40), st.floats(0, 1e6)]))
    return placement, draw(arrays_of.arrays(np.float64, shape, elements=elements))


def twin(placement, loads):
    """Return rank loads, activated slots and means of one window, in exact fractions, by plain loops."""
    topology = placement.topology
    rank_loads = [[Fraction(0)] * topology.num_ranks for _ in loads]
    activated = [[0] * topology.num_ranks for _ in loads]
    for layer, slots in enumerate(placement.physical_to_logical.tolist()):
        for slot, expert in enumerate(slots):
            if expert >= 0:
                rank, load = topology.rank_of_slot[slot], Fraction(loads[layer][expert])
                rank_loads[layer][rank] += load / slots.count(expert) / Fraction(topology.speeds[rank])
                activated[layer][rank] += load > 0
    speed = sum(Fraction(s) for s, works in zip(topology.speeds, topology.alive, strict=True) if works)
    return rank_loads, activated, [sum(map(Fraction, row)) / speed for row in loads]


def assert_close(found, expected):
    assert found == pytest.approx(np.array(expected, dtype=float), rel=1e-12, abs=1e-300)


def assert_refused(placement, loads, match):
    with pytest.raises(LoadsError, match=match):
        evaluate(placement, loads)


# ---- the twin


@given(cases())
@settings(deadline=None, max_examples=200)
def test_evaluation_agrees_with_plain_loops(case):
    """Uneven slots, speeds and failed ranks: loads, activated slots and means are those of exact arithmetic."""
    placement, loads = case
    found = evaluate(placement, loads)
    for window, window_loads in enumerate(loads.tolist()):
        rank_loads, activated, means = twin(placement, window_loads)
        assert_close(found.rank_loads[window], rank_loads)
        assert_close(found.mean_loads[window], means)
        assert found.activated_experts[window].tolist() == activated


@given(cases())
@settings(deadline=None)
def test_balancedness_is_sums_over_layers(case):
    """Balancedness divides the sum of means by the sum of largest loads; it lies in 0 to 1."""
    placement, loads = case
    found = evaluate(placement, loads)
    largest = found.rank_loads.max(axis=2)
    for window in range(len(loads)):
        if largest[window].sum() > 0:
            expected = found.mean_loads[window].sum() / largest[window].sum()
            assert found.balancedness[window] == pytest.approx(expected)
    assert ((found.balancedness > 0) & (found.balancedness <= 1 + 1e-12)).all()


@given(cases())
@settings(deadline=None)
def test_the_mean_weighs_ranks_by_speed(case):
    """Where the tokens lie does not change the mean: it is that of the working ranks' loads, by speed."""
    placement, loads = case
    topology = placement.topology
    found = evaluate(placement, loads)
    weights = np.where(topology.alive, topology.speeds, 0)
    assert_close(found.mean_loads, np.average(found.rank_loads, axis=2, weights=weights))


# ---- what it says


def test_replicas_share_evenly(placement):
    """Each of two replicas takes half of the tokens."""
    assert evaluate(placement, [[4, 1, 3]]).rank_loads.tolist() == [[[3.0, 5.0]]]


def test_windows_stay_apart(placement):
    """Each window has its own loads and balancedness."""
    found = evaluate(placement, [[[4, 1, 3]], [[0, 2, 2]], [[0, 0, 0]]])
    assert found.rank_loads[:, 0].tolist() == [[3.0, 5.0], [2.0, 2.0], [0.0, 0.0]]
    assert found.balancedness.tolist() == [0.8, 1.0, 1.0]


def test_layers_run_one_after_another():
    """Largest loads add up over layers, even if other ranks are slow in each."""
    topology = Topology(num_ranks=2, slots_per_rank=1)
    found = evaluate(Placement(physical_to_logical=[[0, 1], [0, 1]], topology=topology), [[3, 1], [1, 3]])
    assert found.balancedness.tolist() == [4 / 6]
    assert found.balancedness_per_layer.tolist() == [[2 / 3, 2 / 3]]


def test_a_fast_rank_counts_less():
    """A rank's load is divided by its speed, and the mean is what equal times would be."""
    topology = Topology(num_ranks=2, slots_per_rank=1, rank_speeds=[1, 3])
    found = evaluate(Placement(physical_to_logical=[[0, 1]], topology=topology), [[2, 6]])
    assert (found.rank_loads.tolist(), found.mean_loads.tolist()) == ([[[2.0, 2.0]]], [[2.0]])
    assert found.balancedness.tolist() == [1.0]


def test_a_failed_rank_counts_in_no_mean():
    """Its load is 0, and the mean is over the others."""
    topology = Topology(num_ranks=3, slots_per_rank=1, failed_ranks=[1])
    found = evaluate(Placement(physical_to_logical=[[0, -1, 1]], topology=topology), [[4, 4]])
    assert (found.rank_loads.tolist(), found.mean_loads.tolist()) == ([[[4.0, 0.0, 4.0]]], [[4.0]])


def test_experts_without_tokens_are_not_activated(placement):
    """Only slots whose expert got a token count, however few its tokens."""
    assert evaluate(placement, [[0, 1, 3]]).activated_experts.tolist() == [[[1, 1]]]
    assert evaluate(placement, [[5e-324, 1, 3]]).activated_experts.tolist() == [[[2, 2]]]


@pytest.mark.parametrize("dtype", ["u1", ">i4", "u8", "f2", "f4", ">f8"])
def test_all_numbers_are_evaluated_in_float64(placement, dtype):
    """Narrow and foreign numbers give the same as float64."""
    found = evaluate(placement, np.array([[5, 1, 3]], dtype=dtype))
    assert (found.rank_loads.dtype, found.rank_loads.tolist()) == (np.float64, [[[3.5, 5.5]]])


def test_traces_and_tensors_are_loads(placement):
    """A trace, a tensor and an array of the same numbers are the same loads."""
    expected = [[[3.0, 5.0]]]
    assert evaluate(placement, LoadTrace(loads=[[[4, 1, 3]]])).rank_loads.tolist() == expected
    for dtype in (torch.int32, torch.float32, torch.bfloat16):
        assert evaluate(placement, torch.tensor([[4, 1, 3]], dtype=dtype)).rank_loads.tolist() == expected


def test_an_evaluation_does_not_change(placement):
    """Fields and arrays are read-only, and the caller's loads are as they were."""
    loads = np.array([[4.0, 1.0, 3.0]])
    found = evaluate(placement, loads)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.rank_loads = loads
    for name in ("rank_loads", "mean_loads", "activated_experts"):
        assert not getattr(found, name).flags.writeable, name
    assert (loads.tolist(), loads.flags.writeable) == ([[4.0, 1.0, 3.0]], True)


# ---- what is refused


@pytest.mark.parametrize(
    ("loads", "message"),
    [
        ([[4, 1]], r"expected \[..., 1 layers, 3 experts\], got \(1, 1, 2\)"),
        ([[4, 1, 3]] * 2, r"expected \[..., 1 layers, 3 experts\], got \(1, 2, 3\)"),
        ([4, 1, 3], r"got shape \(3,\)"),
        ([[[[4, 1, 3]]]], r"got shape \(1, 1, 1, 3\)"),
        (np.zeros((0, 1, 3)), r"got shape \(0, 1, 3\)"),
        ([[4, np.nan, 3]], r"expected finite values >= 0, got nan at \[0, 1\]"),
        ([[[4, 1, np.inf]]], r"expected finite values >= 0, got inf at \[0, 0, 2\]"),
        ([[4, -1, 3]], r"expected finite values >= 0, got -1 at \[0, 1\]"),
        ([[4, None, 3]], "got dtype object"),
        ([["4", "1", "3"]], "got dtype <U1"),
        ([[1e308, 1e308, 1e308]], "the sums of rank loads are beyond the range of float64; scale them down"),
    ],
)
def test_loads_that_do_not_fit_are_refused(placement, loads, message):
    """The message names shape, dtype, or the first bad entry and its place."""
    assert_refused(placement, loads, f"loads: .*{message}")


@pytest.mark.parametrize(
    ("speeds", "loads"), [([1e-6, 1], [1e305, 1]), ([1, 1], [1e308, 1e308])], ids=["one rank alone", "all together"]
)
def test_sums_beyond_floats_are_refused(speeds, loads):
    """A slow rank may leave the range though the mean does not, and the sum though no rank does."""
    topology = Topology(num_ranks=2, slots_per_rank=1, rank_speeds=speeds)
    placement = Placement(physical_to_logical=[[0, 1]], topology=topology)
    assert_refused(placement, [loads], "beyond the range of float64")


@pytest.mark.parametrize("split", ["", "Even", None, 1, ["even"]])
def test_an_unknown_split_is_refused(placement, split):
    """The message lists what there is."""
    with pytest.raises(OptionError, match=r"split: expected 'even' or 'weighted', got "):
        evaluate(placement, [[4, 1, 3]], split=split)


def test_something_else_than_a_placement_is_refused():
    """Bare slots are no placement: the ranks are missing."""
    with pytest.raises(PlacementError, match=r"placement: expected an eplb.Placement, got list"):
        evaluate([[0, 1, 2, 0]], [[4, 1, 3]])
