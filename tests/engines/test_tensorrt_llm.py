"""TensorRT-LLM: statistics, and the configuration of its load balancer."""

import json

import numpy as np
import pytest

import eplb
from eplb.engines import Hints, read, write
from tests.engines.recordings import (
    LAYERS,
    NUM_EXPERTS,
    NUM_RANKS,
    counted,
    sound_slots,
    tensorrt_llm_balancer,
    tensorrt_llm_statistics,
)

save_file = pytest.importorskip("safetensors.numpy").save_file
yaml = pytest.importorskip("yaml")
MACHINE = eplb.Topology(num_ranks=NUM_RANKS, slots_per_rank=3)


@pytest.fixture
def ids(rng):
    """Return experts of tokens: two ranks, three iterations, three layers, five tokens, two each."""
    return rng.integers(0, NUM_EXPERTS, (2, 3, 3, 5, 2))


@pytest.fixture
def placement(rng):
    """Return a placement of three layers."""
    return eplb.Placement(physical_to_logical=sound_slots(rng), topology=MACHINE, layer_ids=LAYERS)


# ---- statistics


def test_ranks_are_added_up(tmp_path, ids):
    """An iteration a window, layers by the model's numbers, tokens from the counts."""
    found = read(tensorrt_llm_statistics(tmp_path / "s", counted(ids)))
    np.testing.assert_array_equal(found.value.loads, counted(ids).sum(axis=0))
    assert found.value.layer_ids.tolist() == list(LAYERS) and found.value.tokens.tolist() == [10, 10, 10]
    assert found.notes == ("added up over 2 ranks", "TensorRT-LLM's layers have the model's own numbers")


def test_experts_of_tokens_are_counted(tmp_path, ids):
    """Where only the raw files are there; they do not count beside the others."""
    folder = tensorrt_llm_statistics(tmp_path / "s", counted(ids))
    for rank, steps in enumerate(ids):
        entries = {f"{t + 100}_{layer}": steps[t, i] for t in range(3) for i, layer in enumerate(LAYERS)}
        save_file(entries, folder / f"rank{rank}_raw.safetensors")
    expected = counted(ids).sum(axis=0)
    np.testing.assert_array_equal(read(folder).value.loads, expected)
    for rank in range(2):
        (folder / f"rank{rank}.safetensors").unlink()
    np.testing.assert_array_equal(read(folder).value.loads, expected)


def test_a_missing_rank_is_warned_of(tmp_path, ids):
    """By the gap in the numbers."""
    folder = tensorrt_llm_statistics(tmp_path / "s", counted(ids))
    (folder / "rank1.safetensors").rename(folder / "rank2.safetensors")
    assert "that of rank 1 is missing" in read(folder).warnings[0]


def test_iterations_that_lack_a_layer_are_left_out(tmp_path, ids):
    """And said."""
    folder = tensorrt_llm_statistics(tmp_path / "s", counted(ids))
    whole = {f"{t}_{layer}": np.ones(NUM_EXPERTS, dtype=np.int64) for t in (100, 101, 102) for layer in LAYERS}
    del whole["102_4"]
    save_file(whole, folder / "rank1.safetensors")
    found = read(folder)
    assert found.value.num_windows == 2 and "1 of 3 steps lack a layer or a rank" in found.warnings[0]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"100": np.ones(8, dtype=int)}, "'100': expected names such as '100_3'"),
        ({"100_None": np.ones(8, dtype=int)}, "'100_None': expected names"),
        ({"100_3": np.ones(7, dtype=int)}, "'100_3': expected 8 counts"),
        ({"100_3": np.ones(8)}, "expected counts, got an array"),
        ({"100_3": np.full(8, -1)}, "counts of 0 to 2"),
        ({}, "no step has all layers"),
    ],
)
def test_counts_that_are_none(tmp_path, ids, entries, says):
    """Each is named with its file."""
    folder = tensorrt_llm_statistics(tmp_path / "s", counted(ids[:1]))
    save_file(entries, folder / "rank0.safetensors")
    with pytest.raises(eplb.FileFormatError, match=says) as caught:
        read(folder)
    assert str(caught.value).startswith(str(folder))


@pytest.mark.parametrize(
    "meta",
    [
        *("null", "[]", "{}", "{", '{"num_experts": 8}', '{"num_experts": "8"}'),
        '{"num_experts": 0, "num_experts_per_token": 1}',
        '{"num_experts": 8, "num_experts_per_token": 9}',
        f'{{"num_experts": {2**40}, "num_experts_per_token": 1}}',
    ],
)
def test_meta_information_that_is_none(tmp_path, ids, meta):
    """A rank without requests writes null."""
    folder = tensorrt_llm_statistics(tmp_path / "s", counted(ids))
    (folder / "meta_info.json").write_text(meta)
    with pytest.raises(eplb.FileFormatError, match=r"meta_info\.json: "):
        read(folder)


def test_a_folder_without_ranks(tmp_path, ids):
    """Says what it lacks."""
    folder = tensorrt_llm_statistics(tmp_path / "s", counted(ids))
    for rank in range(2):
        (folder / f"rank{rank}.safetensors").unlink()
    with pytest.raises(eplb.FileFormatError, match=r"expected files rank0\.safetensors"):
        read(folder)


def test_statistics_there_and_back(tmp_path, ids):
    """With the number of experts a token has, from the tokens or said."""
    trace = read(tensorrt_llm_statistics(tmp_path / "s", counted(ids))).value
    write(trace, tmp_path / "again", "tensorrt-llm")
    again = read(tmp_path / "again").value
    np.testing.assert_array_equal(again.loads, trace.loads)
    assert again.layer_ids.tolist() == list(LAYERS) and again.tokens.tolist() == trace.tokens.tolist()
    bare = eplb.LoadTrace(loads=trace.loads)
    with pytest.raises(eplb.OptionError, match="--top-k K"):
        write(bare, tmp_path / "other", "tensorrt-llm")
    write(bare, tmp_path / "other", "tensorrt-llm", Hints(experts_per_token=4))
    assert json.loads((tmp_path / "other" / "meta_info.json").read_text())["num_experts_per_token"] == 4


def test_what_is_no_count_is_not_written(tmp_path):
    """And nothing is left in the folder."""
    with pytest.raises(eplb.LoadsError, match="whole loads"):
        write(eplb.LoadTrace(loads=[[0.5, 1]]), tmp_path / "s", "tensorrt-llm", Hints(experts_per_token=1))
    assert not list(tmp_path.iterdir())


# ---- the load balancer


def test_balancers_there_and_back(tmp_path, placement):
    """Also as TensorRT-LLM's own script writes them."""
    write(placement, tmp_path / "a.yaml")
    tensorrt_llm_balancer(tmp_path / "b.yaml", placement.physical_to_logical)
    assert yaml.safe_load((tmp_path / "a.yaml").read_text()) == yaml.safe_load((tmp_path / "b.yaml").read_text())
    for name in ("a.yaml", "b.yaml"):
        assert read(tmp_path / name, Hints(num_ranks=NUM_RANKS)).value == placement


def test_a_balancer_inside_the_options(tmp_path, placement):
    """In YAML or JSON, where names of layers are texts."""
    assignments = {str(layer): row for layer, row in zip(LAYERS, placement.physical_to_logical.tolist(), strict=True)}
    options = {"moe_config": {"load_balancer": {"num_slots": 12, "initial_global_assignments": assignments}}}
    for name, dump in (("a.yaml", yaml.safe_dump), ("a.json", json.dumps)):
        (tmp_path / name).write_text(dump(options))
        assert read(tmp_path / name, Hints(num_ranks=NUM_RANKS)).value == placement


def test_layers_that_share_a_list(tmp_path):
    """YAML writes them as an alias."""
    row = list(range(8))
    text = yaml.safe_dump({"num_slots": 8, "initial_global_assignments": {3: row, 4: row}})
    assert "*id001" in text
    (tmp_path / "a.yaml").write_text(text)
    assert read(tmp_path / "a.yaml", Hints(num_ranks=2)).value.physical_to_logical.tolist() == [row, row]


def test_placements_that_change_are_warned_of(tmp_path):
    """Online balancing starts from them only."""
    (tmp_path / "a.yaml").write_text(
        "num_slots: 2\nlayer_updates_per_iter: 2\ninitial_global_assignments:\n  0: [0, 1]\n"
    )
    assert "changes this placement while it serves" in read(tmp_path / "a.yaml", Hints(num_ranks=2)).warnings[0]


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("num_slots: 2\n", eplb.FileFormatError, "initial_global_assignments: expected the experts of each layer"),
        ("num_slots: 2\ninitial_global_assignments: {}\n", eplb.FileFormatError, "expected the experts"),
        ("initial_global_assignments: {0: [0]}\n", eplb.FileFormatError, "num_slots: expected an integer"),
        ("num_slots: 2\ninitial_global_assignments: {0: [0]}\n", eplb.PlacementError, "layer 0: expected 2 slots"),
        ("num_slots: 1\ninitial_global_assignments: {a: [0]}\n", eplb.FileFormatError, "layer: expected an integer"),
        ("num_slots: 1\ninitial_global_assignments: {0: 0}\n", eplb.PlacementError, "list of expert ids, got 0"),
        ("num_slots: 1\ninitial_global_assignments: {0: [x]}\n", eplb.PlacementError, "got 'x' at index 0"),
        ("num_slots: 1\ninitial_global_assignments: {0: [0], 0: [0]}\n", eplb.FileFormatError, "comes twice"),
        ("num_slots: 1\ninitial_global_assignments: {0: [0], '0': [0]}\n", eplb.FileFormatError, "a layer comes twice"),
        ("num_slots: 1\nspeed: 2\ninitial_global_assignments: {0: [0]}\n", eplb.FileFormatError, "'speed' too"),
        ("num_slots: [\n", eplb.FileFormatError, "not valid YAML"),
        ("num_slots: &a [*a]\ninitial_global_assignments: {0: [0]}\n", eplb.FileFormatError, "num_slots: expected"),
        ("moe_config:\n  load_balancer: other.yaml\n", eplb.FileFormatError, "another file, 'other.yaml'"),
        ("moe_config: 3\n", eplb.FileFormatError, "configuration of a load balancer, got 3"),
        ("num_slots: " + "[" * 100_000, eplb.FileFormatError, "not valid YAML"),
        (
            "num_slots: 1\ninitial_global_assignments: {0: [" + "0," * (1 << 20) + "]}",
            eplb.FileFormatError,
            "more than",
        ),
        ("num_slots: !!python/object/apply:os.abort []\n", eplb.FileFormatError, "not valid YAML of plain values"),
    ],
)
def test_balancers_that_are_none(tmp_path, text, error, says):
    """What was expected, and what came; and nothing in it is run."""
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(error, match=says):
        read(tmp_path / "a.yaml", Hints(num_ranks=1))


def test_aliases_do_not_grow(tmp_path):
    """Ten levels of ten aliases would be ten thousand million."""
    levels = ["a0: &a0 [0, 0]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 11)]
    (tmp_path / "a.yaml").write_text("\n".join(levels) + "\nnum_slots: 1\ninitial_global_assignments: {0: *a10}\n")
    with pytest.raises(eplb.FileFormatError):
        read(tmp_path / "a.yaml", Hints(num_ranks=1))


def test_one_rank_is_refused(tmp_path):
    """TensorRT-LLM balances over several."""
    placement = eplb.Placement(physical_to_logical=[[0, 1]], topology=eplb.Topology(num_ranks=1, slots_per_rank=2))
    with pytest.raises(eplb.PlacementError, match="2 ranks or more, got 1"):
        write(placement, tmp_path / "a.yaml")
