"""Seconds of layers, exchanges and migrations."""

import dataclasses
import pickle

import numpy as np
import pytest

import eplb
from eplb.errors import LoadsError, OptionError
from eplb.replay.cost import CostModel, Rates, hardware_named, model_named, rates_of, rows_of_slots
from eplb.replay.cost.communication import exchange_seconds
from tests.replay.cost.examples import HARDWARE, MODEL

COST = CostModel(hardware=HARDWARE, model=MODEL)
TWO_NODES = eplb.Topology(num_ranks=4, slots_per_rank=1, num_nodes=2)


def test_a_rank_waits_for_weights_or_for_products():
    """6,000 bytes an expert at 1 GB/s; 6,000 operations a token at 1 TFLOP/s: they meet at 1,000 tokens an expert."""
    rates = rates_of(HARDWARE, MODEL)
    np.testing.assert_allclose(rates.seconds([1, 999, 2000, 4000], [1, 1, 2, 2]), [6e-6, 6e-6, 12e-6, 24e-6])


def test_what_is_not_hidden_is_added():
    """With no overlap, weights and products take turns."""
    rates = Rates(seconds_per_token=1.0, seconds_per_activated_expert=10.0, overlap=0.0)
    assert rates.seconds([5], [2]).tolist() == [25.0]


def test_tokens_are_rounded_up_to_tiles():
    """Counted where slots are known, estimated else: half a tile more an expert, less half a token."""
    rates = Rates(seconds_per_token=1.0, seconds_per_activated_expert=0.0, tile_tokens=64)
    rows = rows_of_slots([[1, 0, 64, 65]], np.array([0, 2, 4]), 64)
    assert rates.seconds([[1, 129]], [[1, 2]], rows).tolist() == [[64.0, 192.0]]
    assert rates.seconds([[1, 129]], [[1, 2]]).tolist() == [[32.5, 192.0]]


def test_the_estimate_of_tiles_is_right_on_average(rng):
    """Where slots get many tokens, half a tile is what chance fills."""
    tokens = rng.integers(1, 6400, 20_000)
    rows = rows_of_slots(tokens, np.array([0, tokens.size]), 64)[0]
    assert rows == pytest.approx(tokens.sum() + tokens.size * 63 / 2, rel=1e-3)


def test_the_slowest_rank_sets_the_time_of_a_layer():
    """Moving load from the busiest rank to another makes the layer faster."""
    uneven, even = COST.layer_seconds([[9000, 1000], [5000, 5000]], [[2, 2], [2, 2]])
    assert uneven > even


def test_activated_experts_set_the_floor():
    """With few tokens, only the number of experts that are read counts."""
    few, same, more = COST.layer_seconds([[4, 0], [2, 2], [4, 0]], [[2, 0], [2, 2], [4, 0]])
    exchange = [exchange_seconds(tokens, HARDWARE, MODEL).max() for tokens in ([4, 0], [2, 2])]
    assert few - exchange[0] == pytest.approx(same - exchange[1])
    assert more - few == pytest.approx(2 * MODEL.bytes_per_expert / 1e9)


def test_tokens_travel_inside_nodes_and_between_them():
    """Of 4 ranks on 2 nodes, a quarter of the tokens comes from the rank beside and half over the network."""
    (seconds,) = set(exchange_seconds([1000] * 4, HARDWARE, MODEL, TWO_NODES).tolist())
    num_bytes = 1000 * MODEL.exchange_bytes_per_token
    assert seconds == pytest.approx(max(num_bytes / 4 / 1e8, num_bytes / 2 / 1e7))
    assert exchange_seconds([1000], HARDWARE, MODEL).tolist() == [0.0]


def test_latency_is_paid_twice_and_fixed_time_once():
    """For dispatch and combine, and for the layer."""
    slow = dataclasses.replace(HARDWARE, exchange_latency_seconds=1.0, fixed_seconds_per_layer=5.0)
    more = CostModel(hardware=slow, model=MODEL).layer_seconds([10, 10], [1, 1]) - COST.layer_seconds([10, 10], [1, 1])
    assert more == pytest.approx(7.0)


def test_efficiency_scales_all_times_alike():
    """So gains in percent do not depend on it."""
    half = CostModel(hardware=dataclasses.replace(HARDWARE, efficiency=0.5), model=MODEL)
    tokens, activated = [[9000, 1000], [5, 5]], [[2, 2], [2, 2]]
    np.testing.assert_allclose(half.layer_seconds(tokens, activated), 2 * COST.layer_seconds(tokens, activated))
    assert half.migration_seconds(3) == pytest.approx(2 * COST.migration_seconds(3))


def test_migrations_stall_for_what_the_busiest_rank_receives():
    """Over the network where there are several nodes; what serving hides does not count."""
    assert COST.migration_seconds([0, 2]).tolist() == [0.0, 2 * 6000 / 1e8]
    assert COST.migration_seconds(2, TWO_NODES) == pytest.approx(2 * 6000 / 1e7)
    hidden = dataclasses.replace(COST, hidden_migration_share=0.75)
    assert hidden.migration_seconds(2) == pytest.approx(0.25 * 2 * 6000 / 1e8)


def test_balance_gains_nothing_where_weights_bind():
    """On an H100, DeepSeek-V3 with a few tokens an expert waits for weights, however skewed the tokens are."""
    rates = rates_of(hardware_named("h100"), model_named("deepseek-v3"))
    assert rates.seconds([300, 100], [9, 9]).tolist() == rates.seconds([200, 200], [9, 9]).tolist()


def test_measured_rates_replace_those_of_the_datasheet():
    """The exchange stays."""
    cost = dataclasses.replace(COST, rates=Rates(seconds_per_token=1.0, seconds_per_activated_expert=0.0))
    assert cost.layer_seconds([3.0], [1]).tolist() == 3.0


def test_a_cost_model_can_be_sent_to_another_process():
    """And is the same there, with all its numbers in its text."""
    assert pickle.loads(pickle.dumps(COST)) == COST
    assert "memory_bandwidth_bytes_per_s=1000000000.0" in repr(COST)


@pytest.mark.parametrize(
    ("tokens", "activated", "more", "says"),
    [
        ([-1, 2], [1, 1], {}, "tokens: expected finite numbers >= 0"),
        ([1, np.nan], [1, 1], {}, "tokens: expected finite numbers >= 0"),
        ([1, 2], [1, 1, 1], {}, r"activated_experts: expected the shape \(2,\) of the tokens, got \(3,\)"),
        ([1, 2], [1, 1], {"rows": [1]}, "rows: expected the shape"),
        ([1, 2], [1, 1], {"topology": TWO_NODES}, r"tokens: expected \[..., 4 ranks\], got shape \(2,\)"),
        (3, 1, {}, r"tokens: expected \[..., ranks\], got shape \(\)"),
        (["a"], [1], {}, "tokens: expected numbers, got dtype"),
    ],
)
def test_bad_loads_are_named(tokens, activated, more, says):
    """With what was expected."""
    with pytest.raises(LoadsError, match=says):
        COST.layer_seconds(tokens, activated, **more)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hardware": "h100"}, "hardware: expected an eplb.replay.cost.Hardware, got str; hardware_named gives one"),
        ({"model": None}, "model_named gives one"),
        ({"rates": 3}, "rates: expected an eplb.replay.cost.Rates"),
        ({"steps_per_window": 0}, "steps_per_window"),
        ({"batch_scale": 0}, "batch_scale"),
        ({"hidden_migration_share": 2}, "hidden_migration_share: expected at most 1, got 2"),
        ({"planner_seconds": -1}, "planner_seconds"),
        ({"other_seconds_per_step": float("inf")}, "other_seconds_per_step"),
    ],
)
def test_bad_options_are_named(changes, says):
    """Before anything is computed."""
    with pytest.raises(OptionError, match=says):
        dataclasses.replace(COST, **changes)
