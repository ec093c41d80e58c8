"""Whether a placement is sound and can run: all that is wrong is listed."""

import json
import re

import numpy as np
import pytest

import eplb
from eplb.engines import Hints, validate
from eplb.engines.registry import RULES
from tests.engines.recordings import LAYERS, NUM_EXPERTS, NUM_RANKS, sound_slots, vllm_ascend_map
from tests.test_files import little_memory

MACHINE = eplb.Topology(num_ranks=NUM_RANKS, slots_per_rank=3)


@pytest.fixture
def placement(rng):
    """Return a placement of three layers."""
    return eplb.Placement(physical_to_logical=sound_slots(rng), topology=MACHINE, layer_ids=LAYERS)


@pytest.fixture
def file(tmp_path, placement):
    """The placement, saved."""
    placement.save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def edited(file, change):
    """Write the placement with another content and no hash."""
    value = json.loads(file.read_text())
    del value["hash"]
    change(value)
    file.write_text(json.dumps(value))
    return file


def test_a_sound_placement_is_valid(file, placement):
    """With its hash, for every engine that takes placements."""
    for engine in (None, *sorted(set(RULES) - {"megatron"})):
        verdict = validate(file, engine=engine)
        assert verdict.is_valid and not verdict.warnings and verdict.placement.hash == placement.hash


def test_every_missing_expert_is_listed(file):
    """Layer by layer, by the model's numbers."""

    def change(value):
        rows = value["physical_to_logical"]
        rows[0] = [0, 1, 2, 3] * 3
        rows[2] = [99 if expert == 6 else expert for expert in rows[2]]

    found = validate(edited(file, change))
    assert not found.is_valid and found.placement is None
    assert found.errors[0] == "layer 3: experts 4 to 7 have no replica"
    assert "holds 99, no id of 0 to 7" in found.errors[1] and found.errors[2] == "layer 5: expert 6 has no replica"
    assert len(found.errors) == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(num_experts=9), "layer 3: expert 8 has no replica"),
        (lambda v: v.update(num_experts=13), "13 experts, .* cannot all stand in 12 slots"),
        (lambda v: v.update(num_experts=2**31 - 1), "2,147,483,647 experts, .* cannot all stand in 12 slots"),
        (lambda v: v["topology"].update(num_ranks=3), "12 slots a layer; 3 ranks have 9"),
        (lambda v: v["topology"].update(num_ranks=0), "num_ranks: expected an integer >= 1"),
        (lambda v: v["topology"].update(color="red"), "topology: .*color"),
        (lambda v: v["topology"].update(failed_ranks=[1]), "slot 3 belongs to a rank that failed"),
        (lambda v: v.update(physical_to_logical=[[0, 1], [0]]), "expected 2 slots in every layer, got 1 at index 1"),
        (lambda v: v.update(physical_to_logical=[]), "one list a layer, got a list of 0"),
        (lambda v: v.update(layer_ids=[1, 1, 2]), "layer_ids: expected distinct ids"),
        (lambda v: v.update(hash="0" * 64), "does not match its hash"),
        (lambda v: v["physical_to_logical"][0].__setitem__(0, -1), "slot 0 holds -1, no id of 0 to 7"),
    ],
)
def test_what_is_wrong_is_said(file, change, says):
    """And nothing is valid by accident."""
    found = validate(edited(file, change))
    assert not found.is_valid
    assert any(re.search(says, text) for text in found.errors), found.errors


def test_a_huge_id_takes_no_memory(tmp_path):
    """Where the largest id tells how many experts there are."""
    (tmp_path / "a.json").write_text('{"physical_to_logical_map": [[0, 2147483646]]}')
    with little_memory():
        found = validate(tmp_path / "a.json", Hints(num_ranks=2))
    assert found.errors == ("2,147,483,647 experts, by the largest id or as said, cannot all stand in 2 slots",)


def test_many_errors_are_cut_short(file):
    """The first twenty, and how many more."""

    def change(value):
        value["physical_to_logical"] = [[0] * 12 for _ in range(60)]
        value["layer_ids"] = list(range(60))

    errors = validate(edited(file, change)).errors
    assert len(errors) == 21 and errors[-1] == "and 40 more"


def test_repeats_on_a_rank(tmp_path):
    """Are a warning, unless the engine forbids them."""
    placement = eplb.Placement(
        physical_to_logical=[[0, 1, 2, 2]], topology=eplb.Topology(num_ranks=2, slots_per_rank=2)
    )
    placement.save(tmp_path / "a.json")
    for engine in (None, "sglang", "tensorrt-llm", "vllm"):
        found = validate(tmp_path / "a.json", engine=engine)
        assert found.is_valid and "takes memory and splits nothing: layer 0, rank 1, expert 2" in found.warnings[0]
    assert "cannot hold an expert twice" in validate(tmp_path / "a.json", engine="vllm-ascend").errors[0]


def test_megatron_holds_experts_in_order(tmp_path, file):
    """So only the placement that it has anyway is valid."""
    assert "it takes no placement" in validate(file, engine="megatron").errors[0]
    machine = eplb.Topology(num_ranks=2, slots_per_rank=2)
    eplb.Placement(physical_to_logical=[[0, 1, 2, 3]], topology=machine).save(tmp_path / "a.json")
    assert validate(tmp_path / "a.json", engine="megatron").is_valid


def test_engines_want_ranks_alike(tmp_path):
    """All that an engine cannot have is listed."""
    machine = eplb.Topology(num_ranks=3, slots_per_rank=[2, 1, 2], rank_speeds=[1, 2, 1], failed_ranks=[1])
    eplb.Placement(physical_to_logical=[[0, 1, -1, 1, 2]], topology=machine).save(tmp_path / "a.json")
    assert validate(tmp_path / "a.json").is_valid
    for engine in ("sglang", "tensorrt-llm", "vllm-ascend", "vllm"):
        found = validate(tmp_path / "a.json", engine=engine)
        assert len(found.errors) == 2 and "knows no speeds" in found.warnings[0]


def test_loads_must_be_of_the_same_model(file):
    """The same layers and experts."""
    fits = eplb.LoadTrace(loads=np.ones((3, NUM_EXPERTS)), layer_ids=LAYERS)
    assert validate(file, loads=fits).is_valid
    other = eplb.LoadTrace(loads=np.ones((2, 9)))
    assert validate(file, loads=other).errors == (
        "the loads have 9 experts a layer, the placement 8",
        "the loads are of layers 0, 1, the placement of 3 to 5",
    )


def test_loads_tell_how_many_experts_there_are(tmp_path, rng):
    """Where the file of an engine does not."""
    slots = sound_slots(rng)
    vllm_ascend_map(tmp_path / "a.json", slots)
    loads = eplb.LoadTrace(loads=np.ones((3, 9)), layer_ids=LAYERS)
    found = validate(tmp_path / "a.json", Hints(layers=LAYERS), loads=loads)
    assert found.errors[0] == "layer 3: expert 8 has no replica"


def test_what_is_no_placement_is_an_error(tmp_path):
    """Loads, and files that cannot be read, are not judged at all."""
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    with pytest.raises(eplb.FileFormatError, match="holds loads of eplb, no placement"):
        validate(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text('{"format": "eplb.placement"')
    with pytest.raises(eplb.FileFormatError, match="not valid JSON"):
        validate(tmp_path / "a.json")
    with pytest.raises(eplb.OptionError, match="engine: expected one of"):
        validate(tmp_path / "a.json", engine="other")
