"""`eplb convert`: what it prints, writes and refuses."""

import json

import numpy as np
import pytest

import eplb
from tests.engines.recordings import (
    LAYERS,
    NUM_EXPERTS,
    sglang_statistics,
    sound_slots,
    tensorrt_llm_balancer,
    tensorrt_llm_statistics,
    vllm_ascend_map,
)

MACHINE = eplb.Topology(num_ranks=4, slots_per_rank=3)


@pytest.fixture
def plan_file(tmp_path, rng):
    """A placement of three layers, saved."""
    placement = eplb.Placement(physical_to_logical=sound_slots(rng), topology=MACHINE, layer_ids=LAYERS)
    placement.save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def converted_json(invoke, *args):
    """Return the object that `eplb convert --json` prints."""
    result = invoke("convert", *args, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def test_says_what_was_read_and_written(invoke, plan_file, tmp_path, monkeypatch):
    """Formats, sizes, layers, and how to start the engine with it."""
    monkeypatch.chdir(tmp_path)
    result = invoke("convert", plan_file.name, "location.json", "--to", "sglang", "--hidden-layers", 7)
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0
    for part in (
        "plan.json: placement of eplb",
        "3 layers x 8 experts in 12 slots on 4 ranks; plan",
        "layers 3 to 5",
        "location.json: placement of sglang",
        "7 rows written, for 0 to 6",
        "--ep-size 4 --ep-num-redundant-experts 4",
    ):
        assert part in text
    assert len(json.loads((tmp_path / "location.json").read_text())["physical_to_logical_map"]) == 7


def test_json_holds_the_same(invoke, plan_file, tmp_path):
    """For programs."""
    found = converted_json(invoke, plan_file, tmp_path / "map.json", "--to", "vllm-ascend")
    assert (found["kind"], found["source_format"], found["target_format"]) == ("placement", "eplb", "vllm-ascend")
    assert found["layer_ids"] == list(LAYERS) and found["topology"]["num_ranks"] == 4
    assert found["plan_hash"] == eplb.Placement.load(plan_file).hash
    assert "its 0 to 2 are the model's 3 to 5" in found["notes"][0] and found["warnings"] == []


def test_loads_of_an_engine(invoke, tmp_path, rng):
    """Layers that are wanted, steps summed, warnings on stderr."""
    pytest.importorskip("torch")
    counts = rng.integers(1, 9, (4, 7, NUM_EXPERTS))
    counts[:, :3] = 0
    file = sglang_statistics(tmp_path / "dump.pt", counts)
    result = invoke("convert", file, tmp_path / "all.npz")
    assert "warning: layers without any token: 0 to 2" in result.stderr
    args = ("--layers", "3-6", "--steps-per-window", 2)
    found = converted_json(invoke, file, tmp_path / "loads.npz", *args)
    trace = eplb.LoadTrace.load(tmp_path / "loads.npz")
    np.testing.assert_array_equal(trace.loads, counts[:, 3:].reshape(2, 2, 4, 8).sum(axis=1))
    assert found["num_windows"] == 2 and found["layer_ids"] == [3, 4, 5, 6]


def test_the_ending_tells_the_format(invoke, plan_file, tmp_path):
    """Where it can; .json is this library's own."""
    assert converted_json(invoke, plan_file, tmp_path / "a.yaml")["target_format"] == "tensorrt-llm"
    back = converted_json(invoke, tmp_path / "a.yaml", tmp_path / "b.json", "--ranks", 4)
    assert back["target_format"] == "eplb" and back["plan_hash"] == eplb.Placement.load(plan_file).hash


def test_shared_experts_are_carried(invoke, tmp_path, rng):
    """Out of one map and into another."""
    slots = sound_slots(rng).reshape(3, 4, 3)
    mixed = np.concatenate([slots, np.full((3, 4, 1), 8)], axis=2).reshape(3, 16)
    vllm_ascend_map(tmp_path / "map.json", mixed)
    args = ("--experts", 8, "--layers", "3-5")
    assert (
        "hold shared experts"
        in converted_json(invoke, tmp_path / "map.json", tmp_path / "p.json", *args)["warnings"][0]
    )
    args = ("--to", "vllm-ascend", "--shared-from", tmp_path / "map.json")
    converted_json(invoke, tmp_path / "p.json", tmp_path / "again.json", *args)
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((tmp_path / "map.json").read_text())


def test_statistics_need_the_experts_of_a_token(invoke, loads_file, tmp_path):
    """Said by an option."""
    pytest.importorskip("safetensors")
    args = (loads_file, tmp_path / "statistics", "--to", "tensorrt-llm")
    assert "--top-k" in str(invoke("convert", *args).exception)
    assert converted_json(invoke, *args, "--top-k", 2)["target_format"] == "tensorrt-llm"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("missing.json", "out.json"), "no such file"),
        (("balancer.yaml", "out.json"), "--ranks N"),
        (("balancer.yaml", "out.json", "--ranks", 5), "cannot be shared equally by 5 ranks"),
        (("balancer.yaml", "out.json", "--ranks", 4, "--layers", "x"), "--layers: expected numbers and ranges"),
        (("balancer.yaml", "out.json", "--ranks", 4, "--layers", "9"), "layers: expected some of 3 to 5"),
        (("balancer.yaml", "out.json", "--ranks", 0), "num_ranks: expected"),
        (("balancer.yaml", "out.txt", "--ranks", 4), "say it: --to NAME"),
        (("balancer.yaml", "out.json", "--ranks", 4, "--to", "other"), "format: expected one of"),
        (("balancer.yaml", "out.json", "--ranks", 4, "--to", "megatron"), "takes no placements"),
        (("balancer.yaml", "out.json", "--ranks", 4, "--from", "sglang"), "expected a file of SGLang"),
        (("balancer.yaml", "out.json", "--ranks", 4, "--nodes", "x"), "--nodes: expected an integer"),
        (("notes.txt", "out.json"), "expected loads or a placement of a known format"),
    ],
)
def test_refuses_and_writes_nothing(invoke, tmp_path, monkeypatch, rng, args, says):
    """A named error that says what came."""
    pytest.importorskip("yaml")
    monkeypatch.chdir(tmp_path)
    tensorrt_llm_balancer(tmp_path / "balancer.yaml", sound_slots(rng))
    (tmp_path / "notes.txt").write_text("notes")
    before = sorted(tmp_path.iterdir())
    result = invoke("convert", *args)
    assert isinstance(result.exception, eplb.EplbError) and says in str(result.exception)
    assert not result.stdout and sorted(tmp_path.iterdir()) == before


def test_errors_are_one_line_and_code_two(program, tmp_path):
    """As of every command."""
    (tmp_path / "a.json").write_text('{"physical_to_logical_map": [[0, 1], [2]]}')
    result = program("convert", tmp_path / "a.json", tmp_path / "b.json", "--ranks", 2)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "b.json").exists()


def test_folders_are_read(invoke, tmp_path, rng):
    """By the files in them."""
    pytest.importorskip("safetensors")
    counts = rng.integers(1, 9, (2, 3, 3, NUM_EXPERTS))
    tensorrt_llm_statistics(tmp_path / "statistics", counts)
    found = converted_json(invoke, tmp_path / "statistics", tmp_path / "loads.csv")
    assert found["source_format"] == "tensorrt-llm" and found["notes"][0] == "added up over 2 ranks"
    assert (tmp_path / "loads.csv").read_text().startswith("window,layer,expert,load\n0,3,0,")


def test_help_tells_the_formats(program):
    """And an example."""
    shown = program("convert", "--help").stdout
    for part in ("sglang", "tensorrt-llm", "vllm-ascend", "megatron", "Example: eplb convert plan.json"):
        assert part in shown
