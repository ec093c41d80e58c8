"""Hardware and models by name, and the figures that describe them."""

import dataclasses

import pytest

from eplb.errors import OptionError
from eplb.replay.cost import HARDWARE, MODELS, hardware_named, model_named
from tests.replay.cost import examples


@pytest.mark.parametrize("preset", [*HARDWARE.values(), *MODELS.values()], ids=lambda preset: preset.name)
def test_every_preset_names_a_public_source(preset):
    """Figures without one are guesses."""
    assert "https://" in preset.source


def test_the_models_of_the_field_are_there():
    """By their own names, with and without an owner or a suffix."""
    names = ("DeepSeek-V3", "Qwen3-235B", "Qwen/Qwen3-235B-A22B", "Kimi-K2-Instruct", "gpt-oss-120b")
    assert [model_named(name).num_experts for name in names] == [256, 128, 128, 384, 128]
    assert [hardware_named(name).name for name in ("h100", "H200")] == ["H100 SXM", "H200 SXM"]


def test_the_experts_of_deepseek_v3_hold_most_of_its_671_billion_weights():
    """The published total bounds what the figures give."""
    model = MODELS["deepseek-v3"]
    total = model.weights_per_expert * model.num_experts * model.num_layers
    assert 0.95 < total / 671e9 < 1


@pytest.mark.parametrize(("name", "billions"), [("gpt-oss-120b", 117), ("kimi-k2", 1040), ("qwen3-235b", 235)])
def test_experts_hold_nearly_all_weights_of_other_models_too(name, billions):
    """And never more than there are."""
    model = MODELS[name]
    assert 0.9 < model.weights_per_expert * model.num_experts * model.num_layers / (billions * 1e9) < 1


@pytest.mark.parametrize(
    ("named", "name", "says"),
    [
        (hardware_named, "b300", "hardware: expected one of h100, h200, got 'b300'"),
        (hardware_named, None, "got None"),
        (model_named, "deepseek", "model: expected one of deepseek-v3, qwen3-235b, kimi-k2, gpt-oss-120b"),
        (model_named, "deepseek-v31", "got 'deepseek-v31'"),
        (model_named, 3, "got 3"),
    ],
)
def test_unknown_names_list_what_there_is(named, name, says):
    """And say what came."""
    with pytest.raises(OptionError, match=says):
        named(name)


@pytest.mark.parametrize(
    ("what", "changes", "says"),
    [
        (examples.HARDWARE, {"memory_bytes": 0}, "memory_bytes: expected a number > 0, got 0"),
        (examples.HARDWARE, {"fp8_flops_per_s": -1}, "fp8_flops_per_s"),
        (examples.HARDWARE, {"efficiency": 1.1}, "efficiency: expected at most 1, got 1.1"),
        (examples.HARDWARE, {"efficiency": 0}, "efficiency: expected a number > 0"),
        (examples.HARDWARE, {"tile_tokens": 0.5}, "tile_tokens: expected an integer >= 1"),
        (examples.HARDWARE, {"name": None}, "name: expected a text"),
        (examples.MODEL, {"experts_per_token": 5}, "experts_per_token: expected at most the 4 experts, got 5"),
        (examples.MODEL, {"bytes_per_weight": float("nan")}, "bytes_per_weight"),
        (examples.MODEL, {"compute_type": "fp4"}, "compute_type: expected one of bf16, fp8, got 'fp4'"),
        (examples.MODEL, {"num_hidden_layers": 1}, "num_hidden_layers: expected an integer >= 2, got 1"),
        (examples.MODEL, {"num_layers": True}, "num_layers"),
    ],
)
def test_figures_out_of_range_are_named(what, changes, says):
    """With what was expected."""
    with pytest.raises(OptionError, match=says):
        dataclasses.replace(what, **changes)


def test_fp8_is_as_fast_as_bf16_where_nothing_else_is_known():
    """And an unknown type is refused."""
    assert examples.HARDWARE.flops_per_s("fp8") == examples.HARDWARE.flops_per_s("bf16") == 1e12
    with pytest.raises(OptionError, match="compute_type"):
        examples.HARDWARE.flops_per_s("fp4")
