"""The exact weighted split: against a linear program, against all sets of ranks, and in exact arithmetic."""

import functools
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, sparse

from eplb import LoadsError, LoadTrace, OptionError, Placement, PlacementError, Topology, evaluate, split
from eplb.dispatch.splitting import solve_split
from eplb.kernels.split.layers import split_layers
from tests import reference_split as reference

SEEDS = st.integers(0, 2**32 - 1)
SPEEDS = {
    "equal speeds": lambda rng, size: np.ones(size),
    "few speeds": lambda rng, size: rng.choice([0.5, 1.0, 2.0, 3.0], size),
    "any speeds": lambda rng, size: rng.uniform(0.3, 3, size),
    "very uneven speeds": lambda rng, size: 10.0 ** rng.uniform(-6, 6, size),
}
LOADS = [
    lambda rng, size: rng.lognormal(0, 1, size),
    lambda rng, size: rng.lognormal(0, 4, size),
    lambda rng, size: 10.0 ** rng.uniform(-12, 0, size),
    lambda rng, size: rng.integers(0, 4, size).astype(float),
    lambda rng, size: rng.random(size) * (rng.random(size) < 0.4),
    lambda rng, size: 1 / np.arange(1.0, size + 1) ** 2,
    lambda rng, size: np.ones(size),
]
COSTS = [
    lambda rng, size, total: rng.random(size) * total,
    lambda rng, size, total: rng.random(size) * total / size,
    lambda rng, size, total: 2.0 * total * (rng.random(size) < 0.3),
]


@pytest.fixture
def pair():
    """Return two ranks that share expert 0 of 3."""
    return Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))


def random_slots(rng, topology):
    """Return slots [P] that hold every expert of a random number, some twice on a rank; -1 on failed ranks."""
    usable = np.flatnonzero(topology.alive[topology.rank_of_slot])
    num_experts = int(rng.integers(1, usable.size + 1))
    slots = np.full(topology.num_slots, -1)
    rest = rng.integers(0, num_experts, usable.size - num_experts)
    slots[usable] = rng.permutation(np.concatenate([np.arange(num_experts), rest]))
    return slots


def case_of(seed, speeds="few speeds", max_ranks=8):
    """Return one layer on uneven ranks, of which some may have failed: loads [E], fixed costs [R], placement."""
    rng = np.random.default_rng(seed)
    num_ranks = int(rng.integers(1, max_ranks + 1))
    failed = rng.choice(num_ranks, rng.integers(0, num_ranks), replace=False) if rng.random() < 0.2 else []
    topology = Topology(
        num_ranks=num_ranks,
        slots_per_rank=rng.integers(1, rng.integers(2, 8), num_ranks).tolist(),
        rank_speeds=SPEEDS[speeds](rng, num_ranks),
        failed_ranks=sorted(failed),
    )
    slots = random_slots(rng, topology)
    loads = LOADS[rng.integers(len(LOADS))](rng, slots.max() + 1)
    fixed = COSTS[rng.integers(len(COSTS))](rng, num_ranks, loads.sum()) if rng.random() < 0.4 else np.zeros(num_ranks)
    placement = Placement(physical_to_logical=[slots], topology=topology, num_experts=loads.size)
    return SimpleNamespace(placement=placement, topology=topology, slots=slots, loads=loads, fixed=fixed)


def solved(case, **options):
    return solve_split(case.placement, [case.loads], fixed_costs=case.fixed, **options)


def rank_times(case, weights):
    """Return the times [R'] of the ranks that work when slots [P] get those shares."""
    tokens = np.where(case.slots >= 0, case.loads[case.slots] * weights, 0.0)
    times = np.bincount(case.topology.rank_of_slot, tokens, minlength=case.topology.num_ranks) + case.fixed
    return (times / case.topology.speeds)[case.topology.alive]


# ---- optimal


def least_by_linear_program(case):
    """Return the least largest time: tokens on slots and the time are the variables."""
    usable, topology = np.flatnonzero(case.slots >= 0), case.topology
    ranks, alive = topology.rank_of_slot[usable], np.flatnonzero(topology.alive)
    on_rank = (alive[:, None] == ranks).astype(float)
    of_expert = (np.arange(case.loads.size)[:, None] == case.slots[usable]).astype(float)
    scale = case.loads.sum() + case.fixed.sum() or 1.0
    found = optimize.linprog(
        np.append(np.zeros(usable.size), 1.0),
        A_ub=sparse.csr_array(np.column_stack([on_rank, -topology.speeds[alive]])),
        b_ub=-case.fixed[alive] / scale,
        A_eq=sparse.csr_array(np.column_stack([of_expert, np.zeros(case.loads.size)])),
        b_eq=case.loads / scale,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert found.status == 0, found.message
    return found.fun * scale


@pytest.mark.parametrize("speeds", ["equal speeds", "few speeds", "any speeds"])
@pytest.mark.parametrize("block", range(4))
def test_the_largest_load_is_that_of_a_linear_program(speeds, block):
    """Uneven slots, failed ranks, fixed costs, experts several times on a rank, ties and zeros: none is lower."""
    for seed in range(200 * block, 200 * (block + 1)):
        case = case_of(seed, speeds, max_ranks=12)
        found = solved(case).largest_loads[0]
        assert found == pytest.approx(least_by_linear_program(case), rel=1e-7, abs=1e-300), seed


@pytest.mark.parametrize("speeds", SPEEDS)
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_the_largest_load_is_what_the_worst_set_of_ranks_needs(speeds, seed):
    """Of all sets, tried one by one; to the last bits, however uneven the speeds."""
    case = case_of(seed, speeds)
    expected = reference.level(case.slots, case.loads, case.topology, case.fixed)
    assert solved(case).largest_loads[0] == pytest.approx(expected, rel=1e-14, abs=0)


@pytest.mark.parametrize("speeds", SPEEDS)
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_the_weights_reach_the_largest_load(speeds, seed):
    """No rank takes longer than is said, up to rounding: also a rank that is a million times slower than another."""
    case = case_of(seed, speeds, max_ranks=40)
    found = solved(case)
    assert rank_times(case, found.weights[0]).max() == pytest.approx(found.largest_loads[0], rel=1e-11, abs=0)


@pytest.mark.parametrize("speeds", SPEEDS)
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_the_tight_ranks_prove_the_largest_load(speeds, seed):
    """What cannot leave them takes them as long. With weights that reach it, that is a proof on any number of ranks."""
    case = case_of(seed, speeds, max_ranks=40)
    found = solved(case)
    needed = reference.level_of_set(found.tight_ranks[0], case.slots, case.loads, case.topology, case.fixed)
    assert found.largest_loads[0] == pytest.approx(needed, rel=1e-12, abs=0)
    assert not found.tight_ranks[0][~case.topology.alive].any()


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, speeds=st.sampled_from([*SPEEDS]))
def test_the_shares_of_an_expert_sum_to_one(seed, speeds):
    """None is negative, and a failed rank gets none."""
    case = case_of(seed, speeds, max_ranks=40)
    weights, used = solved(case).weights[0], case.slots >= 0
    np.testing.assert_allclose(np.bincount(case.slots[used], weights[used]), 1.0, rtol=0, atol=1e-12)
    assert weights.min() >= 0
    assert not weights[~used].any()


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, speeds=st.sampled_from([*SPEEDS]))
def test_no_rank_is_slower_than_the_slowest_with_even_shares(seed, speeds):
    """With what ranks have to do besides."""
    case = case_of(seed, speeds, max_ranks=40)
    even = np.where(case.slots >= 0, 1 / np.bincount(case.slots[case.slots >= 0])[case.slots], 0.0)
    assert solved(case).largest_loads[0] <= rank_times(case, even).max() * (1 + 1e-12) + 1e-300


def test_known_splits():
    """A hot expert that fills up what others leave; one that cannot; and one with a rank of its own."""
    topology = Topology(num_ranks=3, slots_per_rank=2)
    placement = Placement(physical_to_logical=[[0, 1, 0, 2, 0, 3]], topology=topology)
    for loads, weights, largest, tight in (
        ([9, 1, 2, 3], [4 / 9, 3 / 9, 2 / 9], 5.0, [True, True, True]),
        ([6, 9, 1, 2], [0.0, 8 / 15, 7 / 15], 9.0, [True, False, False]),
        ([0, 3, 3, 3], [1 / 3, 1 / 3, 1 / 3], 3.0, [True, True, True]),
    ):
        found = solve_split(placement, [loads])
        assert found.weights[0, ::2] == pytest.approx(weights, abs=1e-15)
        assert (found.largest_loads.tolist(), found.tight_ranks.tolist()) == ([largest], [tight])


def test_tokens_are_handed_on_from_rank_to_rank():
    """A chain of 20 ranks, each of which shares an expert with the next: all of it has to go to the one before."""
    slots = [[rank, min(rank + 1, 19)] for rank in range(20)]
    placement = Placement(physical_to_logical=[np.ravel(slots)], topology=Topology(num_ranks=20, slots_per_rank=2))
    found = solve_split(placement, [[0, *[4] * 18, 8]])
    assert found.largest_loads == pytest.approx([4], rel=1e-12)
    assert found.weights[0, 1:37:2] == pytest.approx([1.0] * 18, rel=1e-12)


# ---- in exact arithmetic


def whole_case(seed, speeds=(1,), largest=2**40, max_ranks=8):
    """Return a case of whole loads and fixed costs, which sum up to `largest` at most."""
    rng = np.random.default_rng(seed)
    num_ranks = int(rng.integers(1, max_ranks + 1))
    rank_speeds, slots_per_rank = rng.choice(speeds, num_ranks), rng.integers(1, 5, num_ranks).tolist()
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank, rank_speeds=rank_speeds)
    slots = random_slots(rng, topology)
    top = largest ** rng.random()
    loads = np.floor(0.7 * top * rng.dirichlet(np.full(slots.max() + 1, rng.choice([0.1, 1, 100]))))
    fixed = np.floor(0.3 * top * rng.dirichlet(np.full(num_ranks, 0.5))) * (rng.random() < 0.4)
    placement = Placement(physical_to_logical=[slots], topology=topology, num_experts=loads.size)
    return SimpleNamespace(placement=placement, topology=topology, slots=slots, loads=loads, fixed=fixed)


@pytest.mark.parametrize("speeds", [(1,), (1, 2)], ids=["equal speeds", "double speeds"])
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_whole_loads_are_split_exactly(speeds, seed):
    """As fractions, the time that the tight ranks need is the least there is; for sums of up to 2**40 tokens."""
    case = whole_case(seed, speeds)
    found = solved(case)
    best = reference.exact_level(case.slots, case.loads, case.topology, case.fixed)
    loads, fixed = reference.fractions(case.loads), reference.fractions(case.fixed)
    assert reference.level_of_set(found.tight_ranks[0], case.slots, loads, case.topology, fixed) == best
    assert found.largest_loads[0] == float(best)


# ---- whole tokens


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_whole_tokens_on_equal_ranks_take_the_next_whole_time(seed):
    """The least largest load is that of the split, rounded up."""
    case = whole_case(seed)
    least = reference.exact_level(case.slots, case.loads, case.topology, case.fixed)
    assert solved(case, whole_tokens=True).largest_loads[0] == -(-least // 1)


@pytest.mark.parametrize("speeds", [(1, 2), (0.5, 3, 49), (103, 107, 1e6), (1e-3, 0.7)], ids=str)
@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_whole_tokens_fit_where_every_set_of_ranks_has_room(speeds, seed):
    """The least largest time is that of Hall's theorem, in fractions; at any less, the tight ranks have no room."""
    case = whole_case(seed, speeds)
    found = solved(case, whole_tokens=True)
    least = reference.whole_level(case.slots, case.loads, case.topology, case.fixed)
    assert found.largest_loads[0] == pytest.approx(float(least), rel=1e-15, abs=0)
    held = [set(reference.ranks_with(e, case.slots, case.topology)) for e in range(case.loads.size)]
    tight = set(np.flatnonzero(found.tight_ranks[0]).tolist())
    confined = sum(int(load) for load, ranks in zip(case.loads, held, strict=True) if ranks <= tight)
    room = [-(-least * Fraction(case.topology.speeds[r]) // 1) - 1 - int(case.fixed[r]) for r in tight]
    assert sum(room) < confined or least == 0


@pytest.mark.parametrize("speeds", [(1,), (1, 2, 3), (0.7, 1.9, 5)], ids=str)
def test_no_way_to_place_whole_tokens_is_better(speeds):
    """On tiny cases, by trying them all."""
    for seed in range(60):
        case = whole_case(seed, speeds, largest=9, max_ranks=3)
        best = reference.least_by_trying(case.slots, case.loads, case.topology, case.fixed)
        assert solved(case, whole_tokens=True).largest_loads[0] == pytest.approx(float(best), rel=1e-15), seed


@settings(deadline=None, max_examples=150)
@given(seed=SEEDS, speeds=st.sampled_from([(1,), (1, 2), (0.7, 3, 49)]))
def test_whole_tokens_stay_whole_and_none_is_lost(seed, speeds):
    """They are those of the weights, and they reach the largest load."""
    case = whole_case(seed, speeds)
    found = solved(case, whole_tokens=True)
    tokens = found.tokens[0]
    assert (tokens.dtype, tokens.min() >= 0) == (np.int64, True)
    np.testing.assert_array_equal(np.bincount(case.slots, tokens), case.loads)
    np.testing.assert_allclose(found.weights[0] * case.loads[case.slots], tokens, rtol=1e-12)
    assert rank_times(case, found.weights[0]).max() == pytest.approx(found.largest_loads[0], rel=1e-12)


@pytest.mark.parametrize("speeds", [[49, 1], [0.1, 0.3], [103, 107], [1e6, 1e-6]], ids=str)
@pytest.mark.parametrize("cost", [0.0, 0.1, 1e20, 1e300], ids=str)
def test_rounding_holds_no_whole_token_up(speeds, cost):
    """Up to 2**40 tokens, besides any fixed costs: n / speed * speed may be less than n, and it still ends."""
    topology = Topology(num_ranks=2, slots_per_rank=2, rank_speeds=speeds)
    placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=topology)
    for tokens in (2**36, 2**39, 2**40 - 3):
        found = solve_split(placement, [[2, tokens, 1]], fixed_costs=[cost, 0], whole_tokens=True)
        assert found.tokens.sum() == tokens + 3
        assert found.largest_loads[0] >= (tokens + cost) / speeds[0] * (1 - 1e-15)


@pytest.mark.parametrize("speeds", [[49, 49, 49], [1e-6, 1e6, 1e6]], ids=str)
def test_rounding_sends_no_whole_token_to_another_node(speeds):
    """However many tokens a fast rank could handle, or how little of one the slowest rank has room for."""
    topology = Topology(num_ranks=3, slots_per_rank=2, num_nodes=3, rank_speeds=speeds)
    placement = Placement(physical_to_logical=[[1, 0, 0, 2, 0, 3]], topology=topology)
    for most in (2**20, 2**38):
        sources = np.array([[[0, most, 0, 0], [10, 0, most - 10, 0], [0, 0, 0, most - 17]]])
        found = solve_split(placement, sources.sum(axis=1), source_loads=sources, whole_tokens=True)
        assert found.tokens.tolist() == [[most, 0, 10, most - 10, 0, most - 17]]
        assert found.leaving_tokens.tolist() == [0]


def test_slots_of_a_rank_get_whole_tokens_that_differ_by_one():
    """The first ones get one more."""
    placement = Placement(physical_to_logical=[[0, 0, 0, 1]], topology=Topology(num_ranks=2, slots_per_rank=[3, 1]))
    assert solve_split(placement, [[8, 1]], whole_tokens=True).tokens.tolist() == [[3, 3, 2, 1]]


# ---- which of the optimal splits


def test_experts_are_shared_out_in_order_by_the_room_that_is_left():
    """Expert 0 leaves room for 3 and 1 tokens of 4, of which expert 1 takes half, and expert 2 what is left."""
    topology = Topology(num_ranks=2, slots_per_rank=4)
    placement = Placement(physical_to_logical=[[0, 1, 2, 2, 3, 1, 2, 2]], topology=topology)
    found = split(placement, [[1, 2, 2, 3]])
    assert found[0] == pytest.approx([1, 0.75, 0.375, 0.375, 1, 0.25, 0.125, 0.125])


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_slots_of_one_expert_on_one_rank_get_the_same(seed):
    """Bit for bit."""
    case = case_of(seed)
    weights, rank_of = solved(case).weights[0], case.topology.rank_of_slot
    for slot, other in zip(*np.triu_indices(case.slots.size, 1), strict=True):
        if case.slots[slot] == case.slots[other] and rank_of[slot] == rank_of[other]:
            assert weights[slot] == weights[other]


@pytest.mark.parametrize("whole", [False, True])
def test_an_expert_without_tokens_is_shared_evenly(whole):
    """By slots, not by ranks; so is a layer of zeros."""
    placement = Placement(physical_to_logical=[[0, 0, 1, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    for loads in ([[0, 5]], [[0, 0]]):
        weights = solve_split(placement, loads, whole_tokens=whole).weights
        assert weights.tolist() == [[1 / 3, 1 / 3, 1.0, 1 / 3]]


def test_without_replicas_all_shares_are_one():
    """There is nothing to choose."""
    placement = Placement(physical_to_logical=[[2, 0, 1]], topology=Topology(num_ranks=3, slots_per_rank=1))
    assert split(placement, [[0.1, 0.7, 1e-300]]).tolist() == [[1.0, 1.0, 1.0]]


# ---- windows, layers, units, threads


@pytest.fixture
def several(rng):
    """Return a placement of 20 layers with a failed rank, and loads of three windows."""
    topology = Topology(num_ranks=5, slots_per_rank=[4, 2, 3, 4, 3], failed_ranks=[1], rank_speeds=[1, 1, 2, 1, 3])
    slots = np.full((20, topology.num_slots), -1)
    for row in slots:
        row[topology.alive[topology.rank_of_slot]] = rng.permutation([*range(9), *rng.integers(0, 9, 5)])
    return Placement(physical_to_logical=slots, topology=topology), rng.integers(0, 50, (3, 20, 9)).astype(float)


def assert_equal_splits(found, expected):
    for name in ("weights", "tokens", "largest_loads", "tight_ranks"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("whole", [False, True])
def test_every_window_and_layer_is_split_on_its_own(several, whole):
    """Alone, each gets what it gets among the others, bit for bit."""
    placement, loads = several
    fixed = np.arange(3 * 20 * 5).reshape(3, 20, 5) % 7
    found = solve_split(placement, loads, fixed_costs=fixed, whole_tokens=whole)
    for t, layer in ((0, 0), (1, 13), (2, 19)):
        options = {"layer": layer, "fixed_costs": fixed[t, layer], "whole_tokens": whole}
        alone = solve_split(placement, loads[t, [layer]], **options)
        for name in ("weights", "largest_loads", "tight_ranks"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(found, name)[t, layer])


def test_fixed_costs_may_be_of_ranks_of_layers_or_of_windows(several):
    """Those of fewer axes hold for all."""
    placement, loads = several
    costs = np.array([5.0, 0.0, 2.0, 7.0, 1.0])
    whole = solve_split(placement, loads, fixed_costs=np.broadcast_to(costs, (3, 20, 5)))
    for fixed in (costs, np.broadcast_to(costs, (20, 5)), costs.tolist(), costs.astype(np.float32)):
        assert_equal_splits(solve_split(placement, loads, fixed_costs=fixed), whole)
    assert (whole.largest_loads > solve_split(placement, loads).largest_loads).all()


def test_a_failed_rank_has_no_costs(several):
    """Whatever is said of it."""
    placement, loads = several
    found = split(placement, loads, fixed_costs=[0, 1e300, 0, 0, 0])
    np.testing.assert_array_equal(found, split(placement, loads))


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, exponent=st.sampled_from([-980, -100, 60, 980]), speeds=st.sampled_from([*SPEEDS]))
def test_powers_of_two_change_nothing(seed, exponent, speeds):
    """The same shares, bit for bit, of the unit of the loads."""
    case, scaled = case_of(seed, speeds), case_of(seed, speeds)
    scaled.loads, scaled.fixed = np.ldexp(case.loads, exponent), np.ldexp(case.fixed, exponent)
    found, other = solved(case), solved(scaled)
    np.testing.assert_array_equal(other.weights, found.weights)
    np.testing.assert_array_equal(other.largest_loads, np.ldexp(found.largest_loads, exponent))


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-9, 1e9, 1e200, 1e300])
def test_loads_of_any_size_are_split_exactly(scale):
    """From 1e-300 to 1e300 tokens."""
    for seed in range(100):
        case = case_of(seed)
        case.loads, case.fixed = case.loads * scale, case.fixed * scale
        expected = reference.level(case.slots, case.loads, case.topology, case.fixed)
        assert solved(case).largest_loads[0] == pytest.approx(expected, rel=1e-13, abs=0)


@pytest.mark.parametrize("threads", ["1", "2", "5"])
@pytest.mark.parametrize("whole", [False, True])
def test_threads_do_not_change_a_split(several, monkeypatch, threads, whole):
    """Bit for bit, on however many."""
    expected = solve_split(*several, whole_tokens=whole)
    monkeypatch.setenv("EPLB_NUM_THREADS", threads)
    assert_equal_splits(solve_split(*several, whole_tokens=whole), expected)


def test_all_kinds_of_loads_are_split_alike(several):
    """A trace, a tensor, integers, and arrays in any order."""
    placement, loads = several
    expected = split(placement, loads)
    strided = np.zeros((3, 20, 18))[:, :, ::2]
    strided[:] = loads
    kinds = (LoadTrace(loads=loads), torch.from_numpy(loads), loads.astype(np.uint8), np.asfortranarray(loads), strided)
    for given_as in kinds:
        np.testing.assert_array_equal(split(placement, given_as), expected)


def test_failed_ranks_have_nothing_compiled_anew(several, pair):
    """What the kernel is passed has the same types and order, whatever came."""
    split(pair, [[4, 1, 3]])
    split(*several)
    assert len(split_layers.signatures) == 1


@pytest.mark.parametrize("whole", [False, True])
def test_a_split_is_read_only_and_loads_stay_as_they_were(several, whole):
    """What came is not written to, and what is returned cannot be."""
    placement, loads = several
    before = loads.copy()
    found = solve_split(placement, loads, whole_tokens=whole)
    np.testing.assert_array_equal(loads, before)
    assert loads.flags.writeable
    for array in filter(lambda array: array is not None, map(functools.partial(getattr, found), found.__slots__)):
        assert not array.flags.writeable


def test_the_split_is_what_evaluate_scores(several):
    """The largest loads are those of the ranks that its weights give."""
    placement, loads = several
    found = solve_split(placement, loads)
    largest = evaluate(placement, loads, found.weights).largest_loads
    np.testing.assert_allclose(largest, found.largest_loads, rtol=1e-12)


# ---- what is refused


@pytest.mark.parametrize(
    ("loads", "says"),
    [
        ([[4, 1]], r"expected \[..., 1 layers, 3 experts\], got \(1, 2\)"),
        ([[4, 1, 3]] * 2, r"expected \[..., 1 layers, 3 experts\], got \(2, 3\)"),
        ([4, 1, 3], r"got shape \(3,\)"),
        (np.zeros((0, 1, 3)), r"got shape \(0, 1, 3\)"),
        ([[4, np.nan, 3]], r"got nan at \[0, 1\]"),
        ([[[4, 1, np.inf]]], r"got inf at \[0, 0, 2\]"),
        ([[4, -1, 3]], r"got -1.* at \[0, 1\]"),
        ([["4", "1", "3"]], "dtype <U1"),
        ([[1e308] * 3], "the sum of a layer is beyond the range of float64"),
    ],
    ids=str,
)
def test_bad_loads_are_refused(pair, loads, says):
    """With what was expected, and the first bad index."""
    with pytest.raises(LoadsError, match=says):
        split(pair, loads)


def test_times_beyond_float64_are_refused():
    """A slow rank's may be, where the loads and their sum are not."""
    topology = Topology(num_ranks=2, slots_per_rank=1, rank_speeds=[1.0, 1e-3])
    placement = Placement(physical_to_logical=[[0, 1]], topology=topology)
    with pytest.raises(LoadsError, match="the largest rank load, a sum over a speed, is beyond the range of float64"):
        split(placement, [[1.0, 1e307]])


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        (
            3.0,
            r"fixed_costs: expected \[2 ranks\], \[1 layers, ranks\] or \[1 windows, layers, ranks\], got shape \(\)",
        ),
        ([1.0, 2.0, 3.0], r"got shape \(3,\)"),
        ([[1.0, 2.0]] * 2, r"got shape \(2, 2\)"),
        ([[[1.0, 2.0]]] * 2, r"got shape \(2, 1, 2\)"),
        ([True, False], "of dtype bool"),
        ([1.0, np.nan], r"fixed_costs: expected finite values >= 0, got nan at \[1\]"),
        ([[1.0, np.inf]], r"fixed_costs: .* got inf at \[0, 1\]"),
        ([-1, 0], r"fixed_costs: .* got -1 at \[0\]"),
        ([1e308, 1e308], "the sum of a layer is beyond the range of float64"),
    ],
    ids=str,
)
def test_bad_costs_are_refused(pair, costs, says):
    """By their own name."""
    with pytest.raises(LoadsError, match=says):
        split(pair, [[4, 1, 3]], fixed_costs=costs)


@pytest.mark.parametrize("loads", [[[4, 1.5, 3]], [[4, 1e-300, 3]], [[2**40, 1, 0]]], ids=str)
def test_tokens_that_are_not_whole_are_refused(pair, loads):
    """As are more than 2**40 of them; as a split they would do."""
    with pytest.raises(LoadsError, match=r"expected whole tokens, up to 2\*\*40 in a layer; without whole_tokens any"):
        solve_split(pair, loads, whole_tokens=True)
    assert split(pair, loads).shape == (1, 4)


@pytest.mark.parametrize("layer", [-1, 1, 0.0, True, "0"], ids=repr)
def test_a_layer_that_is_not_there_is_refused(pair, layer):
    """Layers count from 0."""
    with pytest.raises(OptionError, match=rf"layer: expected an integer of 0 to 0, got {layer!r}"):
        solve_split(pair, [[4, 1, 3]], layer=layer)


def test_a_placement_is_wanted():
    """Its slots alone do not tell where the ranks are."""
    with pytest.raises(PlacementError, match=r"expected an eplb.Placement, got list"):
        split([[0, 1, 2, 0]], [[4, 1, 3]])
