"""Megatron-core: traces of routers, read as loads."""

import json

import numpy as np
import pytest

import eplb
from eplb.engines import Hints, read, write
from tests.engines.recordings import LAYERS, NUM_EXPERTS, counted, megatron_lines, megatron_trace


@pytest.fixture
def ids(rng):
    """Return experts of tokens: two ranks, four steps, three layers, five tokens, two each."""
    ids = rng.integers(0, NUM_EXPERTS, (2, 4, 3, 5, 2))
    ids[0, 0, 0, 0] = [NUM_EXPERTS - 1, 0]
    return ids


def test_ranks_are_added_up(tmp_path, ids):
    """A step a window; layers have the numbers of the file."""
    found = read(megatron_trace(tmp_path, ids), Hints(num_experts=NUM_EXPERTS))
    np.testing.assert_array_equal(found.value.loads, counted(ids).sum(axis=0))
    assert found.value.layer_ids.tolist() == list(LAYERS)
    assert "added up over 2 ranks" in found.notes[0] and not found.warnings


def test_the_number_of_experts_may_be_said(tmp_path, ids):
    """The file does not hold it: an expert that no token reached is missing otherwise."""
    megatron_trace(tmp_path, ids)
    assert "8 experts, by the largest id" in read(tmp_path).warnings[0]
    assert read(tmp_path, Hints(num_experts=10)).value.num_experts == 10
    with pytest.raises(eplb.OptionError, match="tokens were routed to expert 7, got 6 experts"):
        read(tmp_path, Hints(num_experts=6))


@pytest.mark.parametrize("count", [1, 4])
def test_a_file_alone(tmp_path, ids, count):
    """Of one line or several; the other ranks are missed."""
    lines = megatron_lines(ids[0, :count], layers=LAYERS)
    (tmp_path / "a.jsonl").write_text("".join(lines if count > 1 else lines[:1]))
    found = read(tmp_path / "a.jsonl", Hints(num_experts=NUM_EXPERTS)).value
    np.testing.assert_array_equal(found.loads, counted(ids[0, :count])[:, : found.num_layers])


def test_steps_that_lack_a_layer_are_left_out(tmp_path, ids):
    """The last one, when the process was stopped in it; and a rank without tokens lacks nothing."""
    megatron_trace(tmp_path, ids)
    lines = megatron_lines(ids[1], rank=1)
    idle = json.dumps({**json.loads(lines[0]), "num_tokens": 0, "top_indices": []}) + "\n"
    (tmp_path / "router_trace_rank1.jsonl").write_text("".join([idle, *lines[1:-1]]))
    found = read(tmp_path, Hints(num_experts=NUM_EXPERTS))
    expected = counted(ids).sum(axis=0)[:3]
    expected[0, 0] = counted(ids)[0, 0, 0]
    np.testing.assert_array_equal(found.value.loads, expected)
    assert "1 of 4 steps lack a layer or a rank" in found.warnings[0]


def test_micro_batches_of_a_step_are_summed(tmp_path, ids):
    """A layer fires once for each."""
    megatron_trace(tmp_path, ids)
    path = tmp_path / "router_trace_rank0.jsonl"
    path.write_text(path.read_text() * 2)
    found = read(tmp_path, Hints(num_experts=NUM_EXPERTS)).value
    np.testing.assert_array_equal(found.loads, 2 * counted(ids[0]) + counted(ids[1]))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: expected a JSON object; it is truncated"),
        ("[1]", "expected an object with step, layer, top_indices, got a list of 1"),
        ('{"step": 0, "layer": 0}', "expected an object with step, layer, top_indices"),
        ('{"step": "0", "layer": 0, "top_indices": [[0]]}', "step: expected an integer"),
        ('{"step": 0, "layer": -1, "top_indices": [[0]]}', "layer: expected an integer"),
        ('{"step": 0, "layer": 0, "top_indices": "x"}', "top_indices: expected a list"),
        ('{"step": 0, "layer": 0, "top_indices": [0]}', r"expected \[tokens, experts per token\]"),
        ('{"step": 0, "layer": 0, "top_indices": [[0], [0, 1]]}', "nested alike"),
        ('{"step": 0, "layer": 0, "top_indices": [["a"]]}', "lists of numbers"),
        ('{"step": 0, "layer": 0, "top_indices": [[-1]]}', "ids below 65536"),
        ('{"step": 0, "layer": 0, "top_indices": [[1099511627776]]}', "ids below 65536"),
        ('{"step": 0, "layer": 0, "top_indices": [[0.5]]}', "ids below 65536"),
        ('{"step": 0, "layer": 0, "top_indices": [[0]], "num_tokens": 2}', "expected 2 tokens x 1"),
    ],
)
def test_lines_that_are_none(tmp_path, ids, line, says):
    """Each is named by its number."""
    path = tmp_path / "a.jsonl"
    path.write_text(megatron_lines(ids[0])[0] + line + "\n")
    with pytest.raises(eplb.FileFormatError, match=says) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: line 2")


def test_multi_token_prediction_alone_is_no_trace(tmp_path, ids):
    """Its layers are others."""
    line = json.dumps({**json.loads(megatron_lines(ids[0])[0]), "block": "mtp", "mtp_idx": 0})
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(eplb.LoadsError, match="no record of a decoder's router"):
        read(tmp_path / "a.jsonl")


def test_many_short_lines_take_no_memory(tmp_path, monkeypatch):
    """Each would make room for 65,536 experts."""
    monkeypatch.setattr("eplb.engines.steps.MAX_LOADS_BYTES", 1 << 22)
    lines = [json.dumps({"step": i, "layer": 0, "top_indices": [[65535]]}) + "\n" for i in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    with pytest.raises(eplb.FileFormatError, match="bytes of loads; record fewer steps"):
        read(tmp_path / "a.jsonl")


def test_megatron_takes_no_placement(tmp_path):
    """It holds experts in the order of their ids."""
    placement = eplb.Placement(physical_to_logical=[[0, 1]], topology=eplb.Topology(num_ranks=2, slots_per_rank=1))
    with pytest.raises(eplb.OptionError, match="Megatron-core takes no placements"):
        write(placement, tmp_path / "a.jsonl", "megatron")
