"""`eplb.plan` as a caller sees it."""

import numpy as np
import pytest

import eplb
from eplb import Topology
from tests.planning.soundness import assert_sound

EFFORTS = ("fast", "balanced", "thorough")


@pytest.fixture
def loads(rng):
    return rng.lognormal(0, 1, (5, 64))


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    "topology",
    [
        Topology(num_ranks=8, slots_per_rank=9),
        Topology(num_ranks=3, slots_per_rank=22),
        Topology(num_ranks=4, slots_per_rank=[18, 17, 17, 17]),
        Topology(num_ranks=6, slots_per_rank=[40, 1, 1, 1, 20, 9]),
        Topology(num_ranks=8, slots_per_rank=9, rank_speeds=[1, 1, 2, 1, 0.5, 1, 1, 3]),
        Topology(num_ranks=9, slots_per_rank=10, failed_ranks=[0, 5]),
        Topology(num_ranks=80, slots_per_rank=1),
        Topology(num_ranks=2, slots_per_rank=100),
        Topology(num_ranks=1, slots_per_rank=64),
    ],
    ids=[
        "even",
        "3 ranks",
        "uneven",
        "very uneven",
        "speeds",
        "failed",
        "one slot",
        "more slots than experts",
        "one rank",
    ],
)
def test_plans_are_sound_on_any_machine(loads, topology, effort):
    """Nothing has to divide anything: the plan is sound wherever one exists."""
    assert_sound(eplb.plan(loads, topology, effort=effort), loads, topology)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    ("topology", "groups"),
    [
        (Topology(num_ranks=8, slots_per_rank=9, num_nodes=4), 8),
        (Topology(num_ranks=9, slots_per_rank=9, num_nodes=[0, 0, 1, 1, 1, 1, 2, 2, 2]), 8),
        (Topology(num_ranks=9, slots_per_rank=12, num_nodes=3, failed_ranks=[3, 4, 5]), 4),
        (Topology(num_ranks=6, slots_per_rank=[20, 20, 9, 9, 20, 20], num_nodes=[1, 1, 0, 0, 2, 2]), 16),
    ],
    ids=["even", "unequal nodes", "a node failed", "unequal slots"],
)
def test_a_group_stays_on_one_node(loads, topology, groups, effort):
    """With groups, all replicas of a group's experts stand on the same node."""
    plan = eplb.plan(loads, topology, groups=groups, effort=effort)
    assert_sound(plan, loads, topology)
    node_of_slot = topology.node_of_rank[topology.rank_of_slot]
    for row in plan.placement.physical_to_logical:
        for group in range(groups):
            mine = (row >= 0) & (row // (64 // groups) == group)
            assert len(set(node_of_slot[mine].tolist())) == 1


def test_groups_on_one_node_change_nothing(loads):
    """Groups bind nothing where there is one node."""
    topology = Topology(num_ranks=8, slots_per_rank=9)
    assert eplb.plan(loads, topology, groups=8).placement.hash == eplb.plan(loads, topology).placement.hash


def test_more_effort_is_never_worse(loads):
    """The largest load falls from fast to balanced to thorough."""
    topology = Topology(num_ranks=8, slots_per_rank=9)
    largest = [eplb.plan(loads, topology, effort=effort).certificate.largest_load for effort in EFFORTS]
    assert largest == sorted(largest, reverse=True)


def test_balanced_comes_within_its_tolerance(rng):
    """On usual loads with spare slots, balanced ends 0.02% from the bound."""
    plan = eplb.plan(rng.lognormal(0, 1, (8, 256)), Topology(num_ranks=32, slots_per_rank=9))
    assert plan.certificate.gap <= 2e-4


def test_one_slot_a_rank_is_proven_optimal(loads):
    """With one slot a rank, highest averages meet the bound exactly."""
    plan = eplb.plan(loads, Topology(num_ranks=80, slots_per_rank=1), effort="fast")
    assert plan.certificate.gap == 0.0


def test_two_heavy_experts_do_not_have_to_meet(rng):
    """Fewer replicas can be better: at highest averages (6 + 4 on 8 ranks) two ranks would hold both heavy experts."""
    tail = rng.choice(1 / np.arange(8, 257), 62, replace=False)
    plan = eplb.plan([[1.0, 0.5, *tail]], Topology(num_ranks=8, slots_per_rank=9))
    assert plan.placement.replica_counts[0, :2].sum() <= 8
    assert plan.certificate.gap < 1e-3


def test_cold_experts_take_slots_that_hot_ones_do_not_need():
    """32 replicas of the five hot experts are better than 37, though 37 fit."""
    loads = np.zeros((1, 256))
    loads[0, :5] = [5, 4, 3, 2, 1]
    plan = eplb.plan(loads, Topology(num_ranks=32, slots_per_rank=9))
    assert plan.certificate.largest_load == 0.5


def test_a_layer_of_zeros_is_planned_as_uniform():
    """No load: every expert gets as many replicas as another, and the certificate says 0 out of 0 is balanced."""
    plan = eplb.plan([[0, 0, 0, 0], [1, 2, 3, 4]], Topology(num_ranks=2, slots_per_rank=4))
    assert plan.placement.replica_counts[0].tolist() == [2, 2, 2, 2]
    assert plan.certificate.per_layer.balancedness[0] == 1.0
    assert plan.certificate.per_layer.gap[0] == 0.0


@pytest.mark.parametrize("scale", [2.0**-1060, 2.0**-600, 1.0, 2.0**60, 2.0**1000])
def test_plans_do_not_depend_on_the_unit_of_the_loads(scale):
    """Loads up to 1e18 and far beyond, and down to denormals: a power of two changes nothing but the unit."""
    loads = np.array([[5.0, 3.0, 8.0, 1.0, 0.0, 2.0]])
    topology = Topology(num_ranks=3, slots_per_rank=3)
    plan, scaled = eplb.plan(loads, topology), eplb.plan(loads * scale, topology)
    np.testing.assert_array_equal(plan.placement.physical_to_logical, scaled.placement.physical_to_logical)
    assert scaled.certificate.balancedness == pytest.approx(plan.certificate.balancedness, rel=1e-2)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.float16, np.float32, np.float64])
def test_every_number_type_gives_the_same_plan(dtype):
    """Loads are computed in float64 whatever they come in."""
    loads = np.array([[5, 3, 8, 1, 0, 2]], dtype=dtype)
    topology = Topology(num_ranks=3, slots_per_rank=3)
    assert eplb.plan(loads, topology).placement.hash == eplb.plan(loads.tolist(), topology).placement.hash


def test_windows_that_are_alike_are_planned_as_one(rng):
    """[T, L, E] with equal windows gives a plan that is as good on one of them."""
    loads = rng.integers(1, 100, (1, 2, 16)).repeat(4, axis=0)
    topology = Topology(num_ranks=4, slots_per_rank=5)
    one, several = (eplb.plan(given, topology).certificate for given in (loads[0], loads))
    assert several.largest_load == pytest.approx(one.largest_load, rel=1e-3)
    assert several.lower_bound == pytest.approx(one.lower_bound, rel=1e-3)


def test_layer_ids_of_a_trace_reach_the_placement():
    """A LoadTrace passes its layer ids on."""
    trace = eplb.LoadTrace(loads=[[1, 2], [2, 1]], layer_ids=[3, 7])
    plan = eplb.plan(trace, Topology(num_ranks=2, slots_per_rank=1))
    assert plan.placement.layer_ids.tolist() == [3, 7]


def test_nothing_the_caller_passed_is_modified(loads):
    """Arrays keep their bytes, whether float64 (no copy needed) or not."""
    for given in (loads, loads.astype(np.float32), np.asfortranarray(loads)):
        before = given.copy()
        eplb.plan(given, Topology(num_ranks=8, slots_per_rank=9))
        np.testing.assert_array_equal(given, before)


def test_read_only_and_strided_loads_are_planned_alike(loads):
    """Memory order and flags do not matter."""
    topology = Topology(num_ranks=8, slots_per_rank=9)
    wide = np.zeros((10, 128))
    wide[::2, ::2] = loads
    frozen = loads.copy()
    frozen.setflags(write=False)
    expected = eplb.plan(loads, topology).placement.hash
    for given in (wide[::2, ::2], frozen, np.asfortranarray(loads)):
        assert eplb.plan(given, topology).placement.hash == expected


def test_minus_zero_is_zero():
    """-0.0 is a load of nothing, not a negative one."""
    topology = Topology(num_ranks=2, slots_per_rank=3)
    minus, plus = [[-0.0, 1.0, 2.0, -0.0]], [[0.0, 1.0, 2.0, 0.0]]
    assert eplb.plan(minus, topology).placement.hash == eplb.plan(plus, topology).placement.hash


def test_the_seed_decides_only_disturbances(loads):
    """Same seed, same plan; another seed is as sound."""
    topology = Topology(num_ranks=8, slots_per_rank=9)
    first, second = (eplb.plan(loads, topology, effort="thorough", seed=7) for _ in range(2))
    assert first.placement.hash == second.placement.hash
    assert_sound(eplb.plan(loads, topology, effort="thorough", seed=8), loads, topology)


def test_results_are_read_only(loads):
    """A plan cannot be changed by accident."""
    plan = eplb.plan(loads, Topology(num_ranks=8, slots_per_rank=9))
    for array in (
        plan.placement.physical_to_logical,
        plan.placement.replica_counts,
        plan.placement.logical_to_physical,
        plan.certificate.per_layer.largest_load,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_torch_tensors_are_planned(loads):
    """Loads may be a torch tensor."""
    torch = pytest.importorskip("torch")
    topology = Topology(num_ranks=8, slots_per_rank=9)
    assert eplb.plan(torch.from_numpy(loads), topology).placement.hash == eplb.plan(loads, topology).placement.hash
