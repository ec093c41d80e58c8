"""vllm-ascend: expert maps, with and without shared experts."""

import json

import numpy as np
import pytest

import eplb
from eplb.engines import Hints, read, write
from tests.engines.recordings import LAYERS, NUM_EXPERTS, NUM_RANKS, sound_slots, vllm_ascend_map

MACHINE = eplb.Topology(num_ranks=NUM_RANKS, slots_per_rank=3)


@pytest.fixture
def placement(rng):
    """Return a placement of three layers, not in order."""
    return eplb.Placement(physical_to_logical=sound_slots(rng), topology=MACHINE, layer_ids=LAYERS)


def with_shared(slots):
    """Return `slots` with a shared expert, 8 or 9, in the middle of each rank's."""
    ranks = slots.reshape(len(slots), NUM_RANKS, -1)
    shared = np.broadcast_to(np.array([8, 9, 8, 9])[:, None], (len(slots), NUM_RANKS, 1))
    return np.concatenate([ranks[:, :, :1], shared, ranks[:, :, 1:]], axis=2).reshape(len(slots), -1)


def test_maps_there_and_back(tmp_path, placement):
    """Layers are counted in the file; their numbers are said."""
    written = write(placement, tmp_path / "a.json", "vllm-ascend")
    assert read(tmp_path / "a.json", Hints(layers=LAYERS)).value == placement
    assert "its 0 to 2 are the model's 3 to 5" in written.notes[0]


def test_layers_are_counted_in_order(tmp_path, rng):
    """Whatever order a placement has them in."""
    slots = sound_slots(rng)
    placement = eplb.Placement(physical_to_logical=slots, topology=MACHINE, layer_ids=[9, 2, 5])
    write(placement, tmp_path / "a.json", "vllm-ascend")
    found = read(tmp_path / "a.json", Hints(layers=[2, 5, 9])).value
    np.testing.assert_array_equal(found.physical_to_logical, slots[[1, 2, 0]])


def test_numbers_of_layers_must_be_as_many(tmp_path, rng):
    """A file that counts has nothing to choose by."""
    vllm_ascend_map(tmp_path / "a.json", sound_slots(rng))
    with pytest.raises(eplb.OptionError, match="one number for each of the 3 layers, got 2"):
        read(tmp_path / "a.json", Hints(layers=[0, 1]))


def test_ranks_are_in_the_file(tmp_path, rng):
    """So others are refused."""
    vllm_ascend_map(tmp_path / "a.json", sound_slots(rng))
    with pytest.raises(eplb.OptionError, match="the file has 4 ranks, got 2"):
        read(tmp_path / "a.json", Hints(num_ranks=2))


def test_shared_experts_stay_where_they_are(tmp_path, placement):
    """They are no part of the placement, and come back to their slots when another is written."""
    vllm_ascend_map(tmp_path / "a.json", with_shared(placement.physical_to_logical))
    found = read(tmp_path / "a.json", Hints(num_experts=NUM_EXPERTS, layers=LAYERS))
    assert found.value == placement and "4 slots of each layer hold shared experts" in found.warnings[0]
    other = eplb.plan(np.arange(24.0).reshape(3, 8), MACHINE).placement
    write(other, tmp_path / "b.json", "vllm-ascend", Hints(shared_from=tmp_path / "a.json"))
    vllm_ascend_map(tmp_path / "c.json", with_shared(other.physical_to_logical))
    assert json.loads((tmp_path / "b.json").read_text()) == json.loads((tmp_path / "c.json").read_text())


def test_shared_experts_in_other_slots_are_refused(tmp_path, placement):
    """A rank would have more slots in one layer than in another."""
    slots = with_shared(placement.physical_to_logical)
    slots[1, [1, 2]] = slots[1, [2, 1]]
    vllm_ascend_map(tmp_path / "a.json", slots)
    with pytest.raises(eplb.PlacementError, match="in other slots at index 1"):
        read(tmp_path / "a.json", Hints(num_experts=NUM_EXPERTS))


def test_another_map_holds_other_shared_experts(tmp_path, placement):
    """Slots, layers and experts must be the same, and there must be some."""
    vllm_ascend_map(tmp_path / "a.json", placement.physical_to_logical)
    with pytest.raises(eplb.OptionError, match="holds no shared experts"):
        write(placement, tmp_path / "b.json", "vllm-ascend", Hints(shared_from=tmp_path / "a.json"))
    vllm_ascend_map(tmp_path / "a.json", with_shared(placement.physical_to_logical[:2]))
    with pytest.raises(eplb.PlacementError, match="expected 2 layers"):
        write(placement, tmp_path / "b.json", "vllm-ascend", Hints(shared_from=tmp_path / "a.json"))
    assert not (tmp_path / "b.json").exists()


def test_an_expert_twice_on_a_rank_is_refused(tmp_path):
    """vllm-ascend finds slots by experts."""
    placement = eplb.Placement(
        physical_to_logical=[[0, 0, 1, 2]], topology=eplb.Topology(num_ranks=2, slots_per_rank=2)
    )
    with pytest.raises(eplb.PlacementError, match="cannot hold an expert twice on a rank: layer 0, rank 0, expert 0"):
        write(placement, tmp_path / "a.json", "vllm-ascend")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda m: m.pop("layer_list"), eplb.FileFormatError, "expected an object with 'layer_list'"),
        (lambda m: m.pop("moe_layer_count"), eplb.FileFormatError, "moe_layer_count: expected an integer"),
        (lambda m: m.update(moe_layer_count=2), eplb.FileFormatError, "expected 3, as layer_list has; got 2"),
        (lambda m: m.update(layer_list=[]), eplb.FileFormatError, "moe_layer_count"),
        (lambda m: m["layer_list"].reverse(), eplb.FileFormatError, "layer_id: expected 0, since vllm-ascend goes by"),
        (lambda m: m["layer_list"][1].pop("device_count"), eplb.FileFormatError, "device_count is missing"),
        (lambda m: m["layer_list"][1]["device_list"].pop(), eplb.FileFormatError, "device_count: expected 3"),
        (lambda m: m["layer_list"].__setitem__(1, 7), eplb.FileFormatError, r"layer_list\[1\]: expected an object"),
        (lambda m: _device(m).update(device_id=0), eplb.FileFormatError, "device_id: expected 1"),
        (lambda m: _device(m).update(device_expert=[]), eplb.PlacementError, "expected 3 experts on each of 4"),
        (lambda m: _device(m).update(device_expert="012"), eplb.FileFormatError, "device_expert: expected a list"),
        (lambda m: _device(m).update(device_expert=[0, 1.5, 2]), eplb.PlacementError, "got 1.5 at index 1"),
        (lambda m: _device(m).update(device_expert=[0, True, 2]), eplb.PlacementError, "got True at index 1"),
        (lambda m: _device(m).update(device_expert=[0, -1, 2]), eplb.PlacementError, "expected an id of 0 to"),
        (lambda m: _device(m).update(device_expert=[0, 2**70, 2]), eplb.PlacementError, "ids below 2"),
    ],
)
def test_maps_that_are_none(tmp_path, rng, change, error, says):
    """Each is named with its layer and device."""
    path = vllm_ascend_map(tmp_path / "a.json", sound_slots(rng))
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(error, match=says):
        read(path)


def _device(value):
    return value["layer_list"][1]["device_list"][1]
