"""Files that the engines' own code wrote are read, and files that are written are loaded by it.

These tests run with `make engines` alone, which fetches the code.
"""

import numpy as np
import pytest

from eplb import Placement, Topology
from eplb.engines import Hints, convert, read, write
from tests.engines import real_code

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.engine

NUM_EXPERTS, NUM_RANKS, LAYERS = 8, 4, (3, 4, 5)
MACHINE = Topology(num_ranks=NUM_RANKS, slots_per_rank=3)
SGLANG = {"ep_size": NUM_RANKS, "ep_num_redundant_experts": 4}
HINTS = Hints(num_ranks=NUM_RANKS, layers=LAYERS, num_hidden_layers=7)


@pytest.fixture
def placement(rng):
    """Return a placement of three layers with four redundant experts and no expert twice on a rank."""
    rows = [rng.permutation(NUM_EXPERTS) for _ in LAYERS]
    slots = [[*row, *row[[3, 4, 0, 1]]] for row in rows]
    return Placement(physical_to_logical=np.array(slots), topology=MACHINE, layer_ids=LAYERS)


def topk_ids(rng, num_tokens, most):
    return torch.from_numpy(rng.integers(0, most, (num_tokens, 2)))


# ---- SGLang


@pytest.mark.parametrize("ending", [".json", ".pt"])
def test_sglang_loads_the_location(monkeypatch, tmp_path, placement, ending):
    """Every slot and every expert's slots are those of the placement; dense layers have SGLang's trivial map."""
    path = tmp_path / f"location{ending}"
    write(placement, path, "sglang", HINTS)
    settings = {"num_layers": 7, "num_experts": NUM_EXPERTS, **SGLANG}
    found = real_code.sglang_location(monkeypatch, init_expert_location=str(path), **settings)()
    trivial = real_code.sglang_location(monkeypatch, init_expert_location="trivial", **settings)()
    assert found.physical_to_logical_map[list(LAYERS)].tolist() == placement.physical_to_logical.tolist()
    assert found.physical_to_logical_map[[0, 1, 2, 6]].equal(trivial.physical_to_logical_map[[0, 1, 2, 6]])
    slots = found.logical_to_all_physical_map[list(LAYERS), :, : placement.replica_counts.max()]
    np.testing.assert_array_equal(slots, placement.logical_to_physical)


@pytest.mark.parametrize("ending", [".json", ".pt"])
def test_sglang_plans_from_counts(monkeypatch, tmp_path, placement, rng, ending):
    """Its loader takes the counts and gives its planner what was recorded, in the rows of the layers."""
    path, loads = tmp_path / f"counts{ending}", rng.integers(0, 99, (2, 3, NUM_EXPERTS))
    np.savez(tmp_path / "a.npz", loads=loads, layer_ids=LAYERS)
    convert(tmp_path / "a.npz", path, "sglang", HINTS)
    given = {}

    def plan(**arguments):
        given.update(arguments)
        return [torch.zeros(7, MACHINE.num_slots), torch.zeros(7, NUM_EXPERTS, 1), None]

    settings = {"num_layers": 7, "num_experts": NUM_EXPERTS, **SGLANG}
    real_code.sglang_location(monkeypatch, init_expert_location=str(path), plan=plan, **settings)()
    counts = given["tokens_per_expert"]
    assert counts.shape == (2, 7, NUM_EXPERTS) and counts[:, list(LAYERS)].tolist() == loads.tolist()


def recorded(monkeypatch, folder, placement, mode, ranks, steps, rng):
    """Let SGLang's recorder see random tokens on each rank, and return the loads that were routed."""
    write(placement, folder / "location.json", "sglang", HINTS)
    path = str(folder / "location.json")
    location = real_code.sglang_location(
        monkeypatch, num_layers=7, num_experts=NUM_EXPERTS, init_expert_location=path, **SGLANG
    )()
    expected = np.zeros((steps, 7, NUM_EXPERTS), dtype=np.int64)
    for rank in range(ranks):
        recorder = real_code.sglang_recorder(
            monkeypatch, folder / "dumps", location, rank, expert_distribution_recorder_mode=mode, **SGLANG
        )
        for step in range(steps):
            batch = real_code.forward_batch(4)
            with recorder.with_forward_pass(step, batch):
                for layer in LAYERS:
                    ids = topk_ids(rng, 4, MACHINE.num_slots)
                    with recorder.with_current_layer(layer):
                        recorder.on_select_experts(ids)
                    experts = placement.physical_to_logical[LAYERS.index(layer)][ids.numpy()]
                    np.add.at(expected[step, layer], experts, 1)
        recorder.dump_record()
    return expected


@pytest.mark.parametrize("mode", ["per_pass", "per_token"])
def test_details_of_sglang_are_added_up(monkeypatch, tmp_path, placement, rng, mode):
    """Physical counts of the ranks become loads of experts, a forward pass a window."""
    expected = recorded(monkeypatch, tmp_path, placement, mode, ranks=3, steps=5, rng=rng)
    found = read(tmp_path / "dumps")
    np.testing.assert_array_equal(found.value.loads, expected)
    assert "added up over the 3 ranks 0 to 2" in found.notes
    assert "0, 1, 2, 6" in found.warnings[0]


@pytest.mark.parametrize(("buffer", "empty"), [(-1, 0), (8, 3)])
def test_statistics_of_sglang_are_read(monkeypatch, tmp_path, placement, rng, buffer, empty):
    """Logical counts of the buffer's steps; steps of the ring that were never filled are left out."""
    settings = real_code.sglang_settings
    monkeypatch.setattr(
        real_code,
        "sglang_settings",
        lambda **moe: settings(**{**moe, "expert_distribution_recorder_buffer_size": buffer}),
    )
    expected = recorded(monkeypatch, tmp_path, placement, "stat", ranks=1, steps=5, rng=rng)
    (dump,) = (tmp_path / "dumps").iterdir()
    found = read(dump, Hints(layers=LAYERS))
    np.testing.assert_array_equal(found.value.loads, expected[:, list(LAYERS)])
    assert any(f"{empty} of 8 steps" in note for note in found.notes) == bool(empty)


# ---- vllm-ascend


def test_vllm_ascend_loads_the_map(monkeypatch, tmp_path, placement):
    """Each layer by its position; the slot of each expert on each rank is the placement's."""
    path = tmp_path / "map.json"
    write(placement, path, "vllm-ascend")
    functions = real_code.vllm_ascend_maps(monkeypatch)
    for layer, row in enumerate(placement.physical_to_logical):
        found, count = functions.expert_file_to_tensor(str(path), layer)
        assert found.tolist() == row.reshape(NUM_RANKS, -1).tolist() and count == MACHINE.num_slots
    with pytest.raises(ValueError, match="Invalid EPLB Table"):
        functions.expert_file_to_tensor(str(path), len(LAYERS) + 1)


def test_vllm_ascend_routes_by_the_map(monkeypatch, tmp_path, placement):
    """The physical id that it sends an expert's tokens to is a slot of that expert."""
    path = tmp_path / "map.json"
    write(placement, path, "vllm-ascend")
    functions = real_code.vllm_ascend_maps(monkeypatch)
    config = real_code.SimpleNamespace(expert_map_path=str(path), dynamic_eplb=False, num_redundant_experts=0)
    for rank in range(NUM_RANKS):
        moe = real_code.SimpleNamespace(num_experts=NUM_EXPERTS, ep_size=NUM_RANKS, ep_rank=rank)
        for layer, row in enumerate(placement.physical_to_logical):
            _, _, slot_of, redundant = functions.init_eplb_config(config, layer, moe)
            assert row[slot_of.numpy()].tolist() == list(range(NUM_EXPERTS))
            assert redundant == MACHINE.num_slots - NUM_EXPERTS


def test_maps_that_vllm_ascend_recorded_are_read(monkeypatch, tmp_path, placement):
    """Its record of expert maps, [layers, ranks, experts] of local slots, is the placement again."""
    maps = torch.full((len(LAYERS), NUM_RANKS, NUM_EXPERTS), -1)
    for layer, row in enumerate(placement.physical_to_logical.reshape(len(LAYERS), NUM_RANKS, -1)):
        for rank, experts in enumerate(row):
            maps[layer, rank, experts.tolist()] = torch.arange(len(experts))
    real_code.vllm_ascend_recorder(monkeypatch)(maps, tmp_path / "map.json")
    assert read(tmp_path / "map.json", Hints(layers=LAYERS)).value == placement


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list of numpy.ndarrays")
def test_shared_experts_that_vllm_ascend_mixes_in_stay(monkeypatch, tmp_path):
    """Its own mixed placement is read without them, and written with them where they were."""
    functions = real_code.vllm_ascend_maps(monkeypatch)
    mixed = functions.generate_global_placement(NUM_EXPERTS + 2, NUM_RANKS, 4, 2)
    maps = torch.full((1, NUM_RANKS, NUM_EXPERTS + 2), -1)
    for rank, experts in enumerate(mixed):
        maps[0, rank, experts.tolist()] = torch.arange(len(experts))
    real_code.vllm_ascend_recorder(monkeypatch)(maps, tmp_path / "map.json")
    found = read(tmp_path / "map.json", Hints(num_experts=NUM_EXPERTS))
    assert found.value.num_experts == NUM_EXPERTS and "hold shared experts" in found.warnings[0]
    write(found.value, tmp_path / "again.json", "vllm-ascend", Hints(shared_from=tmp_path / "map.json"))
    again, _ = functions.expert_file_to_tensor(str(tmp_path / "again.json"), 0)
    assert again.equal(mixed)


# ---- Megatron-core


def test_traces_of_megatron_are_counted(monkeypatch, tmp_path, rng):
    """Hooks that fire layer after layer, on two ranks; multi-token prediction is left out."""
    expected = np.zeros((3, 2, NUM_EXPERTS), dtype=np.int64)
    for rank in range(2):
        tracer = real_code.megatron_tracer(monkeypatch, tmp_path, rank)
        for step in range(3):
            for row, layer in enumerate((1, 2)):
                ids = topk_ids(rng, 5, NUM_EXPERTS)
                tracer._record(object(), (), (torch.zeros(2), ids), identity=("decoder", None, layer))
                np.add.at(expected[step, row], ids.numpy(), 1)
            tracer._record(object(), (), (torch.zeros(2), ids), identity=("mtp", 0, 0))
        tracer.flush()
    found = read(tmp_path, Hints(num_experts=NUM_EXPERTS, layers=(4, 5)))
    np.testing.assert_array_equal(found.value.loads, expected)
    assert found.value.layer_ids.tolist() == [4, 5]
    assert "6 records of multi-token prediction are left out" in found.notes


def test_the_sink_of_megatron_is_counted(monkeypatch, tmp_path, rng):
    """Indices of all layers at once, with the model's numbers, a training iteration a window."""
    tracer = real_code.megatron_tracer(monkeypatch, tmp_path, 0, training_mode=True)
    expected = np.zeros((2, 3, NUM_EXPERTS), dtype=np.int64)
    for step in range(2):
        ids = torch.from_numpy(rng.integers(0, NUM_EXPERTS, (6, 3, 2)))
        tracer.record_indices(ids, layer_ids=[2, 3, 4])
        tracer.advance_step(5000 + step)
        for row in range(3):
            np.add.at(expected[step, row], ids[:, row].numpy(), 1)
    (file,) = tmp_path.iterdir()
    found = read(file, Hints(num_experts=NUM_EXPERTS))
    np.testing.assert_array_equal(found.value.loads, expected)
    assert found.value.layer_ids.tolist() == [2, 3, 4] and "one rank alone" in found.warnings[0]
