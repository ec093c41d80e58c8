"""Plans for recorded routing of real models, where their traces lie beside the checkout."""

from pathlib import Path

import pytest

import eplb
from eplb import LoadTrace, Topology
from eplb.replay import EplbPolicy, replay
from tests.planning.soundness import assert_sound

TRACES = Path(__file__).parents[2] / "shared" / "traces"
# file, ranks, slots a rank, largest gap of effort="balanced"
CASES = [
    ("gptoss20b_decode_steady_dev.npz", 8, 5, 2e-3),
    ("gptoss20b_decode_shift_dev.npz", 8, 5, 2e-3),
    ("olmoe.npz", 8, 9, 3e-4),
    ("olmoe_finetunes_tulu.npz", 8, 9, 3e-4),
    ("mixtral_olmoe.npz", 4, 3, 0.1),
]


@pytest.mark.parametrize(("name", "num_ranks", "slots_per_rank", "gap"), CASES)
def test_recorded_loads_are_planned_close_to_the_bound(name, num_ranks, slots_per_rank, gap):
    """The plan of the mean window is sound, and as close to its bound as the slots allow."""
    if not (TRACES / name).exists():
        pytest.skip(f"no recorded trace {name} beside the checkout")
    mean = LoadTrace.load(TRACES / name).loads.mean(axis=0)
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank)
    plan = eplb.plan(mean, topology)
    assert_sound(plan, mean, topology)
    assert plan.certificate.gap <= gap


# trace, windows between plans, share of the slots that may move, least mean balancedness, price of a move
GOALS = [
    ("steady", 1, 0.10, 0.920, None),
    ("shift", 1, 0.10, 0.905, None),
    ("steady", 1, 0.05, 0.915, None),
    ("shift", 1, 0.05, 0.885, None),
    ("steady", 1, 1.0, 0.925, 0.0),
    ("shift", 1, 1.0, 0.920, 0.0),
    ("steady", 4, 1.0, 0.912, 0.0),
    ("shift", 4, 1.0, 0.888, 0.0),
]


@pytest.mark.parametrize(("name", "interval", "share", "goal", "move_cost"), GOALS)
def test_windows_not_seen_are_balanced(name, interval, share, goal, move_cost):
    """Replayed on a real model, the planner reaches on later windows what it promises, within its budget."""
    file = TRACES / f"gptoss20b_decode_{name}_dev.npz"
    if not file.exists():
        pytest.skip(f"no recorded trace {file.name} beside the checkout")
    policy = EplbPolicy(move_cost=move_cost)
    topology = Topology(num_ranks=8, slots_per_rank=5)
    found = replay(LoadTrace.load(file), topology, policy, interval=interval, max_moves_share=share)
    assert found.mean_balancedness >= goal
    assert found.num_over_budget == 0


def recorded(name):
    """Return the decode trace of that name, or skip the test."""
    file = TRACES / f"gptoss20b_decode_{name}_dev.npz"
    if not file.exists():
        pytest.skip(f"no recorded trace {file.name} beside the checkout")
    return LoadTrace.load(file)


def weighed(trace, topology, interval):
    """Replay plans for the weighted split, of which each moves a tenth of the slots at most."""
    options = {"interval": interval, "max_moves_share": 0.1, "split": "weighted"}
    return replay(trace, topology, EplbPolicy(split="weighted"), **options)


# trace, ranks, slots a rank, least mean balancedness, most moves a plan as a share of the slots
WEIGHTED_GOALS = [
    ("steady", 8, 5, 0.998, 0.01),
    ("shift", 8, 5, 0.988, 0.03),
]


@pytest.mark.parametrize(("name", "num_ranks", "slots_per_rank", "goal", "moved"), WEIGHTED_GOALS)
def test_windows_not_seen_are_balanced_by_weights_with_few_moves(name, num_ranks, slots_per_rank, goal, moved):
    """Planned for the weighted split and split exactly, later windows are all but even, and hardly anything moves."""
    topology = Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank)
    found = weighed(recorded(name), topology, interval=1)
    assert found.mean_balancedness >= goal
    assert found.moved_share <= moved
    assert found.num_over_budget == 0


@pytest.mark.parametrize(
    ("name", "num_ranks", "slots_per_rank", "interval"),
    [
        ("steady", 16, 3, 8),
        ("shift", 16, 3, 8),
        ("steady", 32, 2, 8),
        pytest.param("steady", 16, 3, 1, marks=pytest.mark.slow),
        pytest.param("shift", 16, 3, 1, marks=pytest.mark.slow),
        pytest.param("steady", 32, 2, 1, marks=pytest.mark.slow),
        pytest.param("shift", 32, 2, 1, marks=pytest.mark.slow),
    ],
)
def test_weights_leave_half_the_imbalance_at_most(name, num_ranks, slots_per_rank, interval):
    """Of what plans for even shares leave at the same budget, on machines with few slots a rank."""
    trace, topology = recorded(name), Topology(num_ranks=num_ranks, slots_per_rank=slots_per_rank)
    even = replay(trace, topology, EplbPolicy(), interval=interval, max_moves_share=0.1)
    found = weighed(trace, topology, interval)
    assert 1 - found.mean_balancedness <= 0.5 * (1 - even.mean_balancedness)
    assert found.num_over_budget == 0


def test_what_is_balanced_already_stays():
    """On Mixtral's domains there is little to gain, and nothing moves."""
    file = TRACES / "mixtral_olmoe.npz"
    if not file.exists():
        pytest.skip(f"no recorded trace {file.name} beside the checkout")
    topology = Topology(num_ranks=4, slots_per_rank=2)
    found = replay(LoadTrace.load(file), topology, EplbPolicy(), first=2, max_moves_share=1)
    assert found.moves.tolist() == [0, 0]


def test_token_ids_are_no_loads():
    """The raw token stream is refused with a word on what it is."""
    if not (TRACES / "gptoss20b_tokens_dev.npz").exists():
        pytest.skip("no recorded token stream beside the checkout")
    with pytest.raises(eplb.FileFormatError, match="loads"):
        LoadTrace.load(TRACES / "gptoss20b_tokens_dev.npz")
