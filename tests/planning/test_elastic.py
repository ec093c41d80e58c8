"""Plans for another machine than that of the placement in force: ranks fail, go, come, and change their slots."""

import re

import pytest
from hypothesis import given, settings

import eplb
from eplb import InfeasibleError, Placement, PlacementError, Topology
from tests.planning.draws import replans
from tests.planning.soundness import assert_every_expert_placed, assert_within
from tests.reference import held_by

IDS = [3, 8, 11]


@pytest.fixture
def loads(rng):
    return rng.lognormal(0, 1, (3, 12)) * 100


@pytest.fixture
def topology():
    return Topology(num_ranks=4, slots_per_rank=4)


@pytest.fixture
def previous(loads, topology):
    """Three layers of 12 experts on four ranks with four slots: four redundant experts a layer."""
    trace = eplb.LoadTrace(loads=loads, layer_ids=IDS)
    return eplb.plan(trace, topology).placement


def lost_on(ranks, previous):
    """Return (layer id, expert) of each that stood on `ranks` alone."""
    return [
        [layer_id, expert]
        for layer_id, row in zip(previous.layer_ids.tolist(), previous.physical_to_logical, strict=True)
        for expert in range(previous.num_experts)
        if all(rank in ranks or expert not in mine for rank, mine in enumerate(held_by(row, previous.topology)))
    ]


def assert_one_node_a_group(placement, groups):
    node_of_slot = placement.topology.node_of_rank[placement.topology.rank_of_slot]
    size = placement.num_experts // groups
    for row in placement.physical_to_logical:
        for group in range(groups):
            assert len(set(node_of_slot[(row >= 0) & (row // size == group)].tolist())) == 1


# ---- what is lost and restored


@pytest.mark.parametrize(
    ("machine", "gone"),
    [
        (Topology(num_ranks=4, slots_per_rank=4, failed_ranks=[2]), {2}),
        (Topology(num_ranks=3, slots_per_rank=4), {3}),
        (Topology(num_ranks=4, slots_per_rank=[4, 9, 4, 4], failed_ranks=[0, 2]), {0, 2}),
    ],
    ids=["a rank failed", "a rank was taken away", "two failed and another grew"],
)
def test_what_stood_on_lost_ranks_alone_is_restored(loads, previous, machine, gone):
    """`restored` lists, by layer id, exactly the experts without a replica left; all have one again."""
    plan = eplb.plan(loads, machine, previous=previous)
    assert plan.restored.tolist() == lost_on(gone, previous) != []
    assert_every_expert_placed(plan.placement)
    assert_within(plan, previous)
    assert plan.placement.layer_ids.tolist() == IDS


def test_an_expert_with_a_replica_elsewhere_is_not_lost():
    """Of the experts of a failed rank, the one that another rank holds too needs no restoration."""
    previous = Placement(physical_to_logical=[[0, 1, 1, 2, 3, 0]], topology=Topology(num_ranks=3, slots_per_rank=2))
    machine = Topology(num_ranks=3, slots_per_rank=2, failed_ranks=[2])
    plan = eplb.plan([[4, 3, 2, 1]], machine, previous=previous)
    assert plan.restored.tolist() == [[0, 3]]
    assert plan.placement.replica_counts.tolist() == [[1, 1, 1, 1]]


@settings(deadline=None, max_examples=200)
@given(replan=replans())
def test_restored_is_what_no_rank_holds_any_more(replan):
    """On any two machines: all that no working rank held are in it; if no rank shrank, no others."""
    loads, topology, previous = replan
    old = previous.topology
    stay = [r for r in range(min(topology.num_ranks, old.num_ranks)) if topology.alive[r] and old.alive[r]]
    gone = lost_on(set(range(old.num_ranks)) - set(stay), previous)
    restored = eplb.plan(loads, topology, previous=previous).restored.tolist()
    assert all(lost in restored for lost in gone)
    if all(topology.slot_counts[r] >= old.slot_counts[r] for r in stay):
        assert restored == gone


def test_the_load_before_has_the_restored_experts_in_place(loads, previous):
    """It is what staying would mean on the new machine, where the old placement itself cannot stand."""
    machine = Topology(num_ranks=4, slots_per_rank=4, failed_ranks=[1])
    plan = eplb.plan(loads, machine, previous=previous)
    assert plan.certificate.largest_load <= plan.largest_load_before
    assert plan.largest_load_before > eplb.evaluate(previous, loads).largest_loads.sum()


def test_ranks_that_nobody_knew_get_all_they_hold():
    """A job that restarts on other ranks: all experts are lost, and every one that a rank then holds is a move."""
    old = Topology(num_ranks=4, slots_per_rank=3, failed_ranks=[2, 3])
    new = Topology(num_ranks=4, slots_per_rank=3, failed_ranks=[0, 1])
    previous = eplb.plan([[5, 3, 2, 1]], old).placement
    plan = eplb.plan([[5, 3, 2, 1]], new, previous=previous)
    assert plan.restored[:, 1].tolist() == [0, 1, 2, 3]
    assert_within(plan, previous)
    assert plan.moves == 6


# ---- room


def test_a_new_rank_is_filled_by_moves_that_pay(loads, previous):
    """It takes its share of the load; with few moves, what it cannot fetch it holds twice."""
    machine = Topology(num_ranks=5, slots_per_rank=4)
    free = eplb.plan(loads, machine, previous=previous)
    with pytest.warns(RuntimeWarning, match="hold again what their rank has"):
        few = eplb.plan(loads, machine, previous=previous, max_moves=3)
    for plan in (free, few):
        assert_every_expert_placed(plan.placement)
        assert plan.restored.size == 0
    assert free.certificate.largest_load < 0.9 * eplb.evaluate(previous, loads).largest_loads.sum()
    assert_within(few, previous, max_moves=3)
    assert [len(held_by(row, machine)[4]) for row in few.placement.physical_to_logical] == [1, 1, 1]


def test_more_slots_get_replicas_or_repeat_what_is_there(loads, previous):
    """A slot more on every rank: replicas that spread the load, or, without moves, an expert of the rank again."""
    machine = Topology(num_ranks=4, slots_per_rank=5)
    free = eplb.plan(loads, machine, previous=previous)
    with pytest.warns(RuntimeWarning, match="max_moves or max_moves_per_rank"):
        none = eplb.plan(loads, machine, previous=previous, max_moves=0)
    assert free.moves > 0
    assert free.certificate.largest_load <= none.certificate.largest_load
    assert_within(none, previous, max_moves=0)
    for old, new in zip(previous.physical_to_logical, none.placement.physical_to_logical, strict=True):
        assert held_by(new, machine) == held_by(old, previous.topology)


def test_fewer_slots_give_up_replicas_first(loads, previous):
    """A slot less on every rank leaves room for the 12 experts alone: nobody is restored who had a second replica."""
    machine = Topology(num_ranks=4, slots_per_rank=3)
    plan = eplb.plan(loads, machine, previous=previous)
    assert (plan.placement.replica_counts == 1).all()
    for layer_id, expert in plan.restored.tolist():
        assert previous.replica_counts[IDS.index(layer_id), expert] == 1
    assert_within(plan, previous)


def test_ranks_keep_what_they_can(loads, previous):
    """Where moves are dear, a failure moves what was lost and nothing else."""
    machine = Topology(num_ranks=4, slots_per_rank=4, failed_ranks=[3])
    plan = eplb.plan(loads, machine, previous=previous, move_cost=1e9)
    assert plan.moves == len(plan.restored) > 0
    assert_within(plan, previous)


def test_speeds_may_change(loads, previous, topology):
    """A rank that became slow gives load away; nothing is lost."""
    slow = Topology(num_ranks=4, slots_per_rank=4, rank_speeds=[1, 1, 0.5, 1])
    plan = eplb.plan(loads, slow, previous=previous)
    assert plan.restored.size == 0
    assert plan.certificate.largest_load < 0.8 * plan.largest_load_before


# ---- too little


TWO_LOST = Placement(physical_to_logical=[[0, 1, 2, 3, 4, 5]], topology=Topology(num_ranks=3, slots_per_rank=2))
ONE_FAILED = Topology(num_ranks=3, slots_per_rank=3, failed_ranks=[0])


@pytest.mark.parametrize("limits", [{"max_moves": 1}, {"max_moves_per_rank": 0}], ids=str)
def test_a_budget_too_small_to_restore_is_refused(limits):
    """The message says how many moves that takes, and how many of them to one rank."""
    says = "2 experts lost all their replicas or ranks are new; to place them takes 2 moves (1 to one rank)"
    with pytest.raises(InfeasibleError, match=re.escape(says)):
        eplb.plan([[1] * 6], ONE_FAILED, previous=TWO_LOST, **limits)


@pytest.mark.parametrize("limits", [{"max_moves": 2}, {"max_moves_per_rank": 1}], ids=str)
def test_a_budget_that_just_restores_is_enough(limits):
    """Two moves, one to each rank, bring back what was lost."""
    plan = eplb.plan([[1] * 6], ONE_FAILED, previous=TWO_LOST, **limits)
    assert plan.restored.tolist() == [[0, 0], [0, 1]]
    assert_within(plan, TWO_LOST, **limits)


def test_a_machine_without_room_for_all_experts_is_refused(loads, previous):
    """As without a previous placement."""
    with pytest.raises(InfeasibleError, match="12 experts do not fit 8 usable slots"):
        eplb.plan(loads, Topology(num_ranks=2, slots_per_rank=4), previous=previous)


# ---- groups

NODES = Topology(num_ranks=4, slots_per_rank=4, num_nodes=2)


@pytest.fixture
def grouped(loads):
    """Four groups of three experts on two nodes."""
    return eplb.plan(loads, NODES, groups=4).placement


@pytest.mark.parametrize("limits", [{}, {"max_moves": 6}, {"move_cost": 0.0}, {"max_moves_per_rank": 1}], ids=str)
def test_groups_stay_on_one_node(rng, loads, grouped, limits):
    """However the loads change, from moves that pay or a new plan that takes the place of a layer."""
    for _ in range(10):
        changed = rng.permuted(loads, axis=1)
        plan = eplb.plan(changed, NODES, groups=4, previous=grouped, **limits)
        assert_one_node_a_group(plan.placement, 4)
        assert_within(plan, grouped, **{name: most for name, most in limits.items() if name != "move_cost"})
        assert plan.certificate.largest_load <= plan.largest_load_before * (1 + 1e-9)


@pytest.mark.parametrize(
    "machine",
    [
        Topology(num_ranks=4, slots_per_rank=6, num_nodes=2, failed_ranks=[1]),
        Topology(num_ranks=4, slots_per_rank=[6, 3, 4, 4], num_nodes=2),
        Topology(num_ranks=4, slots_per_rank=7, num_nodes=2, failed_ranks=[2, 3]),
        Topology(num_ranks=5, slots_per_rank=4, num_nodes=[0, 0, 1, 1, 1]),
    ],
    ids=["a rank failed", "slots changed", "a node failed", "a rank more"],
)
def test_groups_stay_on_one_node_of_another_machine(loads, grouped, machine):
    """What is restored stands where the rest of its group does; of a lost node, groups find another one."""
    plan = eplb.plan(loads, machine, groups=4, previous=grouped, max_moves=60)
    assert_one_node_a_group(plan.placement, 4)
    assert_every_expert_placed(plan.placement)
    assert_within(plan, grouped, max_moves=60)


def test_a_previous_placement_that_splits_a_group_is_refused(loads, previous):
    """Moves that pay cannot bring it together; the message says which group, layer and nodes."""
    with pytest.raises(PlacementError, match=r"group \d of layer 0 stands on nodes 0 and 1; plan without previous"):
        eplb.plan(loads, NODES, groups=4, previous=previous)


def test_a_node_without_a_group_is_refused(loads):
    """A node that came new has nothing to put in its slots as long as all groups stay where they are."""
    old = Topology(num_ranks=2, slots_per_rank=8)
    previous = eplb.plan(loads, old, groups=4).placement
    machine = Topology(num_ranks=4, slots_per_rank=8, num_nodes=2)
    for limits in ({}, {"max_moves": 100}):
        with pytest.raises(InfeasibleError, match="a node holds no expert group of layer 0"):
            eplb.plan(loads, machine, groups=4, previous=previous, **limits)


def test_a_node_without_room_for_what_it_lost_is_refused(loads):
    """Each node has just the slots of its groups: a failed rank leaves two of its experts without any."""
    full = Topology(num_ranks=4, slots_per_rank=3, num_nodes=2)
    previous = eplb.plan(loads, full, groups=4).placement
    machine = Topology(num_ranks=4, slots_per_rank=[5, 5, 5, 6], num_nodes=2, failed_ranks=[0])
    with pytest.raises(InfeasibleError, match="its group's node has no slot to spare; plan with groups=1"):
        eplb.plan(loads, machine, groups=4, previous=previous)
