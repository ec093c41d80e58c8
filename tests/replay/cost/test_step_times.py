"""A replay watched: seconds of steps, stalls, bytes."""

import dataclasses
from importlib.resources import files

import numpy as np
import pytest

import eplb
from eplb.errors import OptionError
from eplb.replay import policy_named, replay
from eplb.replay.cost import CostModel, StepTimes
from eplb.replay.cost.step_times import expected_activated
from eplb.replay.policies import placed_in_order
from tests.replay.cost.examples import HARDWARE, MODEL
from tests.replay.doubles import Reversing

TOPOLOGY = eplb.Topology(num_ranks=2, slots_per_rank=2)
COST = CostModel(hardware=HARDWARE, model=MODEL)


@pytest.fixture
def trace():
    """Six windows of one layer, expert 0 far ahead."""
    return eplb.LoadTrace(loads=[[[9000, 8000, 10, 10]]] * 6)


def watched(trace, policy, cost=COST, **options):
    """Return what a replay takes."""
    times = StepTimes(cost)
    replay(trace, TOPOLOGY, policy, first=2, watch=times, **options)
    return times.result()


def test_windows_take_what_their_layers_take(trace):
    """One layer stands for both layers of the model."""
    found = watched(trace, policy_named("contiguous"))
    expected = 2 * COST.layer_seconds([17000, 20], [2, 2])
    np.testing.assert_allclose(found.step_seconds, [expected] * 4)
    assert found.stall_seconds.tolist() == found.moved_bytes.tolist() == [0.0] * 4


def test_better_placements_are_faster(trace):
    """Both heavy experts on one rank take longer than one on each."""
    assert (
        watched(trace, policy_named("static")).seconds_per_step
        < watched(trace, policy_named("contiguous")).seconds_per_step
    )


def test_a_window_of_many_steps_takes_as_long_as_its_mean_step(trace):
    """Four steps a window have a quarter of its tokens each; batches can be scaled."""
    four = watched(trace, policy_named("contiguous"), dataclasses.replace(COST, steps_per_window=4))
    quarter = watched(trace, policy_named("contiguous"), dataclasses.replace(COST, batch_scale=0.25))
    assert four.step_seconds.tolist() == quarter.step_seconds.tolist()
    expected = 2 * COST.layer_seconds([17000 / 4, 20 / 4], [2, 2 * (1 - np.exp(-2.5))])
    np.testing.assert_allclose(four.step_seconds, [expected] * 4)


def test_moves_stall_and_have_bytes(trace):
    """The first plan is free; each later one moves two experts to each rank, in each of the model's two layers."""
    found = watched(trace, Reversing())
    assert found.moved_bytes.tolist() == [0.0, *[2 * 4 * MODEL.bytes_per_expert] * 3]
    np.testing.assert_allclose(found.stall_seconds[1:], COST.migration_seconds(4))
    slower = watched(trace, Reversing(), dataclasses.replace(COST, planner_seconds=1.0, steps_per_window=2))
    np.testing.assert_allclose(slower.stall_seconds[1:], (COST.migration_seconds(4) + 1.0) / 2)


def test_what_is_beside_the_experts_is_added(trace):
    """Once a step."""
    more = watched(trace, policy_named("contiguous"), dataclasses.replace(COST, other_seconds_per_step=1.0))
    np.testing.assert_allclose(more.seconds - watched(trace, policy_named("contiguous")).seconds, 1.0)


def test_totals_have_units_in_their_names(trace):
    """As a table of trials wants them."""
    times = COST.meter(TOPOLOGY)
    replay(trace, TOPOLOGY, Reversing(), first=2, watch=times)
    found = times.result()
    assert times.totals() == {
        "step_us": found.seconds_per_step * 1e6,
        "stall_us_per_step": found.stall_seconds.mean() * 1e6,
        "moved_bytes_per_window": found.moved_bytes.mean(),
    }


def test_expected_activation_is_close_to_what_random_steps_activate(rng):
    """Replicas take as many tokens each; idle slots are few where tokens are many."""
    topology = eplb.Topology(num_ranks=2, slots_per_rank=3)
    placement = eplb.Placement(physical_to_logical=[[0, 1, 2, 0, 3, 4]], topology=topology)
    mean = np.array([4.0, 0.1, 1.0, 0.0, 0.5])
    drawn = rng.poisson(mean[placement.physical_to_logical[0]] / [2, 1, 1, 2, 1, 1], (20_000, 6)) > 0
    found = expected_activated(placement, mean[None, None])[0, 0]
    np.testing.assert_allclose(found, drawn.reshape(-1, 2, 3).sum(axis=2).mean(axis=0), atol=0.02)


def test_a_trace_with_more_layers_than_the_model_is_refused():
    """It is of another model."""
    trace = eplb.LoadTrace(loads=np.ones((6, 3, 4)))
    with pytest.raises(OptionError, match="small has 2 MoE layers, the trace 3"):
        watched(trace, policy_named("contiguous"))


def test_nothing_watched_is_an_error():
    """With a word on what to do."""
    with pytest.raises(OptionError, match="pass this as the watch of a replay"):
        StepTimes(COST).result()


def test_expected_activation_is_close_to_that_of_recorded_steps():
    """Of a real model's decode steps: a few percent too low on average, as tokens of a request stay together."""
    file = files("eplb") / "data" / "tiny_moe_tokens.npz"
    steps = eplb.TokenStream.load(file).decode_steps(32, order="random")
    windows = steps.windows(32)
    steps = steps.part(0, windows.num_windows * 32)
    topology = eplb.Topology(num_ranks=8, slots_per_rank=4)
    placement = placed_in_order(topology, windows.num_layers, windows.num_experts)
    found = expected_activated(placement, windows.loads / 32).mean()
    assert found == pytest.approx(eplb.evaluate(placement, steps).activated_experts.mean(), rel=0.03)
