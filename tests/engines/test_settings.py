"""What to set in an engine: flags that its page names, commands that run."""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from eplb.engines.registry import RULES
from eplb.engines.serving_options import options_from, unknown_variables
from eplb.engines.settings import ENGINES, Deployment, settings_for
from eplb.errors import OptionError

PAGES = Path(__file__).parents[2] / "docs" / "engines"
REPLANNED = Deployment(
    dynamic=True,
    trace="loads.npz",
    num_ranks=16,
    num_nodes=2,
    slots_per_rank=9,
    num_experts=128,
    hidden_layers=94,
    steps_per_window=32,
    steps_per_plan=128,
    max_moves_share=0.1,
    threshold=0.05,
)
PLACED = dataclasses.replace(REPLANNED, dynamic=False)


def flags_of(lines):
    """Return all options and variables in `lines`."""
    words = [word for line in lines for word in shlex.split(line, comments=True)]
    return {word.partition("=")[0] for word in words if word.startswith(("--", "EPLB_"))}


def test_every_engine_with_rules_has_settings():
    """But this library itself."""
    assert set(ENGINES) == set(RULES) - {"eplb"}


@pytest.mark.parametrize(
    ("engine", "page", "served"),
    [
        ("vllm", "vllm.md", REPLANNED),
        ("sglang", "sglang.md", PLACED),
        ("tensorrt-llm", "tensorrt-llm.md", PLACED),
        ("vllm-ascend", "vllm-ascend.md", PLACED),
    ],
)
def test_flags_are_those_of_the_page(engine, page, served):
    """Which is tested against the engine's own code."""
    text = (PAGES / page).read_text()
    known = {"--nodes", "--extra_llm_api_options"}
    assert flags_of(settings_for(engine, served).lines) - known <= {
        flag for flag in flags_of(settings_for(engine, served).lines) if flag in text
    }


@pytest.mark.parametrize(("engine", "history"), [("vllm", 24 * 32 // 128), ("sglang", 128 // 32)])
def test_variables_are_understood_by_the_plug_ins(engine, history):
    """None is unknown; vLLM remembers sums of 128 steps, SGLang makes windows of 32."""
    lines = settings_for(engine, REPLANNED).lines
    variables = dict(line.removeprefix("export ").split("=") for line in lines if line.startswith("export "))
    assert unknown_variables(variables) == [] and variables[f"EPLB_{engine.upper()}"] == "1"
    found = options_from(variables)
    assert (found.effort, found.history, found.max_moves_share) == ("balanced", history, 0.1)


def test_vllm_is_told_windows_and_intervals_in_steps():
    """And how many experts are redundant."""
    (line,) = [line for line in settings_for("vllm", REPLANNED).lines if line.startswith("vllm serve")]
    words = shlex.split(line)
    config = json.loads(words[words.index("--eplb-config") + 1])
    assert config == {"num_redundant_experts": 16, "window_size": 128, "step_interval": 128}


def test_sglang_replans_after_as_many_passes_and_below_a_utilization():
    """Its threshold is one of balance, ours one of imbalance."""
    words = shlex.split(settings_for("sglang", REPLANNED).lines[-1])
    assert words[words.index("--eplb-rebalance-num-iterations") + 1] == "128"
    assert words[words.index("--eplb-min-rebalancing-utilization-threshold") + 1] == "0.95"


@pytest.mark.parametrize("engine", ["sglang", "tensorrt-llm", "vllm-ascend"])
def test_the_commands_of_a_placement_run(engine, tmp_path, monkeypatch, rng):
    """From the loads to a file of the engine."""
    from typer.testing import CliRunner

    from eplb import LoadTrace
    from eplb.cli.app import app

    monkeypatch.chdir(tmp_path)
    LoadTrace(loads=rng.integers(1, 100, (4, 2, 6))).save("loads.npz")
    served = Deployment(
        dynamic=False, trace="loads.npz", num_ranks=2, num_nodes=2, slots_per_rank=4, num_experts=6, hidden_layers=2
    )
    for line in settings_for(engine, served).lines[:2]:
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
    assert len(list(tmp_path.iterdir())) == 3


def test_what_an_engine_cannot_do_is_said():
    """Rather than left out."""
    assert "not replanned by eplb" in settings_for("vllm-ascend", REPLANNED).notes[0]
    assert "takes no placement" in settings_for("megatron", PLACED).notes[0]
    assert any("takes no placement from a file" in note for note in settings_for("vllm", PLACED).notes)
    assert any("no threshold" in note for note in settings_for("vllm", REPLANNED).notes)
    assert not settings_for("megatron", PLACED).lines


def test_an_unknown_engine_lists_what_there_is():
    """As the others do."""
    with pytest.raises(OptionError, match="engine: expected one of vllm, sglang"):
        settings_for("none", PLACED)
