"""What vLLM gets for a policy: sound placements, equal on all ranks, whatever comes in."""

import logging
import threading

import pytest
import torch

from eplb import Placement, Topology
from tests.engines.vllm_double import (
    EXPERTS,
    LAYERS,
    PER_RANK,
    ask,
    assert_placed,
    first_slots,
    joined,
    loads,
    planner,
)


def run(policies, num_ranks, slots, seeds):
    """Rebalance with each of `seeds` on all ranks, which have to agree; return the last placement."""
    for seed in seeds:
        plans = [ask(policy, loads(seed), slots, num_ranks) for policy in policies]
        assert all(torch.equal(plan, plans[0]) for plan in plans)
        slots = plans[0]
    return slots


def largest(slots, weight):
    """Return the sum over layers of the largest rank load."""
    topology = Topology(num_ranks=slots.shape[1] // PER_RANK, slots_per_rank=PER_RANK)
    placement = Placement(physical_to_logical=slots.numpy(), topology=topology, num_experts=EXPERTS)
    shares = weight.numpy() / placement.replica_counts
    taken = [[shares[layer, e] for e in row] for layer, row in enumerate(slots.tolist())]
    return sum(max(sum(row[i : i + PER_RANK]) for i in range(0, len(row), PER_RANK)) for row in taken)


def test_a_plan_is_sound_and_lowers_the_largest_load():
    """The first rearrangement gains."""
    slots = ask(planner(), loads(0), first_slots(4), 4)
    assert_placed(slots, 4)
    assert largest(slots, loads(0)) < largest(first_slots(4), loads(0))


def test_the_same_loads_again_move_nothing():
    """Plans are made from the placement in force."""
    policy = planner()
    slots = ask(policy, loads(0), first_slots(4), 4)
    assert torch.equal(ask(policy, loads(0), slots, 4), slots)


def test_without_a_placement_in_force_one_is_made():
    """The last argument may be left out."""
    assert_placed(planner().rebalance_experts(loads(0), 12, 1, 1, 4), 4)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.bfloat16])
def test_loads_of_any_kind(dtype):
    """Counts and floats are planned for."""
    assert_placed(ask(planner(), loads(0).to(dtype), first_slots(4).to(torch.int32), 4), 4)


def test_ranks_agree_over_many_windows():
    """Each has its own history, of the same windows."""
    run([planner(), planner(), planner()], 4, first_slots(4), range(8))


def test_windows_are_remembered():
    """A plan depends on the windows before the newest."""
    policy, slots = planner(), first_slots(4)
    for seed in range(6):
        before, slots = slots, ask(policy, loads(seed), slots, 4)
    assert not torch.equal(slots, ask(planner(), loads(5), before, 4))


def test_a_history_of_one_remembers_nothing():
    """EPLB_HISTORY=1 plans for the newest window alone."""
    policy, slots = planner(history=1), first_slots(4)
    for seed in range(4):
        before, slots = slots, ask(policy, loads(seed), slots, 4)
    assert torch.equal(slots, ask(planner(history=1), loads(3), before, 4))


def test_a_rank_that_joins_plans_as_the_others():
    """Those that were there forget their windows with the ranks; zeros of the newcomer's start leave no trace."""
    old = [planner() for _ in range(4)]
    slots = run(old, 4, first_slots(4), range(5))
    new = planner()
    ask(new, torch.zeros(LAYERS, EXPERTS), first_slots(5), 5)
    assert_placed(run([*old, new], 5, joined(slots, 5), range(5, 10)), 5)


def test_a_rank_that_takes_the_place_of_another_plans_as_the_others():
    """The number of ranks is as before; that its slots hold nothing is seen by all."""
    ranks = [planner() for _ in range(4)]
    slots = run(ranks, 4, first_slots(4), range(5))
    slots[:, 3 * PER_RANK :] = -1
    assert_placed(run([*ranks[:3], planner()], 4, slots, range(5, 10)), 4)


def test_ranks_that_leave():
    """All are asked for a plan of those that stay, and get the placement of all."""
    ranks = [planner() for _ in range(5)]
    slots = run(ranks, 5, first_slots(5), range(3))
    slots = run(ranks, 4, slots, [3])
    assert_placed(run([*ranks[:4], planner()], 4, slots, [3]), 4)


def test_another_model_starts_anew():
    """A placement that nobody planned breaks the chain: of the same shape, it is another model's."""
    policy = planner()
    run([policy], 4, first_slots(4), range(5))
    other = first_slots(4).flip(1)
    assert torch.equal(ask(policy, loads(6), other, 4), ask(planner(), loads(6), other, 4))


def test_two_models_by_turns_do_not_disturb_each_other():
    """A drafter of other layers has a history of its own."""
    both, alone, slots, drafter = planner(), planner(), first_slots(4), first_slots(4)[:1]
    for seed in range(5):
        drafter = ask(both, loads(seed)[:1], drafter, 4)
        planned = [ask(policy, loads(seed), slots, 4) for policy in (both, alone)]
        assert torch.equal(*planned)
        slots = planned[0]


def test_layers_that_vllm_left_as_they_were_keep_the_chain():
    """The history goes on when only some layers, or none, were moved."""
    policy, slots = planner(), first_slots(4)
    for seed in range(4):
        planned = ask(policy, loads(seed), slots, 4)
        slots = torch.cat([planned[:1], slots[1:]])
    assert not torch.equal(ask(policy, loads(4), slots, 4), ask(planner(), loads(4), slots, 4))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_odd_loads_keep_the_placement_and_are_said_once(value, caplog):
    """Serving goes on; the log names the entry."""
    policy, slots = planner(), ask(planner(), loads(0), first_slots(4), 4)
    odd = loads(1).double()
    odd[1, 3] = value
    assert torch.equal(ask(policy, odd, slots, 4), slots)
    assert torch.equal(ask(policy, odd, slots, 4), slots)
    (said,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "stays as it is" in said.getMessage() and "[0, 1, 3]" in said.getMessage()


def test_odd_loads_leave_no_trace():
    """The next plan is as if they had not come."""
    odd, plain, slots = planner(), planner(), first_slots(4)
    for seed in range(4):
        ask(odd, loads(seed) * float("nan"), slots, 4)
        planned = [ask(policy, loads(seed), slots, 4) for policy in (odd, plain)]
        assert torch.equal(*planned)
        slots = planned[0]


def test_no_loads_keep_the_placement():
    """So vLLM's run before it serves moves nothing."""
    assert torch.equal(ask(planner(), torch.zeros(LAYERS, EXPERTS), first_slots(4), 4), first_slots(4))


def test_a_layer_without_loads_stays():
    """The others are planned."""
    weight = loads(0)
    weight[0] = 0
    slots = ask(planner(), weight, first_slots(4), 4)
    assert torch.equal(slots[0], first_slots(4)[0]) and not torch.equal(slots[1], first_slots(4)[1])


def test_no_loads_when_ranks_join_give_a_sound_placement():
    """What is held cannot stay, as slots hold nothing; it stays where it can be read from."""
    assert_placed(ask(planner(), torch.zeros(LAYERS, EXPERTS), joined(first_slots(4), 5), 5), 5)


def test_a_placement_that_lost_an_expert_gives_a_sound_one():
    """What cannot be started from is planned anew."""
    assert_placed(ask(planner(), loads(0), torch.zeros(LAYERS, 12, dtype=torch.long), 4), 4)


def test_moves_are_limited():
    """A share of the slots of all layers."""
    slots = ask(planner(max_moves_share=0.1), loads(0), first_slots(4), 4)
    assert 0 < int((slots != first_slots(4)).sum()) <= int(0.1 * slots.numel())


def test_limits_do_not_keep_a_rank_that_joins_empty():
    """Its slots are filled at once."""
    assert_placed(ask(planner(max_moves_share=0.05), loads(0), joined(first_slots(4), 5), 5), 5)


def test_groups_come_to_stand_on_one_node_each():
    """The first placement scatters them; from the first plan on they stay together."""
    policy, slots = planner(), first_slots(4)
    for seed in range(3):
        slots = ask(policy, loads(seed), slots, 4, groups=4, nodes=2)
        for row in slots.tolist():
            assert {e // 2 for e in row[:6]}.isdisjoint({e // 2 for e in row[6:]})


def test_groups_that_nodes_do_not_divide_are_ignored():
    """As vLLM's own policy does."""
    plain, grouped = (ask(planner(), loads(0), first_slots(4), 4, groups=g, nodes=2) for g in (1, 4))
    assert not torch.equal(plain, grouped)
    assert torch.equal(plain, ask(planner(), loads(0), first_slots(4), 4, groups=1, nodes=2))


def test_threads_take_turns():
    """The engine asks on a thread of its own."""
    policy, plans = planner(history=1), []
    work = [threading.Thread(target=lambda: plans.append(ask(policy, loads(0), first_slots(4), 4))) for _ in range(4)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(plans) == 4 and all(torch.equal(plan, plans[0]) for plan in plans)
