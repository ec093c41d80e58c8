"""The drop-in functions against their slow twins, and what they refuse."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eplb.deepseek
from eplb.deepseek import balanced_packing, rebalance_experts, replicate_experts
from eplb.errors import InfeasibleError, LoadsError, OptionError
from tests import reference_deepseek as reference

PUBLISHED = [
    [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
    [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
]
PUBLISHED_PLAN = [
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]
ALL_POLICIES = pytest.mark.parametrize("policy", ["fixup", "deepseek", "eplb"])
quick = settings(deadline=None, max_examples=80)


@st.composite
def weight_rows(draw, num_items):
    """Draw a weight array of 1 to 3 rows: integers with many ties, larger ones, or floats of four widths."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), num_items)
    kind = draw(st.sampled_from(["ties", "int64", "uint8", "float16", "float32", "float64"]))
    if kind == "ties":
        return rng.integers(0, 4, shape)
    if kind in ("int64", "uint8"):
        return rng.integers(0, 200, shape).astype(kind)
    return (rng.lognormal(size=shape) * 10).astype(kind)


@st.composite
def problems(draw, least_slots_a_rank=1):
    """Draw weights and the four numbers of a hierarchical or global problem."""
    num_nodes, ranks_a_node, group_size = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    num_groups = num_nodes * draw(st.integers(1, 3)) if draw(st.booleans()) else draw(st.integers(1, 6))
    num_ranks, num_experts = num_nodes * ranks_a_node, num_groups * group_size
    slots_a_rank = max(least_slots_a_rank, -(-num_experts // num_ranks)) + draw(st.integers(0, 3))
    weights = draw(weight_rows(num_experts))
    return weights, num_ranks * slots_a_rank, num_groups, num_nodes, num_ranks


def quotient_type(weights):
    """Return the precision that averages of `weights` are taken in."""
    return weights.dtype.type if weights.dtype.kind == "f" else np.float32


def assert_plans_equal(found, expected):
    """Assert that the three arrays are int64 and equal."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.int64
        np.testing.assert_array_equal(one, other)


def assert_plan_sound(plan, num_experts):
    """Assert that every expert is placed and that the three arrays tell the same story."""
    phy2log, log2phy, logcnt = plan
    assert logcnt.shape[1] == num_experts and logcnt.min() >= 1
    assert log2phy.shape == (*logcnt.shape, logcnt.max())
    for layer, slots in enumerate(phy2log):
        for expert in range(num_experts):
            own = log2phy[layer, expert]
            assert sorted(own[: logcnt[layer, expert]]) == np.flatnonzero(slots == expert).tolist()
            assert (own[logcnt[layer, expert] :] == -1).all()


@quick
@given(problems(), st.sampled_from(["fixup", "deepseek"]))
def test_rebalance_equals_its_slow_twin(problem, policy):
    """On random shapes, hierarchical and global, ties included."""
    expected = reference.rebalanced(*problem, by_expert=policy == "fixup")
    assert_plans_equal(rebalance_experts(*problem, policy=policy), expected)


@quick
@given(problems())
def test_rebalance_places_every_expert(problem):
    """The three arrays describe one sound plan."""
    assert_plan_sound(rebalance_experts(*problem), problem[0].shape[1])


@quick
@given(problems(least_slots_a_rank=2))
def test_policies_agree_without_ties(problem):
    """With two slots a rank or more, and loads whose quotients all differ, the two orders give one plan."""
    _, *numbers = problem
    weights = np.random.default_rng(0).lognormal(size=problem[0].shape)
    one, other = (rebalance_experts(weights, *numbers, policy=policy) for policy in ("fixup", "deepseek"))
    assert_plans_equal((one[0], np.sort(one[1]), one[2]), (other[0], np.sort(other[1]), other[2]))


def test_published_example():
    """The example that DeepSeek publishes gives the plan that it publishes."""
    phy2log, _, _ = rebalance_experts(np.array(PUBLISHED), 16, 4, 2, 8, policy="deepseek")
    assert phy2log.tolist() == PUBLISHED_PLAN


def test_global_fallback_ignores_groups_and_nodes():
    """Three groups on two nodes are planned as one group on one node, as DeepSeek does."""
    weights = np.arange(12).reshape(1, 12) + 1
    assert_plans_equal(rebalance_experts(weights, 16, 3, 2, 4), rebalance_experts(weights, 16, 1, 1, 4))


def test_zero_layer_piles_up_on_the_first_expert_of_each_node():
    """A layer without load gives all redundant slots of a node to its first expert."""
    phy2log, _, logcnt = rebalance_experts(np.zeros((2, 4)), 8, 2, 2, 4, policy="deepseek")
    assert phy2log.tolist() == [[0, 1, 0, 0, 2, 3, 2, 2]] * 2
    assert logcnt.tolist() == [[3, 1, 3, 1]] * 2


def test_fixup_is_the_default_policy():
    """Leaving the policy out plans with "fixup"."""
    plan = rebalance_experts(np.array(PUBLISHED), 16, 4, 2, 8)
    assert_plans_equal(plan, rebalance_experts(np.array(PUBLISHED), 16, 4, 2, 8, policy="fixup"))


def test_number_of_threads_does_not_matter(monkeypatch):
    """One thread and four give the same plan of many layers."""
    weights = np.random.default_rng(1).integers(0, 9, (100, 16))
    monkeypatch.setenv("EPLB_NUM_THREADS", "1")
    alone = rebalance_experts(weights, 24, 4, 2, 8)
    monkeypatch.setenv("EPLB_NUM_THREADS", "4")
    assert_plans_equal(rebalance_experts(weights, 24, 4, 2, 8), alone)


def test_eplb_policy_gives_a_sound_plan_with_slots_in_order():
    """The library's own planner answers in the same shapes and types."""
    weights = np.random.default_rng(2).lognormal(size=(3, 16))
    plan = rebalance_experts(weights, 24, 4, 2, 8, policy="eplb")
    assert all(array.dtype == np.int64 for array in plan)
    assert_plan_sound(plan, 16)
    assert all((np.diff(own[own >= 0]) > 0).all() for layer in plan[1] for own in layer)


def test_eplb_policy_keeps_groups_on_nodes():
    """No group of experts stands on two nodes."""
    weights = np.random.default_rng(3).lognormal(size=(3, 16))
    phy2log, _, _ = rebalance_experts(weights, 24, 4, 2, 8, policy="eplb")
    for slots in phy2log:
        assert not set(slots[:12] // 4) & set(slots[12:] // 4)


@quick
@given(st.integers(1, 9).flatmap(weight_rows), st.integers(0, 20))
def test_replicate_equals_its_slow_twin(weights, num_redundant):
    """Counts by highest averages, rows in the order of experts, in the precision of the input."""
    total = weights.shape[1] + num_redundant
    rows = [sorted(reference.greedy(row, total, quotient_type(weights))) for row in weights]
    phy2log, rank, logcnt = replicate_experts(weights, total)
    assert [list(zip(*pair, strict=True)) for pair in zip(phy2log.tolist(), rank.tolist(), strict=True)] == rows
    assert logcnt.tolist() == [np.bincount(row, minlength=weights.shape[1]).tolist() for row in phy2log]


def test_quotients_have_the_precision_of_the_input():
    """Two loads that differ only beyond float32 tie there, and do not in float64."""
    weights = np.array([[1.0, 1.0 + 1e-12]])
    assert replicate_experts(weights, 3)[2].tolist() == [[1, 2]]
    assert replicate_experts(weights.astype(np.float32), 3)[2].tolist() == [[2, 1]]


def test_quotients_of_integers_are_float32():
    """Integers that differ beyond float32 tie, and the lowest id wins."""
    assert replicate_experts(np.array([[2**24, 2**24 + 1]]), 3)[2].tolist() == [[2, 1]]


@quick
@given(st.data())
def test_packing_equals_its_slow_twin(data):
    """On random shapes and dtypes, ties included."""
    num_packs, capacity = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    weights = data.draw(weight_rows(num_packs * capacity))
    sum_type = weights.dtype.type if weights.dtype.kind == "f" else int
    found = np.stack(balanced_packing(weights, num_packs), axis=-1)
    expected = [reference.packed(row, num_packs, sum_type) for row in weights]
    np.testing.assert_array_equal(found, expected)


def test_packing_sums_integers_exactly():
    """Beyond 2**53 a difference of one still decides which pack is lighter."""
    weights = np.array([[2**60 + 1, 2**60, 5, 4]])
    assert balanced_packing(weights, 2)[0].tolist() == [[0, 1, 1, 0]]


def test_packing_sums_float64_exactly():
    """The order is taken in float32, the sums in float64."""
    weights = np.array([[1.0 + 1e-12, 1.0, 0.5, 0.25]])
    assert balanced_packing(weights, 2)[0].tolist() == [[0, 1, 1, 0]]


def test_one_item_a_pack_keeps_its_index():
    """Nothing is sorted where every pack has a single item."""
    pack_index, rank_in_pack = balanced_packing(np.array([[1, 9, 5]]), 3)
    assert pack_index.tolist() == [[0, 1, 2]] and rank_in_pack.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("rebalance_experts", ["weight", "num_replicas", "num_groups", "num_nodes", "num_gpus"]),
        ("replicate_experts", ["weight", "num_phy"]),
        ("balanced_packing", ["weight", "num_packs"]),
    ],
)
def test_arguments_have_the_names_of_the_original(function, names):
    """Calls by position and by name work as with DeepSeek's file; `policy` comes last."""
    parameters = list(inspect.signature(getattr(eplb.deepseek, function)).parameters)
    assert parameters[: len(names)] == names and parameters[len(names) :] in ([], ["policy"])


@pytest.mark.parametrize("dtype", ["int64", ">i4", "uint64", "float16", "float32", ">f4", "float64"])
@pytest.mark.parametrize("writeable", [True, False])
def test_input_stays_as_it_was(dtype, writeable):
    """No function writes to its input, be it read-only, strided or in another byte order."""
    weights = np.array(PUBLISHED, dtype=dtype).repeat(2, axis=1)[:, ::2]
    weights.flags.writeable = writeable
    expected = [rebalance_experts(np.array(PUBLISHED), 16, 4, 2, 8), balanced_packing(np.array(PUBLISHED), 4)]
    before = weights.copy()
    assert_plans_equal(rebalance_experts(weights, 16, 4, 2, 8), expected[0])
    assert_plans_equal(balanced_packing(weights, 4), expected[1])
    replicate_experts(weights, 16)
    np.testing.assert_array_equal(weights, before)


def test_numpy_needs_no_torch():
    """Planning an array imports no torch, and importing the module no numba."""
    code = (
        "import sys, numpy, eplb.deepseek as d; assert 'numba' not in sys.modules;"
        "d.replicate_experts(numpy.ones((1, 2)), 3); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@ALL_POLICIES
def test_tensors_give_tensors(policy):
    """Tensors come back as int64 tensors with the values that arrays give, gradients wanted or not."""
    torch = pytest.importorskip("torch")
    weights = torch.tensor(PUBLISHED, dtype=torch.float32, requires_grad=True)
    plan = rebalance_experts(weights, 16, 4, 2, 8, policy=policy)
    assert all(one.dtype == torch.int64 and one.device == weights.device for one in plan)
    assert_plans_equal([one.numpy() for one in plan], rebalance_experts(np.array(PUBLISHED), 16, 4, 2, 8, policy))


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32", "float64", "int32", "uint8"])
def test_replicate_grants_as_torch_divides(precision):
    """Every precision of torch, bfloat16 included, gives the counts that torch's own quotients lead to."""
    torch = pytest.importorskip("torch")
    weights = (torch.rand(4, generator=torch.Generator().manual_seed(4)) * 50).to(getattr(torch, precision))
    counts = torch.ones(4, dtype=torch.int64)
    for _ in range(900):
        averages = (weights / counts).tolist()
        counts[averages.index(max(averages))] += 1
    assert torch.equal(replicate_experts(weights[None], 904)[2][0], counts)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_packing_sums_as_torch_adds(precision):
    """The weight of a pack is rounded to half precision after each item."""
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, precision)
    weights = (torch.rand(10, 24, generator=torch.Generator().manual_seed(5)) * 90).to(dtype)
    expected = [reference.packed(row, 4, lambda x: torch.as_tensor(x, dtype=dtype)) for row in weights]
    assert balanced_packing(weights, 4)[0].tolist() == [[pack for pack, _ in row] for row in expected]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[1.0, np.nan]], r"nan at \[0, 1\]"),
        ([[1.0, np.inf]], r"inf at \[0, 1\]"),
        ([[1.0], [-2.0]], r"-2.0 at \[1, 0\]"),
        ([1.0, 2.0], r"got \[2\]"),
        ([[[1.0]]], r"got \[1, 1, 1\]"),
        (np.ones((0, 2)), r"got \[0, 2\]"),
        (np.ones((2, 0)), r"got \[2, 0\]"),
        (np.array([[1, None]], dtype=object), "dtype object"),
        ([[1, 2], [3]], "rectangular"),
        ([[True, False]], "dtype bool"),
        ([[1j, 2]], "dtype complex128"),
        ([["a", "b"]], "dtype <U1"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    """Each is a LoadsError that says what came, from all three functions."""
    for call in (
        lambda: rebalance_experts(weights, 4, 1, 1, 2),
        lambda: replicate_experts(weights, 4),
        lambda: balanced_packing(weights, 1),
    ):
        with pytest.raises(LoadsError, match=message):
            call()


def test_bad_tensors_are_refused():
    """A sparse tensor and one of NaN raise a LoadsError."""
    torch = pytest.importorskip("torch")
    with pytest.raises(LoadsError, match="dense"):
        replicate_experts(torch.eye(2).to_sparse(), 3)
    with pytest.raises(LoadsError, match="nan"):
        replicate_experts(torch.full((1, 2), torch.nan, dtype=torch.bfloat16), 3)


def test_loads_beyond_float32_are_refused():
    """Loads that float32 cannot sum are refused instead of planned as infinite."""
    with pytest.raises(LoadsError, match="row 1"):
        rebalance_experts(np.array([[1.0, 1.0], [3e38, 3e38]]), 4, 1, 1, 2)


@pytest.mark.parametrize(
    "weights", [np.full((1, 4), 6e4, dtype=np.float16), np.full((1, 4), 2**62), np.full((1, 4), 2**63, dtype=np.uint64)]
)
def test_packs_beyond_their_dtype_are_refused(weights):
    """A pack that outweighs its dtype is refused, since no pack would be the lightest."""
    with pytest.raises(LoadsError, match="a pack weighs"):
        balanced_packing(weights, 2)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((7, 1, 1, 7), "num_replicas: expected at least one slot for each of 8"),
        ((9, 1, 1, 2), "num_gpus: expected a divisor of num_replicas"),
        ((8, 1, 1, 16), "slots leave some of 16 GPUs without one"),
        ((16, 16, 2, 2), "num_groups: expected at most one group an expert"),
        ((16, 3, 1, 2), "num_groups: expected a divisor of the number of experts"),
        ((15, 2, 2, 3), "num_nodes: expected a divisor of num_gpus"),
    ],
)
def test_infeasible_plans_are_refused(numbers, message):
    """What the original asserts, and what it does not, is an InfeasibleError with both numbers."""
    with pytest.raises(InfeasibleError, match=message):
        rebalance_experts(np.ones((1, 8)), *numbers)


def test_infeasible_parts_are_refused():
    """Too few replicas and packs that do not divide the items are named."""
    with pytest.raises(InfeasibleError, match="num_phy"):
        replicate_experts(np.ones((1, 3)), 2)
    with pytest.raises(InfeasibleError, match="num_packs"):
        balanced_packing(np.ones((1, 3)), 2)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("value", [0, -1, 1.0, "2", None, True])
def test_numbers_must_be_positive_integers(position, value):
    """Each number in turn is refused with its name."""
    numbers = [4, 1, 1, 2]
    numbers[position] = value
    name = ["num_replicas", "num_groups", "num_nodes", "num_gpus"][position]
    with pytest.raises(OptionError, match=f"{name}: expected an integer >= 1"):
        rebalance_experts(np.ones((1, 4)), *numbers)


def test_unknown_policy_is_refused():
    """The message lists the policies."""
    with pytest.raises(OptionError, match="'fixup', 'deepseek', 'eplb', got 'best'"):
        rebalance_experts(np.ones((1, 4)), 4, 1, 1, 2, policy="best")
