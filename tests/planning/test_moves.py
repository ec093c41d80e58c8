"""Plans that start from a placement in force: limits hold, nothing gets worse, and only moves that pay are made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eplb
from eplb import InfeasibleError, Placement, Topology
from eplb.kernels.windows.layers import improve_layers
from tests.planning.draws import LIMITS, replans
from tests.planning.soundness import (
    assert_certified,
    assert_every_expert_placed,
    assert_within,
    expected_loads,
    outlook_for,
)
from tests.reference import after, expected_time, held_by, received

TOPOLOGY = Topology(num_ranks=4, slots_per_rank=5)


@pytest.fixture
def loads(rng):
    return rng.lognormal(0, 1, (4, 16)) * 1000


@pytest.fixture
def previous(loads):
    return eplb.plan(loads, TOPOLOGY, effort="thorough").placement


def shuffled(placement, rng):
    """Return the placement with its ranks in another order, layer by layer."""
    size, num_ranks = TOPOLOGY.slots_per_rank, TOPOLOGY.num_ranks
    rows = [row.reshape(num_ranks, size)[rng.permutation(num_ranks)] for row in placement.physical_to_logical]
    return Placement(physical_to_logical=np.reshape(rows, (len(rows), -1)), topology=TOPOLOGY)


# ---- whatever comes


@pytest.mark.filterwarnings("ignore:eplb. max_moves or max_moves_per_rank are too few:RuntimeWarning")
@settings(deadline=None, max_examples=250)
@given(replan=replans(), limits=LIMITS)
def test_limits_hold_on_any_machine(replan, limits):
    """Moves stay within both limits and are counted right, all experts are placed; or the new machine needs more."""
    loads, topology, previous = replan
    limited = (limits["max_moves"], limits["max_moves_per_rank"])
    try:
        plan = eplb.plan(loads, topology, previous=previous, **limits)
    except InfeasibleError:
        assert previous.topology != topology
        assert limited != (None, None)
        return
    assert_within(plan, previous, *limited)
    assert_every_expert_placed(plan.placement)
    assert_certified(plan, outlook_for(loads))


@settings(deadline=None, max_examples=250)
@given(replan=replans(same_machine=True), limits=LIMITS)
def test_the_expected_load_never_rises(replan, limits):
    """On the same machine, a plan is at least as good as the placement that it starts from, whose load it tells."""
    loads, topology, previous = replan
    plan = eplb.plan(loads, topology, previous=previous, **limits)
    assert plan.certificate.largest_load <= plan.largest_load_before * (1 + 1e-9)
    before = expected_loads(previous, outlook_for(loads)).sum()
    assert plan.largest_load_before == pytest.approx(before, rel=1e-9)
    assert plan.restored.shape == (0, 2)


@pytest.mark.parametrize("split", ["even", "weighted"])
@settings(deadline=None, max_examples=100)
@given(replan=replans(same_machine=True), limit=st.sampled_from(["max_moves", "max_moves_per_rank"]))
def test_no_moves_keep_the_placement_bit_for_bit(split, replan, limit):
    """With a limit of 0, every slot holds what it held, twice on a rank or not."""
    loads, topology, previous = replan
    plan = eplb.plan(loads, topology, previous=previous, split=split, effort="thorough", move_cost=0.0, **{limit: 0})
    assert plan.placement == previous
    assert plan.moves == 0


@pytest.mark.parametrize("split", ["even", "weighted"])
@settings(deadline=None, max_examples=100)
@given(replan=replans(same_machine=True), limits=LIMITS)
def test_experts_that_stay_on_a_rank_stay_in_their_slot(split, replan, limits):
    """Of the slots that held an expert, one still does if its rank does."""
    loads, topology, previous = replan
    now = eplb.plan(loads, topology, previous=previous, split=split, **limits).placement.physical_to_logical
    for old, new in zip(previous.physical_to_logical, now, strict=True):
        stay = [mine & then for mine, then in zip(held_by(new, topology), held_by(old, topology), strict=True)]
        unmoved = held_by(np.where(old == new, new, -1), topology)
        assert stay == unmoved


# ---- moves that pay


def test_a_move_is_made_if_it_saves_more_than_it_costs():
    """Swapping experts 1 and 2 takes two moves and saves 4 tokens a window: 2 for each move."""
    topology = Topology(num_ranks=2, slots_per_rank=2)
    previous = Placement(physical_to_logical=[[0, 1, 2, 3]], topology=topology)
    moves = [
        eplb.plan([[9, 5, 1, 1]], topology, previous=previous, move_cost=cost, horizon=horizon).moves
        for cost, horizon in ((1.9, 1), (2.1, 1), (19, 10), (21, 10))
    ]
    assert moves == [2, 0, 2, 0]


def charged(slots, layer, outlook, previous, cost):
    """Return the expected largest load of one layer, and what the moves to it cost."""
    time = expected_time(slots, outlook.scenarios[layer], outlook.weights, TOPOLOGY)
    moves = received(slots, TOPOLOGY, held_by(previous.physical_to_logical[layer], TOPOLOGY))
    return outlook.unscaled(np.full(len(outlook.means), time))[layer] + cost * sum(moves)


@pytest.mark.parametrize("cost", [0.0, 2.0, 20.0])
def test_no_swap_is_left_that_would_pay(rng, loads, previous, cost):
    """After a plan with a price for moves, no swap of two slots saves more than its moves cost."""
    windows = loads * rng.lognormal(0, 0.3, (3, *loads.shape))
    plan = eplb.plan(windows, TOPOLOGY, previous=previous, effort="thorough", move_cost=cost)
    outlook, rank_of = outlook_for(windows), TOPOLOGY.rank_of_slot
    for layer, row in enumerate(plan.placement.physical_to_logical):
        held, now = held_by(row, TOPOLOGY), charged(row, layer, outlook, previous, cost)
        for one, two in zip(*np.triu_indices(row.size, 1), strict=True):
            if row[one] not in held[rank_of[two]] and row[two] not in held[rank_of[one]]:
                assert charged(after(row, [(one, two)]), layer, outlook, previous, cost) >= now * (1 - 1e-9)


def test_moves_go_first_to_the_layer_that_gains_most():
    """Two layers gain by the same swap, one ten times as much: it gets the two moves."""
    topology = Topology(num_ranks=2, slots_per_rank=2)
    previous = Placement(physical_to_logical=[[0, 1, 2, 3]] * 2, topology=topology)
    plan = eplb.plan([[9, 5, 1, 1], [90, 50, 10, 10]], topology, previous=previous, max_moves=2)
    assert previous.moves_to(plan.placement)[:, 0].tolist() == [1, 1]


def test_more_moves_are_never_worse(rng, loads, previous):
    """The expected load falls with the limit, to that of a plan without."""
    changed = loads * rng.lognormal(0, 0.5, (5, *loads.shape))
    largest = [
        eplb.plan(changed, TOPOLOGY, previous=previous, max_moves=most, move_cost=0).certificate.largest_load
        for most in (0, 2, 4, 8, 16, 1000)
    ]
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] < 0.95 * largest[0]


def test_a_limit_a_rank_spreads_what_ranks_receive(rng, loads, previous):
    """Without it, some rank receives more; with it, as many moves still bring the load down."""
    changed = loads * rng.lognormal(0, 0.5, loads.shape)
    free = eplb.plan(changed, TOPOLOGY, previous=previous, max_moves=20, move_cost=0)
    bound = eplb.plan(changed, TOPOLOGY, previous=previous, max_moves=20, max_moves_per_rank=2, move_cost=0)
    busiest = [np.bincount(previous.moves_to(plan.placement)[:, 1]).max() for plan in (free, bound)]
    assert busiest[0] > busiest[1] == 2
    assert bound.certificate.largest_load < 0.98 * bound.largest_load_before


# ---- noise


LOADS = {
    "lognormal": lambda rng, experts: rng.lognormal(0, 1, (4, experts)),
    "zipf": lambda rng, experts: rng.permuted(np.tile(1 / np.arange(1, experts + 1), (4, 1)), axis=1),
    "dirichlet": lambda rng, experts: rng.dirichlet(np.full(experts, 0.5), 4),
}
SHAPES = {
    "small": (TOPOLOGY, 16),
    "uneven": (Topology(num_ranks=4, slots_per_rank=[7, 5, 5, 6], rank_speeds=[2, 1, 1, 1]), 16),
    "large": (Topology(num_ranks=8, slots_per_rank=9), 64),
}


@pytest.mark.parametrize("num_windows", [1, 8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", LOADS)
def test_noise_of_one_percent_moves_nothing(rng, kind, shape, num_windows):
    """One window, or eight, that differ from the planned loads by 1% at random: the placement stays as it is."""
    topology, num_experts = SHAPES[shape]
    for _ in range(3):
        planned = 1000 * LOADS[kind](rng, num_experts)
        previous = eplb.plan(planned, topology, effort="thorough").placement
        noisy = planned * rng.lognormal(0, 0.01, (num_windows, *planned.shape))
        assert eplb.plan(noisy, topology, previous=previous).placement == previous


def test_noise_moves_nothing_where_another_layer_changes(rng, loads, previous):
    """A layer whose loads are turned round is planned anew; the others, with 1% of noise, stay as they are."""
    for _ in range(20):
        noisy = loads * rng.lognormal(0, 0.01, loads.shape)
        noisy[3] = loads[3, ::-1]
        moves = previous.moves_to(eplb.plan(noisy, TOPOLOGY, previous=previous).placement)
        assert set(moves[:, 0].tolist()) == {3}


# ---- renaming


def test_a_plan_whose_ranks_are_in_another_order_needs_no_moves(rng, loads, previous):
    """What is in force is as good as a new plan, so it stays."""
    shuffle = shuffled(previous, rng)
    assert len(shuffle.moves_to(previous)) > 30
    assert eplb.plan(loads, TOPOLOGY, previous=shuffle, effort="thorough", move_cost=0).moves == 0


def test_a_new_plan_is_renamed_to_keep_what_is_there(rng, loads, previous):
    """Some slots of the best plan, its ranks in another order, were overwritten: few moves make it good again."""
    slots = shuffled(previous, rng).physical_to_logical.copy()
    for row in slots:
        spare = next(slot for slot in range(slots.shape[1]) if np.sum(row == row[slot]) > 1)
        row[spare] = row[(spare + 5) % slots.shape[1]]
    worn = Placement(physical_to_logical=slots, topology=TOPOLOGY, num_experts=16)
    plan = eplb.plan(loads, TOPOLOGY, previous=worn, effort="thorough", move_cost=0.01)
    best = eplb.plan(loads, TOPOLOGY, effort="thorough").certificate
    assert plan.certificate.largest_load <= best.largest_load * 1.001
    assert plan.moves <= 4 * 6 < len(worn.moves_to(previous))


def test_without_a_limit_a_plan_is_as_good_as_a_new_one(rng, loads, previous):
    """Free moves: never clearly worse than planning from scratch, with fewer moves than the new plan as it is."""
    changed = loads[:, ::-1] * rng.lognormal(0, 0.2, loads.shape)
    plan = eplb.plan(changed, TOPOLOGY, previous=previous, move_cost=0)
    fresh = eplb.plan(changed, TOPOLOGY)
    assert plan.certificate.largest_load <= fresh.certificate.largest_load * (1 + 1e-9)
    assert plan.moves < len(previous.moves_to(fresh.placement))


# ---- ends of the range


@pytest.mark.parametrize("options", [{"horizon": 1e-320}, {"move_cost": 1e308, "horizon": 1e-5}, {"move_cost": 1e308}])
@pytest.mark.parametrize("scale", [1.0, 2.0**-1060])
def test_moves_beyond_price_are_not_made(loads, previous, options, scale):
    """A price out of the range of float64 is a price that no move can pay."""
    assert eplb.plan(loads[:, ::-1] * scale, TOPOLOGY, previous=previous, **options).moves == 0


@pytest.mark.parametrize("horizon", [0.5, 7, 1e19, 1e300])
def test_any_horizon_is_planned_for(rng, loads, previous, horizon):
    """Far beyond the recorded windows, too."""
    windows = loads * rng.lognormal(0, 0.2, (3, *loads.shape))
    plan = eplb.plan(windows, TOPOLOGY, previous=previous, horizon=horizon)
    assert_certified(plan, outlook_for(windows, horizon=min(horizon, 3)))


def test_loads_near_the_end_of_float64_are_compared_with_others():
    """A layer of 1e308 tokens and one of 1 share a budget; so do layers without any."""
    topology = Topology(num_ranks=2, slots_per_rank=2)
    previous = Placement(physical_to_logical=[[0, 1, 2, 3]] * 3, topology=topology)
    loads = np.array([[9.0, 5, 1, 1], [0, 0, 0, 0], [9, 5, 1, 1]]) * [[1.0], [1.0], [1e307]]
    plan = eplb.plan(loads, topology, previous=previous, max_moves=2)
    assert previous.moves_to(plan.placement)[:, 0].tolist() == [2, 2]


def test_any_number_type_sets_the_options(loads, previous):
    """Numpy's integers and floats, and a limit beyond int64, are those of Python: nothing is compiled anew for them."""
    changed, most = loads[:, ::-1], 2**70
    plain = eplb.plan(changed, TOPOLOGY, previous=previous, max_moves=9, move_cost=0.5, horizon=3)
    numbers = {"max_moves": np.int16(9), "move_cost": np.float32(0.5), "horizon": np.int8(3)}
    again = eplb.plan(changed, TOPOLOGY, previous=previous, max_moves_per_rank=most, **numbers)
    assert again.placement == plain.placement
    assert len(improve_layers.signatures) == 1
