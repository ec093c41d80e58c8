"""Between all formats: what is told by content, what survives, and what is left alone."""

import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eplb
from eplb.engines import Hints, convert, read, write
from eplb.engines.layers import layers_from
from eplb.engines.registry import FORMATS
from tests.engines.recordings import (
    LAYERS,
    NUM_EXPERTS,
    NUM_RANKS,
    megatron_trace,
    sglang_details,
    sglang_statistics,
    sound_slots,
    tensorrt_llm_balancer,
    tensorrt_llm_statistics,
    vllm_ascend_map,
)
from tests.test_files import little_memory

torch = pytest.importorskip("torch")
MACHINE = eplb.Topology(num_ranks=NUM_RANKS, slots_per_rank=3)
property_test = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

PLACEMENT_TARGETS = [
    ("a.json", "eplb"),
    ("a.npz", "eplb"),
    ("a.json", "sglang"),
    ("a.pt", "sglang"),
    ("a.yaml", "tensorrt-llm"),
    ("a.json", "vllm-ascend"),
]
LOADS_TARGETS = [
    ("a.npz", "eplb"),
    ("a.json", "eplb"),
    ("a.csv", "eplb"),
    ("a.zarr", "eplb"),
    ("a.json", "sglang"),
    ("a.pt", "sglang"),
    ("a", "tensorrt-llm"),
]


@pytest.fixture
def placement(rng):
    """Return a placement of three layers."""
    return eplb.Placement(physical_to_logical=sound_slots(rng), topology=MACHINE, layer_ids=LAYERS)


@pytest.fixture
def trace(rng):
    """Return loads of two windows."""
    return eplb.LoadTrace(loads=rng.integers(0, 99, (2, 3, NUM_EXPERTS)), layer_ids=LAYERS)


def emptied(folder):
    """Return `folder` without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


# ---- what is told by content


def test_every_kind_is_told_by_its_content(tmp_path, rng, placement, trace):
    """Whatever its name is."""
    counts = rng.integers(1, 9, (2, 3, 3, NUM_EXPERTS))
    sglang_statistics(tmp_path / "one", counts[0])
    vllm_ascend_map(tmp_path / "two", placement.physical_to_logical)
    tensorrt_llm_balancer(tmp_path / "three", placement.physical_to_logical)
    tensorrt_llm_statistics(tmp_path / "four", counts)
    megatron_trace(tmp_path / "five", rng.integers(0, 8, (2, 2, 3, 5, 2)))
    sglang_details(tmp_path / "six", placement.physical_to_logical, rng.integers(0, 9, (2, 2, 3, 12)))
    placement.save(tmp_path / "seven.json")
    trace.save(tmp_path / "eight.npz")
    hints = Hints(num_ranks=NUM_RANKS)
    found = {name: read(tmp_path / name, hints) for name in ("one", "two", "three", "four", "five", "six")}
    found |= {name: read(tmp_path / name) for name in ("seven.json", "eight.npz")}
    assert {name: (what.source_format, what.kind) for name, what in found.items()} == {
        "one": ("sglang", "loads"),
        "two": ("vllm-ascend", "placement"),
        "three": ("tensorrt-llm", "placement"),
        "four": ("tensorrt-llm", "loads"),
        "five": ("megatron", "loads"),
        "six": ("sglang", "loads"),
        "seven.json": ("eplb", "placement"),
        "eight.npz": ("eplb", "loads"),
    }


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", '{"a": 1}', "an object with 'a'"),
        ("a.json", '{"physical_to_logical_map": [[0', "not valid JSON .truncated"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.yaml", "a: 1\n", "got a text"),
        ("a.bin", "\0" * 100, "got a text"),
        ("a", "", "the file is empty"),
        ("a.jsonl", '{"a": 1}\n{"a": 2}\n', "an object with 'a'"),
        ("a.pt", "PK\3\4", "cannot be read"),
    ],
)
def test_what_is_none_of_them(tmp_path, name, content, says):
    """Says what was found, and what is known."""
    (tmp_path / name).write_text(content)
    with pytest.raises(eplb.FileFormatError, match=says) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_missing_files_and_other_folders(tmp_path):
    """Each says which it is."""
    with pytest.raises(eplb.FileFormatError, match="no such file"):
        read(tmp_path / "a")
    with pytest.raises(eplb.FileFormatError, match="a folder without files that are known"):
        read(tmp_path)


def test_a_folder_of_two_engines(tmp_path, rng):
    """Is read as what it is said to be."""
    tensorrt_llm_statistics(tmp_path, rng.integers(1, 9, (2, 3, 3, NUM_EXPERTS)))
    megatron_trace(tmp_path, rng.integers(0, 8, (2, 2, 3, 5, 2)))
    with pytest.raises(eplb.OptionError, match="TensorRT-LLM and Megatron-core; say which"):
        read(tmp_path)
    assert read(tmp_path, source_format="megatron").value.num_windows == 2
    with pytest.raises(eplb.OptionError, match="expected one of eplb, sglang"):
        read(tmp_path, source_format="other")


# ---- what survives


@st.composite
def placements(draw):
    """Draw a sound placement without an expert twice on a rank."""
    ranks, slots = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    experts = draw(st.integers(max(1, slots), ranks * slots))
    layers = draw(st.lists(st.integers(0, 60), min_size=1, max_size=4, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = []
    for _ in layers:
        order = rng.permutation(experts)
        rows.append(np.array([order[i % experts] for i in range(ranks * slots)]))
    machine = eplb.Topology(num_ranks=ranks, slots_per_rank=slots, num_nodes=draw(st.integers(1, ranks)))
    return eplb.Placement(
        physical_to_logical=np.array(rows), topology=machine, num_experts=experts, layer_ids=sorted(layers)
    )


@st.composite
def traces(draw):
    """Draw loads of integers or floats."""
    shape = [draw(st.integers(1, 3)) for _ in range(3)]
    layers = draw(st.lists(st.integers(0, 60), min_size=shape[1], max_size=shape[1], unique=True))
    values = draw(st.sampled_from([st.integers(0, 2**47), st.floats(0, 1e300, allow_subnormal=True)]))
    flat = draw(st.lists(values, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return eplb.LoadTrace(loads=np.array(flat).reshape(shape), layer_ids=sorted(layers))


def known_beside(value, format_name):
    """Return the hints that bring back what a format does not hold."""
    hints = {"layers": value.layer_ids.tolist()}
    if isinstance(value, eplb.Placement) and format_name != "eplb":
        hints |= {"num_nodes": value.topology.num_nodes, "num_ranks": value.topology.num_ranks}
    return Hints(experts_per_token=1, **hints)


@property_test
@given(value=placements(), route=st.lists(st.sampled_from(PLACEMENT_TARGETS), min_size=1, max_size=3))
def test_placements_survive_any_route(tmp_path, value, route):
    """Through any formats and back, with what they do not hold said, it is the same placement."""
    emptied(tmp_path / "route")
    for step, (name, known) in enumerate(route):
        path = tmp_path / "route" / f"{step}{name}"
        write(value, path, known, known_beside(value, known))
        found = read(path, known_beside(value, known))
        assert (found.value, found.source_format) == (value, known)


@property_test
@given(value=traces(), route=st.lists(st.sampled_from(LOADS_TARGETS), min_size=1, max_size=3))
def test_loads_survive_any_route(tmp_path, value, route):
    """Every number and every layer; TensorRT-LLM's folder refuses what is no count."""
    emptied(tmp_path / "route")
    whole = bool((value.loads == np.floor(value.loads)).all() and value.loads.max() < 2**48)
    for step, (name, known) in enumerate(route):
        path = tmp_path / "route" / f"{step}{name}"
        if known == "tensorrt-llm" and not whole:
            with pytest.raises(eplb.LoadsError):
                write(value, path, known, known_beside(value, known))
            continue
        write(value, path, known, known_beside(value, known))
        found = read(path, known_beside(value, known)).value
        np.testing.assert_array_equal(found.loads, value.loads)
        assert found.layer_ids.tolist() == value.layer_ids.tolist()


def test_what_loads_tell_beside_numbers(tmp_path, trace):
    """Is kept by this library's files, or said to be lost."""
    full = eplb.LoadTrace(
        loads=trace.loads, layer_ids=LAYERS, model="m", window="w", phase="decode", tokens=[5, 6], labels=["é", "b"]
    )
    for name in ("a.npz", "a.json", "a.zarr"):
        assert write(full, tmp_path / name).warnings == ()
        found = read(tmp_path / name).value
        assert (found.model, found.window, found.phase, found.labels) == ("m", "w", "decode", ("é", "b"))
        assert found.tokens.tolist() == [5, 6]
    lost = write(full, tmp_path / "a.csv").warnings
    assert lost == ("a table has no place for model, window, phase, tokens, labels, which are lost",)


# ---- layers


def test_layers_are_chosen_or_numbered(tmp_path, trace):
    """Chosen by the numbers of the file; numbered where these are as many and others."""
    trace.save(tmp_path / "a.npz")
    assert read(tmp_path / "a.npz", Hints(layers=[4, 5])).value.loads.tolist() == trace.loads[:, 1:].tolist()
    assert read(tmp_path / "a.npz", Hints(layers=[0, 2, 4])).value.layer_ids.tolist() == [0, 2, 4]
    with pytest.raises(eplb.OptionError, match="some of 3 to 5, which the file has; got 9"):
        read(tmp_path / "a.npz", Hints(layers=[4, 9]))


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "5-3", "1,1", "0-99999999", "1" * 5000, "3--4", "1,,2", "٣"])
def test_lists_of_layers_that_are_none(text):
    """The error shows the form."""
    with pytest.raises(eplb.OptionError, match="layers: expected"):
        layers_from(text)


@pytest.mark.parametrize("layers", [[], [-1], [1, 1], ["a"], [0.5], [[1]]])
def test_numbers_of_layers_that_are_none(layers):
    """In Python as on the command line."""
    with pytest.raises(eplb.OptionError, match="layers: expected"):
        Hints(layers=layers)


@pytest.mark.parametrize(
    "hints", [{"num_ranks": 0}, {"num_experts": 2**40}, {"num_hidden_layers": -1}, {"steps_per_window": 1.5}]
)
def test_hints_out_of_range(hints):
    """Are named."""
    with pytest.raises(eplb.OptionError, match=f"{next(iter(hints))}: expected an integer"):
        Hints(**hints)


# ---- what is left alone


def test_placements_of_the_format_are_replaced(tmp_path, placement):
    """And nothing else is."""
    write(placement, tmp_path / "a.json", "sglang")
    write(placement, tmp_path / "a.json", "sglang")
    with pytest.raises(eplb.FileFormatError, match="exists and is no placement of vllm-ascend"):
        write(placement, tmp_path / "a.json", "vllm-ascend")
    (tmp_path / "b.json").write_text("my notes")
    with pytest.raises(eplb.FileFormatError, match="exists and is no placement of eplb"):
        write(placement, tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == "my notes"


@pytest.mark.parametrize(("name", "known"), LOADS_TARGETS)
def test_loads_are_never_replaced(tmp_path, trace, name, known):
    """Somebody recorded them."""
    write(trace, tmp_path / name, known, Hints(experts_per_token=1))
    with pytest.raises(eplb.FileFormatError, match="loads are not replaced"):
        write(trace, tmp_path / name, known, Hints(experts_per_token=1))


def test_the_source_is_not_the_target(tmp_path, placement):
    """Not even where it would be replaced."""
    placement.save(tmp_path / "a.json")
    with pytest.raises(eplb.OptionError, match="the file that is read"):
        convert(tmp_path / "a.json", tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "known", "error", "says"),
    [
        ("a.txt", "eplb", eplb.FileFormatError, "ends in .json or .npz"),
        ("a.txt", "sglang", eplb.FileFormatError, "ends in .json or .pt"),
        ("a.txt", "tensorrt-llm", eplb.FileFormatError, "ends in .yaml or .yml"),
        ("a.txt", "vllm-ascend", eplb.FileFormatError, "ends in .json"),
        ("a.txt", None, eplb.OptionError, "the ending tells no format of placements"),
        ("a.csv", None, eplb.OptionError, "the ending tells no format of placements"),
        ("no/folder/a.json", None, eplb.FileFormatError, "cannot write here"),
        ("a.json", "other", eplb.OptionError, "format: expected one of"),
    ],
)
def test_targets_that_are_none(tmp_path, placement, name, known, error, says):
    """Nothing is written."""
    with pytest.raises(error, match=says):
        write(placement, tmp_path / name, known)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "known"), LOADS_TARGETS)
def test_a_disk_that_is_full_leaves_nothing(tmp_path, trace, name, known, monkeypatch):
    """Neither a part nor a temporary file."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    for replaced in (Path, "replace"), (Path, "rename"):
        monkeypatch.setattr(*replaced, full)
    with pytest.raises(eplb.FileFormatError, match="cannot write here: No space left"):
        write(trace, tmp_path / name, known, Hints(experts_per_token=1))
    assert not list(tmp_path.iterdir())


# ---- what does harm


class Bomb:
    """Something that leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["logical_count", "records", "physical_to_logical_map"])
def test_nothing_in_a_torch_file_is_run(tmp_path, name):
    """Whatever the dict around it says."""
    mark = tmp_path / "mark"
    torch.save({name: Bomb(mark)}, tmp_path / "a.pt")
    with pytest.raises(eplb.FileFormatError, match="plain tensors"):
        read(tmp_path / "a.pt")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


def altered(path, member, change):
    """Change the bytes of a member of an archive."""
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith(member) else content)


def test_torch_files_whose_sizes_lie(tmp_path):
    """A tensor larger than its data, a view larger than memory, a flipped bit, too much of all."""
    path = tmp_path / "a.pt"
    torch.save({"logical_count": torch.ones((2, 3, 4), dtype=torch.int64)}, path)
    altered(path, "data/0", lambda content: content[:8])
    with pytest.raises(eplb.FileFormatError, match=r"plain tensors|not in the file"):
        read(path)
    torch.save({"logical_count": torch.ones(1).expand(10**6, 10**6)}, path)
    with pytest.raises(eplb.FileFormatError, match="more than are read"):
        read(path)
    torch.save({"logical_count": torch.ones((2, 3, 4), dtype=torch.int64)}, path)
    one = (1).to_bytes(8, "little")
    path.write_bytes(path.read_bytes().replace(one * 24, one * 23 + b"\2" + bytes(7)))
    with pytest.raises(eplb.FileFormatError, match="does not match its checksum"):
        read(path)


def test_archives_that_unpack_to_too_much(tmp_path, monkeypatch):
    """Are refused by what their directory says."""
    monkeypatch.setattr("eplb.torch_files.MAX_LOADS_BYTES", 1 << 20)
    torch.save({"logical_count": torch.ones((1, 1, 4))}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/9", bytes(2 << 20))
    with little_memory(160 << 20), pytest.raises(eplb.FileFormatError, match="more than the 1,048,576 that are read"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("start", [b"[", b'{"a": ', b"\0", b"num_slots:\n", b"\n"])
def test_huge_texts_are_refused_before_they_are_read(tmp_path, start):
    """A sparse file of 3 GiB costs little memory here."""
    with (tmp_path / "a").open("wb") as stream:
        stream.write(start)
        stream.truncate(3 << 30)
    with little_memory(160 << 20), pytest.raises(eplb.FileFormatError):
        read(tmp_path / "a", Hints(num_ranks=1))


def test_long_texts_among_numbers_take_no_memory(tmp_path):
    """Numpy would make room for as long a text in every place."""
    long = "x" * (4 << 20)
    for value in (
        {"physical_to_logical_map": [[long] + ["a"] * 500]},
        {"logical_count": [[long] + ["a"] * 500]},
        {"loads": [[long] + ["a"] * 500]},
        {"loads": [[1]], "layer_ids": [long] + ["a"] * 500},
        [[long] + ["a"] * 500],
        {"format": "eplb.placement", "version": 1, "num_experts": 1, "physical_to_logical": [[0]]}
        | {"topology": {"num_ranks": 1, "slots_per_rank": [long] + ["a"] * 500}},
        {"format": "eplb.placement", "version": 1, "num_experts": 1, "physical_to_logical": [[0]]}
        | {"topology": {"num_ranks": 1, "slots_per_rank": 1}, "layer_ids": [long] + ["a"] * 500},
    ):
        (tmp_path / "a.json").write_text(json.dumps(value))
        with little_memory(160 << 20), pytest.raises(eplb.EplbError):
            read(tmp_path / "a.json", Hints(num_ranks=1))


@pytest.mark.parametrize(
    ("module", "install"), [("torch", "torch"), ("yaml", "engines"), ("safetensors.numpy", "engines")]
)
def test_missing_libraries_are_named(tmp_path, rng, monkeypatch, module, install):
    """With the command that installs them."""
    sglang_statistics(tmp_path / "torch", rng.integers(1, 9, (1, 3, NUM_EXPERTS)))
    tensorrt_llm_balancer(tmp_path / "yaml", sound_slots(rng))
    tensorrt_llm_statistics(tmp_path / "safetensors.numpy", rng.integers(1, 9, (1, 1, 3, NUM_EXPERTS)))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(eplb.MissingDependencyError, match=rf'pip install "eplb\[{install}\]"'):
        read(tmp_path / module, Hints(num_ranks=NUM_RANKS))


# ---- this library's own


def test_placements_of_uneven_and_failed_ranks_survive(tmp_path):
    """In this library's own files, whatever the engines can have."""
    machine = eplb.Topology(num_ranks=3, slots_per_rank=[2, 1, 2], num_nodes=2, rank_speeds=[1, 2, 1], failed_ranks=[1])
    placement = eplb.Placement(physical_to_logical=[[0, 1, -1, 1, 2]], topology=machine, layer_ids=[7])
    placement.save(tmp_path / "a.json")
    convert(tmp_path / "a.json", tmp_path / "b.npz")
    assert read(tmp_path / "b.npz").value == placement
    for name, known in PLACEMENT_TARGETS[2:]:
        with pytest.raises(eplb.PlacementError, match=r"failed ranks: ranks 1 hold nothing.*same number of slots"):
            convert(tmp_path / "b.npz", tmp_path / "out" / name, known)


def test_a_number_of_ranks_that_the_file_contradicts_is_refused(tmp_path, placement):
    """The library's own files say how many there are."""
    placement.save(tmp_path / "a.json")
    said = placement.topology.num_ranks
    with pytest.raises(eplb.OptionError, match=rf"num_ranks: the file has {said} ranks, got {said + 1}"):
        convert(tmp_path / "a.json", tmp_path / "b.npz", hints=Hints(num_ranks=said + 1))


def test_an_edited_placement_is_refused(tmp_path, placement):
    """Its hash tells, also where layers are chosen."""
    placement.save(tmp_path / "a.json")
    value = json.loads((tmp_path / "a.json").read_text())
    row = value["physical_to_logical"][2]
    row[0], row[11] = row[11], row[0]
    (tmp_path / "a.json").write_text(json.dumps(value))
    for hints in (None, Hints(layers=[3])):
        with pytest.raises(eplb.FileFormatError, match="does not match its hash"):
            read(tmp_path / "a.json", hints)


def test_texts_have_a_limit(tmp_path, monkeypatch):
    """And say what to write instead; integers that a table would round are refused."""
    monkeypatch.setattr("eplb.engines.own.MAX_CSV_LOADS", 5)
    monkeypatch.setattr("eplb.engines.own.MAX_JSON_LOADS", 5)
    for name in ("a.csv", "a.json"):
        with pytest.raises(eplb.LoadsError, match=r"too many.*write \.npz or \.zarr"):
            write(eplb.LoadTrace(loads=np.ones((1, 6))), tmp_path / name)
    with pytest.raises(eplb.LoadsError, match="not exact in a table"):
        write(eplb.LoadTrace(loads=[[2**53 + 1]]), tmp_path / "a.csv")


def test_every_format_has_a_page():
    """docs/engines tells of each engine."""
    pages = {page.stem for page in (Path(__file__).parents[2] / "docs" / "engines").glob("*.md")}
    assert set(FORMATS) - {"eplb"} <= pages
