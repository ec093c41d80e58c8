"""evaluate: what a placement does to loads, against a slow twin."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from eplb import LoadsError, LoadTrace, OptionError, Placement, PlacementError, Topology, evaluate, split
from eplb.dispatch.splitting import solve_split
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


def drawn_weights(placement, num_windows, seed):
    """Return weights [T, L, P], many of them 0; those of an expert sum to 1."""
    parts = np.random.default_rng(seed).integers(0, 4, (num_windows, *placement.physical_to_logical.shape))
    weights = np.zeros(parts.shape)
    for (window, layer, slot), part in np.ndenumerate(parts):
        slots = placement.physical_to_logical[layer]
        if slots[slot] >= 0:
            same = slots == slots[slot]
            total = parts[window, layer, same].sum()
            weights[window, layer, slot] = part / total if total else 1 / same.sum()
    return weights


def twin(placement, loads, weights=None, cost=0):
    """Return rank loads, activated slots and means of one window, in exact fractions, by plain loops."""
    topology = placement.topology
    rank_loads = [[Fraction(0)] * topology.num_ranks for _ in loads]
    activated = [[0] * topology.num_ranks for _ in loads]
    for layer, slots in enumerate(placement.physical_to_logical.tolist()):
        for slot, expert in enumerate(slots):
            if expert >= 0:
                rank, load = topology.rank_of_slot[slot], Fraction(loads[layer][expert])
                share = Fraction(1, slots.count(expert)) if weights is None else Fraction(weights[layer][slot])
                tokens = load * share + (cost if load > 0 else 0)
                rank_loads[layer][rank] += tokens / Fraction(topology.speeds[rank])
                activated[layer][rank] += load > 0
    speed = sum(Fraction(s) for s, works in zip(topology.speeds, topology.alive, strict=True) if works)
    costs = [cost * sum(row) for row in activated]
    return rank_loads, activated, [(sum(map(Fraction, row)) + c) / speed for row, c in zip(loads, costs, strict=True)]


def assert_close(found, expected):
    assert found == pytest.approx(np.array(expected, dtype=float), rel=1e-12, abs=1e-300)


def assert_agrees(found, placement, loads, weights=None, cost=0):
    """Rank loads, means and activated slots of each window are those of the twin."""
    for window, window_loads in enumerate(np.asarray(loads).tolist()):
        shares = None if weights is None else weights[window].tolist()
        rank_loads, activated, means = twin(placement, window_loads, shares, cost)
        assert_close(found.rank_loads[window], rank_loads)
        assert_close(found.mean_loads[window], means)
        assert found.activated_experts[window].tolist() == activated


def assert_refused(placement, loads, match):
    with pytest.raises(LoadsError, match=match):
        evaluate(placement, loads)


# ---- the twin


@given(cases())
@settings(deadline=None, max_examples=200)
def test_evaluation_agrees_with_plain_loops(case):
    """Uneven slots, speeds and failed ranks: loads, activated slots and means are those of exact arithmetic."""
    placement, loads = case
    assert_agrees(evaluate(placement, loads), placement, loads)


@given(cases(), st.sampled_from([0, 1, 7.5]))
@settings(deadline=None)
def test_slots_that_cost_tokens_agree_with_plain_loops(case, cost):
    """Each activated slot adds to its rank and to the mean."""
    placement, loads = case
    assert_agrees(evaluate(placement, loads, cost_per_activated_slot=cost), placement, loads, cost=Fraction(cost))


@given(cases(), st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=200)
def test_weights_agree_with_plain_loops(case, seed, by_window):
    """Of each window, or the same ones for all; nothing of an expert's tokens is lost."""
    placement, loads = case
    weights = drawn_weights(placement, len(loads), seed)
    if not by_window:
        weights = np.repeat(weights[:1], len(loads), axis=0)
    assert_agrees(evaluate(placement, loads, weights if by_window else weights[0]), placement, loads, weights)


@given(cases(), st.sampled_from([0, 0.5, 100]))
@settings(deadline=None, max_examples=200)
def test_the_weighted_split_is_the_best_of_each_window(case, cost):
    """Its weights are those of `eplb.split` on the window alone, which knows what activated slots cost."""
    placement, loads = case
    found = evaluate(placement, loads, "weighted", cost_per_activated_slot=cost)
    costs = cost * found.activated_experts.astype(float)
    weights = [split(placement, window, fixed_costs=fixed) for window, fixed in zip(loads, costs, strict=True)]
    assert_agrees(found, placement, loads, np.array(weights), Fraction(cost))


@given(cases(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_no_weights_are_better_than_the_weighted_split(case, seed):
    """Neither even ones nor any others; the largest load is the one that is proved."""
    placement, loads = case
    best = evaluate(placement, loads, "weighted").largest_loads
    assert_close(best, solve_split(placement, loads).largest_loads)
    for other in ("even", drawn_weights(placement, len(loads), seed)):
        assert (best <= evaluate(placement, loads, other).largest_loads * (1 + 1e-12)).all()


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


def test_weighted_replicas_share_as_is_best(placement):
    """The rank that holds less besides takes more of the replicated expert."""
    assert evaluate(placement, [[4, 1, 3]], "weighted").rank_loads.tolist() == [[[4.0, 4.0]]]
    assert evaluate(placement, [[4, 9, 3]], "weighted").rank_loads.tolist() == [[[9.0, 7.0]]]


def test_replicas_share_as_they_are_told(placement):
    """By an array for all windows, or one for each."""
    weights, others = [[0.75, 1, 1, 0.25]], [[0, 1, 1, 1]]
    loads = [[[4, 1, 3]], [[4, 0, 0]]]
    assert evaluate(placement, loads, weights).rank_loads[:, 0].tolist() == [[4.0, 4.0], [3.0, 1.0]]
    assert evaluate(placement, loads, [weights, others]).rank_loads[:, 0].tolist() == [[4.0, 4.0], [0.0, 4.0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_may_be_a_tensor(placement, dtype):
    """In any precision, on any device that can be read."""
    weights = torch.tensor([[0.75, 1, 1, 0.25]], dtype=dtype, requires_grad=True)
    assert evaluate(placement, [[4, 1, 3]], weights).rank_loads.tolist() == [[[4.0, 4.0]]]


def test_weights_in_float32_are_near_enough(placement):
    """Shares that sum to 1 but for rounding are taken as they are."""
    found = evaluate(placement, [[4, 1, 3]], np.array([[0.7, 1, 1, 0.3]], dtype=np.float32))
    assert found.rank_loads[0, 0] == pytest.approx([3.8, 4.2], rel=1e-6)


def test_the_weighted_split_knows_what_slots_cost(placement):
    """Rank 1 activates one slot less in the second window, so it takes more."""
    found = evaluate(placement, [[[4, 2, 2]], [[4, 2, 0]]], "weighted", cost_per_activated_slot=2)
    assert found.rank_loads[:, 0].tolist() == [[8.0, 8.0], [6.0, 6.0]]
    assert evaluate(placement, [[4, 2, 0]], cost_per_activated_slot=2).rank_loads.tolist() == [[[8.0, 4.0]]]


def test_the_weighted_split_gives_fast_ranks_more():
    """Equal times, not equal tokens; what a failed rank would do is done by the others."""
    topology = Topology(num_ranks=3, slots_per_rank=1, rank_speeds=[1, 3, 1], failed_ranks=[2])
    placement = Placement(physical_to_logical=[[0, 0, -1]], topology=topology)
    found = evaluate(placement, [[8]], "weighted")
    assert (found.rank_loads.tolist(), found.balancedness.tolist()) == ([[[2.0, 2.0, 0.0]]], [1.0])


def test_a_window_does_not_change_the_split_of_another(placement):
    """Each alone gives what all together do."""
    loads = [[[4, 1, 3]], [[0, 0, 0]], [[7, 5, 1]]]
    found = evaluate(placement, loads, "weighted").rank_loads
    for window, alone in enumerate(loads):
        assert found[window].tolist() == evaluate(placement, alone, "weighted").rank_loads[0].tolist()


@given(placements(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_whole_tokens_stay_whole(placement, seed):
    """The largest load is the least that whole tokens allow, and no token is lost."""
    loads = np.random.default_rng(seed).integers(0, 50, (2, placement.num_layers, placement.num_experts))
    found = evaluate(placement, loads, "weighted", whole_tokens=True)
    tokens = found.rank_loads * placement.topology.speeds
    np.testing.assert_allclose(tokens, np.round(tokens), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(tokens.sum(axis=2), loads.sum(axis=2), rtol=1e-12)
    assert_close(found.largest_loads, solve_split(placement, loads, whole_tokens=True).largest_loads)


def test_a_whole_token_goes_to_one_rank(placement):
    """Nine tokens on two ranks are five and four, without rounding."""
    assert evaluate(placement, [[5, 1, 3]], "weighted").rank_loads.tolist() == [[[4.5, 4.5]]]
    found = evaluate(placement, [[5, 1, 3]], "weighted", whole_tokens=True)
    assert sorted(found.rank_loads[0, 0].tolist()) == [4.0, 5.0]
    assert evaluate(placement, [[22, 8, 0]], "weighted", whole_tokens=True).rank_loads.tolist() == [[[15.0, 15.0]]]


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
    """The message says what is expected: one of the names, or weights."""
    with pytest.raises(OptionError, match=r"split: expected ('even', 'weighted' or weights|one number a slot)"):
        evaluate(placement, [[4, 1, 3]], split=split)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[0.5, 1, 1]], r"one number a slot, \[1 layers, 4 slots\], .* got shape \(1, 3\)"),
        ([[0.5, 1, 1, 0.5]] * 2, r"got shape \(2, 4\)"),
        ([[0.5, 1], [1]], "expected"),
        (np.zeros((0, 1, 4)), r"got shape \(0, 1, 4\)"),
        ([[[0.5, 1, 1, 0.5]]] * 3, "expected weights of 2 windows, got 3"),
        ([[[0.5, 1, 1, 0.5]]], "expected weights of 2 windows, got 1"),
        ([["a", "b", "c", "d"]], "got shape .* of dtype <U1"),
        ([[True, True, True, False]], "of dtype bool"),
        ([[0.5, 1, 1, np.nan]], r"expected shares of 0 to 1, .* got nan at \[0, 3\]"),
        ([[-0.5, 1, 1, 1.5]], r"got -0.5 at \[0, 0\]"),
        ([[[0.5, 1, 1, 0.5]], [[0.5, 1, 1, np.inf]]], "sum to 1, got inf for expert 0 of layer 0"),
        ([[0.5, 1, 1, 0.6]], "sum to 1, got 1.1 for expert 0 of layer 0; eplb.split returns such weights"),
        ([[0, 1, 1, 0]], "sum to 1, got 0.0 for expert 0"),
        (np.ma.masked_array([[0.5, 1, 1, 0.5]], mask=[[0, 0, 0, 1]]), "got a masked array"),
    ],
)
def test_weights_that_do_not_fit_are_refused(placement, weights, message):
    """The message names shape, dtype, or the first bad share and its place."""
    with pytest.raises(OptionError, match=f"split: .*{message}"):
        evaluate(placement, [[[4, 1, 3]]] * 2, weights)


def test_failed_ranks_get_no_share():
    """A weight where nothing can be is no rounding."""
    topology = Topology(num_ranks=2, slots_per_rank=1, failed_ranks=[1])
    placement = Placement(physical_to_logical=[[0, -1]], topology=topology)
    assert evaluate(placement, [[4]], [[1, 0]]).rank_loads.tolist() == [[[4.0, 0.0]]]
    with pytest.raises(OptionError, match=r"0 on failed ranks, got 0.5 at \[0, 1\]"):
        evaluate(placement, [[4]], [[1, 0.5]])


@pytest.mark.parametrize("split", ["even", [[0.5, 1, 1, 0.5]]])
def test_tokens_stay_whole_in_the_weighted_split_alone(placement, split):
    """Whoever gives shares has cut the tokens."""
    with pytest.raises(OptionError, match="whole_tokens: expected split='weighted' with it"):
        evaluate(placement, [[4, 1, 3]], split, whole_tokens=True)


def test_parts_of_tokens_cannot_stay_whole(placement):
    """Loads that are no integers are refused, not rounded."""
    with pytest.raises(LoadsError, match="expected whole tokens"):
        evaluate(placement, [[4, 1.5, 3]], "weighted", whole_tokens=True)


@pytest.mark.parametrize("cost", [-1, np.nan, np.inf, "1", None, True])
def test_an_impossible_cost_is_refused(placement, cost):
    """The message names the option."""
    with pytest.raises(OptionError, match="cost_per_activated_slot: expected a finite number >= 0, got "):
        evaluate(placement, [[4, 1, 3]], cost_per_activated_slot=cost)


def test_something_else_than_a_placement_is_refused():
    """Bare slots are no placement: the ranks are missing."""
    with pytest.raises(PlacementError, match=r"placement: expected an eplb.Placement, got list"):
        evaluate([[0, 1, 2, 0]], [[4, 1, 3]])
