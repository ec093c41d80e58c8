"""`eplb validate`: what it prints, and its exit codes."""

import json

import pytest

import eplb
from tests.engines.recordings import LAYERS, sound_slots

MACHINE = eplb.Topology(num_ranks=4, slots_per_rank=3)


@pytest.fixture
def placement(rng):
    """Return a placement of three layers."""
    return eplb.Placement(physical_to_logical=sound_slots(rng), topology=MACHINE, layer_ids=LAYERS)


@pytest.fixture
def plan_file(tmp_path, placement):
    """The placement, saved."""
    placement.save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


@pytest.fixture
def broken_file(tmp_path):
    """A placement of SGLang that lacks an expert in each layer."""
    (tmp_path / "location.json").write_text('{"physical_to_logical_map": [[0, 1, 3, 3], [0, 1, 2, 0]]}')
    return tmp_path / "location.json"


def test_a_valid_placement(invoke, plan_file, placement):
    """What it is, and its whole hash."""
    result = invoke("validate", plan_file, "--engine", "vllm-ascend")
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0
    for part in (placement.hash, "3 layers x 8 experts", "4 ranks x 3 slots", "1 to 2 of an expert", "yes, for vllm"):
        assert part in text


def test_the_hash_is_stable(program, plan_file, placement):
    """In any process."""
    for _ in range(2):
        result = program("validate", plan_file, "--json")
        assert result.returncode == 0 and json.loads(result.stdout)["plan_hash"] == placement.hash


def test_all_that_is_wrong_is_listed(program, broken_file):
    """With exit code 1, a line each; JSON holds the same."""
    result = program("validate", broken_file, "--ranks", 2)
    assert result.returncode == 1 and not result.stderr
    assert "layer 0: expert 2 has no replica" in result.stdout and "layer 1: expert 3" in result.stdout
    result = program("validate", broken_file, "--ranks", 2, "--json")
    found = json.loads(result.stdout)
    assert (result.returncode, found["valid"], found["plan_hash"], len(found["errors"])) == (1, False, None, 2)


def test_a_file_that_cannot_be_read(program, tmp_path):
    """Exit code 2 and one line."""
    (tmp_path / "a.json").write_text('{"format": "eplb.placement", ')
    result = program("validate", tmp_path / "a.json")
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_loads_tell_how_balanced_it_is(invoke, tmp_path, trace):
    """On the mean of the windows; other loads are an error."""
    placement = eplb.plan(trace, MACHINE).placement
    placement.save(tmp_path / "plan.json")
    trace.save(tmp_path / "loads.npz")
    args = ("validate", tmp_path / "plan.json", "--loads", tmp_path / "loads.npz")
    expected = eplb.evaluate(placement, trace).balancedness.mean()
    assert json.loads(invoke(*args, "--json").stdout)["balancedness"] == pytest.approx(expected)
    assert f"{expected:.4f} on the loads" in invoke(*args).stdout
    eplb.LoadTrace(loads=trace.loads[:, :1], layer_ids=[4]).save(tmp_path / "other.npz")
    result = invoke("validate", tmp_path / "plan.json", "--loads", tmp_path / "other.npz")
    assert result.exit_code == 1 and "the loads are of layers 4" in " ".join(result.stdout.split())


def test_warnings_do_not_fail(invoke, tmp_path):
    """Unless the engine cannot run it."""
    machine = eplb.Topology(num_ranks=2, slots_per_rank=2)
    eplb.Placement(physical_to_logical=[[0, 1, 2, 2]], topology=machine).save(tmp_path / "a.json")
    result = invoke("validate", tmp_path / "a.json", "--engine", "sglang")
    assert result.exit_code == 0 and "warning: an expert twice on a rank" in result.stderr
    result = invoke("validate", tmp_path / "a.json", "--engine", "vllm-ascend")
    assert result.exit_code == 1 and "cannot hold an expert twice" in " ".join(result.stdout.split())


def test_an_unknown_engine(invoke, plan_file):
    """Is named with those that are known."""
    result = invoke("validate", plan_file, "--engine", "other")
    assert isinstance(result.exception, eplb.OptionError) and "sglang" in str(result.exception)
