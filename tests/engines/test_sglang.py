"""SGLang: recorded distributions, and files for --init-expert-location."""

import json

import numpy as np
import pytest

import eplb
from eplb.engines import Hints, convert, read, write
from tests.engines.recordings import (
    LAYERS,
    NUM_EXPERTS,
    NUM_RANKS,
    NUM_SLOTS,
    sglang_details,
    sglang_statistics,
    sound_slots,
    torch_file,
)

torch = pytest.importorskip("torch")
MACHINE = eplb.Topology(num_ranks=NUM_RANKS, slots_per_rank=3)
DUMP = "expert_distribution_recorder_1764115200.5.pt"


@pytest.fixture
def counts(rng):
    """Return logical counts of four steps, seven layers of which three are MoE layers, eight experts."""
    counts = np.zeros((4, 7, NUM_EXPERTS), dtype=np.int64)
    counts[:, LAYERS] = rng.integers(1, 99, (4, 3, NUM_EXPERTS))
    return counts


@pytest.fixture
def slots(rng):
    """Return a map of seven layers."""
    return sound_slots(rng, 7)


@pytest.fixture
def physical(rng):
    """Return physical counts of three ranks, five passes, seven layers, twelve slots."""
    return rng.integers(0, 9, (3, 5, 7, NUM_SLOTS)).astype(np.int32)


def logical(slots, physical):
    """Return loads [passes, layers, experts] by adding slots up one by one."""
    loads = np.zeros((physical.shape[1], len(slots), NUM_EXPERTS), dtype=np.int64)
    for layer, row in enumerate(slots):
        for slot, expert in enumerate(row):
            loads[:, layer, expert] += physical[:, :, layer, slot].sum(axis=0)
    return loads


def on_gpu(monkeypatch):
    """Let tensors be saved as if they were on a GPU."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")


# ---- recorded


def test_statistics(tmp_path, counts):
    """A step a window, in all hidden layers; those without tokens are named."""
    found = read(sglang_statistics(tmp_path / DUMP, counts))
    np.testing.assert_array_equal(found.value.loads, counts)
    assert (found.kind, found.source_format, found.value.window) == ("loads", "sglang", "1 forward pass")
    assert "layers without any token: 0, 1, 2, 6" in found.warnings[0]


def test_the_moe_layers_are_kept(tmp_path, counts):
    """By the model's own numbers."""
    found = read(sglang_statistics(tmp_path / DUMP, counts), Hints(layers=LAYERS))
    np.testing.assert_array_equal(found.value.loads, counts[:, LAYERS])
    assert found.value.layer_ids.tolist() == list(LAYERS) and not found.warnings


def test_empty_steps_of_the_ring_are_left_out(tmp_path, counts):
    """And said."""
    counts[2:] = 0
    found = read(sglang_statistics(tmp_path / DUMP, counts))
    assert found.value.num_windows == 2 and found.notes[0].startswith("2 of 4 steps")


def test_a_recording_without_tokens_is_refused(tmp_path, counts):
    """With what to do."""
    with pytest.raises(eplb.LoadsError, match="no step has a token; record while requests are served"):
        read(sglang_statistics(tmp_path / DUMP, counts * 0))


def test_dumps_in_a_folder_follow_each_other(tmp_path, counts):
    """By the time in their names, not by its digits."""
    sglang_statistics(tmp_path / "expert_distribution_recorder_999.5.pt", counts[:2])
    sglang_statistics(tmp_path / "expert_distribution_recorder_1000.25.pt", counts[2:])
    np.testing.assert_array_equal(read(tmp_path).value.loads, counts)


def test_steps_are_summed_to_windows(tmp_path, counts):
    """As many as are said."""
    found = read(sglang_statistics(tmp_path / DUMP, counts), Hints(steps_per_window=2)).value
    np.testing.assert_array_equal(found.loads, counts.reshape(2, 2, 7, NUM_EXPERTS).sum(axis=1))
    assert found.window == "2 x (1 forward pass)"
    odd = read(tmp_path / DUMP, Hints(steps_per_window=3))
    assert odd.value.num_windows == 1 and "the last 1 of 4 steps fill no window" in odd.notes[-1]


def test_details_of_all_ranks(tmp_path, slots, physical):
    """Slots become experts, ranks are added up."""
    found = read(sglang_details(tmp_path, slots, physical))
    np.testing.assert_array_equal(found.value.loads, logical(slots, physical))
    assert "added up over the 3 ranks 0 to 2" in found.notes


def test_tensors_of_a_gpu_are_read(monkeypatch, tmp_path, slots, physical):
    """Wherever they were recorded."""
    on_gpu(monkeypatch)
    np.testing.assert_array_equal(read(sglang_details(tmp_path, slots, physical)).value.loads, logical(slots, physical))


def test_a_lone_rank_is_warned_of(tmp_path, slots, physical):
    """Its tokens are not all."""
    sglang_details(tmp_path, slots, physical)
    found = read(tmp_path / "expert_distribution_recorder_1764115200.5_1.pt")
    np.testing.assert_array_equal(found.value.loads, logical(slots, physical[1:2]))
    assert "tokens of rank 1 alone" in found.warnings[0]


def test_passes_that_lack_a_rank_are_left_out(tmp_path, slots, physical):
    """And said."""
    sglang_details(tmp_path, slots, physical)
    path = tmp_path / f"{DUMP[:-3]}_2.pt"
    value = torch.load(path)
    torch.save({**value, "records": value["records"][:3]}, path)
    found = read(tmp_path)
    np.testing.assert_array_equal(found.value.loads, logical(slots, physical)[:3])
    assert "2 of 5 passes lack a rank" in found.warnings[0]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"records": []}, eplb.LoadsError, "no pass was recorded"),
        ({"records": 3}, eplb.FileFormatError, "records: expected a list"),
        ({"records": [4]}, eplb.FileFormatError, r"records\[0\]: expected an object"),
        ({"last_physical_to_logical_map": [1]}, eplb.FileFormatError, "expected a tensor"),
        ({"last_physical_to_logical_map": np.full((7, 12), -1)}, eplb.FileFormatError, "ids of 0 to 11, got -1"),
        ({"last_physical_to_logical_map": np.full((7, 12), 12)}, eplb.FileFormatError, "ids of 0 to 11, got 12"),
        ({"last_physical_to_logical_map": np.zeros((6, 12), dtype=int)}, eplb.FileFormatError, "expected counts"),
        ({"last_physical_to_logical_map": np.zeros(12, dtype=int)}, eplb.PlacementError, "expected integers"),
        ({"rank": -1}, eplb.FileFormatError, "rank: expected an integer of 0"),
        ({"forward_pass_id": "x"}, eplb.FileFormatError, "forward_pass_id: expected an integer"),
        ({"global_physical_count": np.full((7, 12), -3)}, eplb.FileFormatError, "counts of 0 to 2"),
        ({"global_physical_count": np.full((7, 12), 2**60)}, eplb.FileFormatError, "counts of 0 to 2"),
        ({"global_physical_count": np.ones((7, 12))}, eplb.FileFormatError, "expected counts, got"),
    ],
)
def test_details_that_are_none(tmp_path, slots, physical, change, error, says):
    """Each is named with its record."""
    sglang_details(tmp_path, slots, physical[:1])
    path = tmp_path / f"{DUMP[:-3]}_0.pt"
    value = torch.load(path)
    for name, entry in change.items():
        target = value if name in value else value["records"][0]
        target[name] = torch.from_numpy(entry) if isinstance(entry, np.ndarray) else entry
    torch.save(value, path)
    with pytest.raises(error, match=says) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


def test_two_recordings_in_a_folder(tmp_path, slots, physical, counts):
    """Are not mixed."""
    sglang_details(tmp_path, slots, physical)
    torch_file(tmp_path / f"{DUMP[:-3]}_9.pt", torch.load(tmp_path / f"{DUMP[:-3]}_1.pt"))
    with pytest.raises(eplb.FileFormatError, match="pass 7 of rank 1 comes twice"):
        read(tmp_path)
    sglang_statistics(tmp_path / DUMP, counts)
    with pytest.raises(eplb.FileFormatError, match="stat modes and of detail modes"):
        read(tmp_path)


# ---- locations


@pytest.mark.parametrize("ending", [".json", ".pt"])
def test_locations_there_and_back(tmp_path, rng, ending):
    """Nothing is lost but what is said."""
    placement = eplb.Placement(physical_to_logical=sound_slots(rng), topology=MACHINE, layer_ids=LAYERS)
    path = tmp_path / f"location{ending}"
    written = write(placement, path, "sglang", Hints(num_hidden_layers=7))
    assert read(path, Hints(num_ranks=NUM_RANKS, layers=LAYERS)).value == placement
    assert "7 rows written, for 0 to 6; 0, 1, 2, 6 hold SGLang's own trivial placement" in written.notes[0]
    assert "--ep-size 4 --ep-num-redundant-experts 4" in written.notes[1]


def test_a_location_has_one_name(tmp_path, rng):
    """SGLang passes every other on to a function that takes none."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"physical_to_logical_map": sound_slots(rng).tolist(), "note": 1}))
    with pytest.raises(eplb.FileFormatError, match="expected this name alone"):
        read(path, Hints(num_ranks=NUM_RANKS))


def test_the_number_of_ranks_must_be_said(tmp_path, rng):
    """The file does not, and any other number would be a guess."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"physical_to_logical_map": sound_slots(rng).tolist()}))
    with pytest.raises(eplb.OptionError, match="--ranks N"):
        read(path)
    with pytest.raises(eplb.PlacementError, match="12 slots cannot be shared equally by 5 ranks"):
        read(path, Hints(num_ranks=5))


@pytest.mark.parametrize("ending", [".json", ".pt"])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "float64", ">i4", ">f8"])
def test_counts_there_and_back(tmp_path, rng, ending, dtype):
    """Loads of any dtype keep their values."""
    loads = rng.integers(0, 99, (2, 3, NUM_EXPERTS)).astype(dtype)
    trace = eplb.LoadTrace(loads=loads, layer_ids=LAYERS, model="m")
    path = tmp_path / f"counts{ending}"
    written = write(trace, path, "sglang")
    np.testing.assert_array_equal(read(path, Hints(layers=LAYERS)).value.loads, loads)
    assert written.warnings == ("SGLang's file has no place for model, which is lost",)


@pytest.mark.parametrize(
    ("topology", "slots", "says"),
    [
        ({"slots_per_rank": [1, 3]}, [[0, 1, 2, 0]], "same number of slots on every rank, got 1 to 3"),
        ({"slots_per_rank": 2, "failed_ranks": [1]}, [[0, 1, -1, -1]], "has no failed ranks: ranks 1 hold nothing"),
    ],
)
def test_what_sglang_cannot_have_is_refused(tmp_path, topology, slots, says):
    """And nothing is written."""
    placement = eplb.Placement(physical_to_logical=slots, topology=eplb.Topology(num_ranks=2, **topology))
    with pytest.raises(eplb.PlacementError, match=says):
        write(placement, tmp_path / "a.json", "sglang")
    assert not list(tmp_path.iterdir())


def test_what_sglang_does_not_know_is_said(tmp_path):
    """Speeds and nodes."""
    machine = eplb.Topology(num_ranks=2, slots_per_rank=2, num_nodes=2, rank_speeds=[1, 2])
    placement = eplb.Placement(physical_to_logical=[[0, 1, 2, 0]], topology=machine)
    warnings = write(placement, tmp_path / "a.json", "sglang").warnings
    assert "knows no speeds" in warnings[0] and "which node" in warnings[1]


def test_too_few_rows_are_refused(tmp_path):
    """A layer would be missing."""
    placement = eplb.Placement(
        physical_to_logical=[[0, 1]], topology=eplb.Topology(num_ranks=2, slots_per_rank=1), layer_ids=[9]
    )
    with pytest.raises(eplb.OptionError, match="at least 10"):
        write(placement, tmp_path / "a.json", "sglang", Hints(num_hidden_layers=9))
    with pytest.raises(eplb.OptionError, match="more than are written"):
        far = eplb.Placement(physical_to_logical=[[0, 1]], topology=placement.topology, layer_ids=[2**40])
        write(far, tmp_path / "a.json", "sglang")


def test_layers_far_apart_take_no_memory(tmp_path):
    """A row for each between them would be written; and text takes more than tensors."""
    machine = eplb.Topology(num_ranks=2, slots_per_rank=2500)
    placement = eplb.Placement(physical_to_logical=np.arange(5000)[None], topology=machine, layer_ids=[9000])
    with pytest.raises(eplb.FileFormatError, match=r"too many for JSON; write \.pt"):
        write(placement, tmp_path / "a.json", "sglang")
    with pytest.raises(eplb.OptionError, match="more than are written"):
        write(placement, tmp_path / "a.pt", "sglang", Hints(num_hidden_layers=16384))
    assert not list(tmp_path.iterdir())


def test_counts_of_sglang_become_a_plan(tmp_path, counts):
    """From its dump to its location, through this library's own file."""
    sglang_statistics(tmp_path / DUMP, counts)
    convert(tmp_path / DUMP, tmp_path / "loads.npz", hints=Hints(layers=LAYERS))
    plan = eplb.plan(eplb.LoadTrace.load(tmp_path / "loads.npz"), MACHINE)
    plan.placement.save(tmp_path / "plan.json")
    convert(tmp_path / "plan.json", tmp_path / "location.pt", hints=Hints(num_hidden_layers=7))
    assert read(tmp_path / "location.pt", Hints(num_ranks=NUM_RANKS, layers=LAYERS)).value == plan.placement
