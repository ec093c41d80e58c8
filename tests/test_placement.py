"""Placement: maps, moves, hash, and files that are whole or refused."""

import copy
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import FileFormatError, Placement, PlacementError, Topology, TopologyError
from tests.test_files import disk_full_after, little_memory

ENDINGS = (".json", ".npz")
NAMED = (FileFormatError, PlacementError, TopologyError)

# These hashes are a promise: ranks that compare hashes may run other releases on other machines.
SMALL_HASH = "fb7d337cc3f2f66a7fd92eab697cca86f6d4a39f2cb8295e905ad311efa7c543"
FAILED_HASH = "79819cfff81ff50dd1b19eefe7bea94a2551cad6e59175007648fd462c7b2f15"


@pytest.fixture
def small():
    """Return two layers of three experts on two ranks of unequal speed."""
    return Placement(
        physical_to_logical=[[0, 1, 2, 0], [2, 1, 0, 1]],
        topology=Topology(num_ranks=2, slots_per_rank=2, rank_speeds=[1, 1.5], num_nodes=[1, 0]),
        layer_ids=[3, 7],
    )


@pytest.fixture
def with_failure():
    """Return one layer of three experts where the last of three ranks failed."""
    topology = Topology(num_ranks=3, slots_per_rank=[1, 2, 2], failed_ranks=[2])
    return Placement(physical_to_logical=[[0, 1, 2, -1, -1]], topology=topology)


@st.composite
def topologies(draw):
    """Draw a topology of few ranks, with uneven slots, speeds and failures."""
    num_ranks = draw(st.integers(1, 5))
    slots = draw(st.lists(st.integers(1, 3), min_size=num_ranks, max_size=num_ranks))
    speeds = draw(st.lists(st.sampled_from([0.25, 1.0, 3.0]), min_size=num_ranks, max_size=num_ranks))
    failed = draw(st.sets(st.integers(0, num_ranks - 1), max_size=num_ranks - 1))
    return Topology(num_ranks=num_ranks, slots_per_rank=slots, rank_speeds=speeds, failed_ranks=sorted(failed))


@st.composite
def placements(draw, num_layers=None, num_experts=None):
    """Draw a sound placement; slots beyond one an expert hold any expert."""
    topology = draw(topologies())
    usable = np.flatnonzero(topology.alive[topology.rank_of_slot])
    if num_experts is not None and num_experts > usable.size:
        topology = Topology(num_ranks=2, slots_per_rank=num_experts)
        usable = np.arange(2 * num_experts)
    num_experts = num_experts or draw(st.integers(1, usable.size))
    slots = np.full((num_layers or draw(st.integers(1, 3)), topology.num_slots), -1)
    for row in slots:
        extra = draw(
            st.lists(
                st.integers(0, num_experts - 1),
                min_size=usable.size - num_experts,
                max_size=usable.size - num_experts,
            )
        )
        row[usable] = draw(st.permutations([*range(num_experts), *extra]))
    return Placement(physical_to_logical=slots, topology=topology, num_experts=num_experts)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


def assert_same(found, expected):
    assert found.hash == expected.hash
    assert found.topology == expected.topology
    assert found.num_experts == expected.num_experts
    assert found.layer_ids.tolist() == expected.layer_ids.tolist()
    assert np.array_equal(found.physical_to_logical, expected.physical_to_logical)


def assert_refused_or_same(path, expected):
    """A damaged file gives a named error, or what it held when the damage hit nothing that counts."""
    try:
        found = Placement.load(path)
    except NAMED as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert_same(found, expected)


def assert_unsound(match, **changes):
    sound = {"physical_to_logical": [[0, 1, 2, 0]], "topology": Topology(num_ranks=2, slots_per_rank=2)}
    with pytest.raises(PlacementError, match=match):
        Placement(**{**sound, **changes})


def document_of(placement, folder):
    placement.save(folder / "document.json")
    return json.loads((folder / "document.json").read_text())


def load_document(document, folder):
    path = folder / "edited.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return Placement.load(path)


# ---- maps


def test_replicas_are_found_in_both_directions(small):
    """Counts and the inverse map follow from the slots; -1 pads."""
    assert small.replica_counts.tolist() == [[2, 1, 1], [1, 2, 1]]
    assert small.logical_to_physical.tolist() == [[[0, 3], [1, -1], [2, -1]], [[2, -1], [1, 3], [0, -1]]]


def test_failed_ranks_hold_nothing(with_failure):
    """Slots of failed ranks hold -1 and are nobody's replica."""
    assert with_failure.replica_counts.tolist() == [[1, 1, 1]]
    assert with_failure.logical_to_physical.tolist() == [[[0], [1], [2]]]


@given(placements())
@settings(deadline=None)
def test_maps_agree_with_plain_loops(placement):
    """Counts and the inverse map equal what a search through the slots finds."""
    inverse = placement.logical_to_physical
    for layer, slots in enumerate(placement.physical_to_logical.tolist()):
        for expert in range(placement.num_experts):
            found = [slot for slot, held in enumerate(slots) if held == expert]
            assert placement.replica_counts[layer, expert] == len(found)
            assert inverse[layer, expert].tolist() == found + [-1] * (inverse.shape[2] - len(found))


def test_experts_and_layers_have_defaults(with_failure):
    """Experts number as many as the ids that stand there; layers count from 0."""
    assert (with_failure.num_experts, with_failure.num_layers) == (3, 1)
    assert with_failure.layer_ids.tolist() == [0]


def test_a_placement_does_not_change(small):
    """Every array is read-only, the one that is built late too."""
    for name in ("physical_to_logical", "layer_ids", "replica_counts", "logical_to_physical"):
        assert not getattr(small, name).flags.writeable, name
    assert small.logical_to_physical is small.logical_to_physical


def test_what_the_caller_passed_stays_the_callers():
    """The slots are copied: the caller's array is neither frozen nor looked at again."""
    slots = np.array([[0, 1]], dtype=np.int32)
    placement = Placement(physical_to_logical=slots, topology=Topology(num_ranks=1, slots_per_rank=2))
    slots[:] = 0
    assert placement.physical_to_logical.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([[0, 1, 2]], r"expected \[layers, 4 slots\] for 2 ranks, got shape \(1, 3\)"),
        ([0, 1, 2, 0], r"got shape \(4,\)"),
        (np.zeros((0, 4), dtype=int), r"got shape \(0, 4\)"),
        ([[0, 1, 2, 0], [0, 1]], "expected a rectangular array .*inhomogeneous"),
        ([[0.0, 1.0, 2.0, 0.0]], "expected integers, got dtype float64"),
        ([[0, 1, 2, None]], "expected integers, got dtype object"),
        ([["0", "1", "2", "0"]], "expected integers, got dtype <U1"),
        ([[False, True, True, True]], "expected integers, got dtype bool"),
        ([[0, 1, 2, 10**30]], "expected integers, got dtype object"),
        ([[0, 1, 2, 2**31]], r"expected ids of -1 to 2\*\*31 - 1, got 2147483648 at layer 0, slot 3"),
        ([[0, 1, 2, -2]], r"expected ids of -1 to 2\*\*31 - 1, got -2 at layer 0, slot 3"),
        ([[0, -1, 2, 1]], "expected an id of 0 to 2, got -1 at layer 0, slot 1"),
        ([[0, 1, 2, 0], [0, 2, 2, 0]], "expert 1 of layer 1 has no replica"),
        ([[0, 1, 3, 0]], "expert 2 of layer 0 has no replica"),
    ],
)
def test_unsound_slots_are_refused(slots, message):
    """The message names shape, dtype, or the first bad layer, slot and expert."""
    assert_unsound(f"physical_to_logical: .*{message}", physical_to_logical=slots)


def test_an_id_on_a_failed_rank_is_refused():
    """Slots of failed ranks must say -1."""
    topology = Topology(num_ranks=2, slots_per_rank=2, failed_ranks=[1])
    assert_unsound(
        r"expected -1 \(its rank failed\), got 1 at layer 0, slot 3",
        physical_to_logical=[[0, 1, -1, 1]],
        topology=topology,
    )


@pytest.mark.parametrize(
    ("num_experts", "message"),
    [
        (0, "expected an integer >= 1, got 0"),
        (True, "expected an integer >= 1, got True"),
        (3.0, "expected an integer >= 1, got 3.0"),
        ("3", "expected an integer >= 1, got '3'"),
        (5, "5 experts cannot all stand in 4 slots"),
        (10**12, "1000000000000 experts cannot all stand in 4 slots"),
    ],
)
def test_a_wrong_number_of_experts_is_refused(num_experts, message):
    """The number of experts is an integer that fits the slots."""
    assert_unsound(f"num_experts: {message}", num_experts=num_experts)


def test_ids_beyond_the_experts_are_refused():
    """An id must be below the number of experts that was given."""
    assert_unsound("expected an id of 0 to 1, got 2 at layer 0, slot 2", num_experts=2)


@pytest.mark.parametrize(
    ("layer_ids", "message"),
    [
        ([1], r"expected one id a layer \(2\), got 1"),
        ([4, 4], "expected distinct ids >= 0, got 4 at index 1"),
        ([0, -3], "expected distinct ids >= 0, got -3 at index 1"),
        ([0.0, 1.0], r"expected a list of integers, got shape \(2,\) of dtype float64"),
        ([[0], [1, 2]], "expected a list of integers; .*inhomogeneous"),
    ],
)
def test_wrong_layer_ids_are_refused(layer_ids, message):
    """Layers have distinct ids, one each."""
    assert_unsound(f"layer_ids: {message}", physical_to_logical=[[0, 1, 2, 0]] * 2, layer_ids=layer_ids)


def test_something_else_than_a_topology_is_refused():
    """A number of ranks is no topology."""
    assert_unsound("topology: expected an eplb.Topology, got int", topology=2)


# ---- hash


def test_the_hash_is_a_promise(small, with_failure):
    """The hash of these placements is the same on every machine and in every release."""
    assert small.hash == SMALL_HASH
    assert with_failure.hash == FAILED_HASH


@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<i8", "u1"])
def test_equal_placements_share_their_hash(small, dtype):
    """Byte order, width and memory layout of what was passed do not count, nor how the topology was written."""
    slots = np.asfortranarray(small.physical_to_logical.astype(dtype))
    topology = Topology(num_ranks=2, slots_per_rank=[2, 2], rank_speeds=np.float32([1, 1.5]), num_nodes=(1, 0))
    assert Placement(physical_to_logical=slots, topology=topology, layer_ids=(3, 7)).hash == small.hash


@pytest.mark.parametrize(
    "change",
    [
        {"physical_to_logical": [[1, 0, 2, 0], [2, 1, 0, 1]]},
        {"layer_ids": [3, 8]},
        {"topology": Topology(num_ranks=2, slots_per_rank=2, rank_speeds=[1, 1.5])},
        {"topology": Topology(num_ranks=2, slots_per_rank=2, num_nodes=[1, 0])},
        {"topology": Topology(num_ranks=2, slots_per_rank=[1, 3], rank_speeds=[1, 1.5], num_nodes=[1, 0])},
    ],
)
def test_other_placements_have_other_hashes(small, change):
    """Slots, layers, speeds, nodes and ranks all count."""
    same = {name: getattr(small, name) for name in ("physical_to_logical", "topology", "layer_ids")}
    assert Placement(**same).hash == small.hash
    assert Placement(**{**same, **change}).hash != small.hash


# ---- moves


def held(placement):
    """Return the set of (layer, rank, expert) that are there."""
    ranks = placement.topology.rank_of_slot.tolist()
    return {
        (layer, rank, expert)
        for layer, slots in enumerate(placement.physical_to_logical.tolist())
        for rank, expert in zip(ranks, slots, strict=True)
        if expert >= 0
    }


@given(st.data())
@settings(deadline=None)
def test_moves_are_what_was_not_there_before(data):
    """Moves are the difference of two sets, between topologies of any number of ranks."""
    num_layers, num_experts = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    before, after = (data.draw(placements(num_layers, num_experts)) for _ in range(2))
    assert before.moves_to(after).tolist() == [list(move) for move in sorted(held(after) - held(before))]


def test_a_copy_inside_a_rank_is_no_move():
    """Swapping slots of a rank, or copying within it, crosses no rank."""
    topology = Topology(num_ranks=2, slots_per_rank=3)
    before = Placement(physical_to_logical=[[0, 1, 2, 0, 1, 2]], topology=topology)
    after = Placement(physical_to_logical=[[2, 1, 0, 1, 1, 2]], topology=topology)
    assert before.moves_to(after).shape == (0, 3)


def test_moves_to_a_larger_machine_fill_the_new_ranks(small):
    """A rank that was not there before receives all that it holds."""
    topology = Topology(num_ranks=3, slots_per_rank=2)
    larger = Placement(physical_to_logical=[[0, 1, 2, 0, 1, 2], [2, 1, 0, 1, 0, 0]], topology=topology)
    assert small.moves_to(larger).tolist() == [[0, 2, 1], [0, 2, 2], [1, 2, 0]]


def test_moves_to_another_model_are_refused(small, with_failure):
    """Placements of other layers or experts have no moves between them."""
    with pytest.raises(PlacementError, match=r"other: expected 2 layers x 3 experts, got 1 x 3"):
        small.moves_to(with_failure)
    with pytest.raises(PlacementError, match=r"other: expected an eplb.Placement, got list"):
        small.moves_to([[0, 1, 2, 0]])


# ---- files


@pytest.mark.parametrize("ending", [*ENDINGS, ".JSON", ".NPZ"])
def test_a_saved_placement_comes_back(small, tmp_path, ending):
    """What was saved is loaded, speeds, nodes and layer ids included."""
    path = tmp_path / f"placement{ending}"
    small.save(path)
    assert_same(Placement.load(path), small)


@given(placements(), st.sampled_from(ENDINGS))
@settings(deadline=None, max_examples=50)
def test_every_placement_comes_back(placement, ending):
    """Failed ranks, uneven slots and speeds survive both formats."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"placement{ending}")
        placement.save(path)
        assert_same(Placement.load(path), placement)


def test_the_json_file_is_plain(small, tmp_path):
    """The file holds what other programs need, in names that say what it is."""
    document = document_of(small, tmp_path)
    assert document["format"] == "eplb.placement"
    assert document["physical_to_logical"] == [[0, 1, 2, 0], [2, 1, 0, 1]]
    assert document["topology"]["rank_speeds"] == [1.0, 1.5]
    assert document["hash"] == SMALL_HASH


@pytest.mark.parametrize("name", ["placement", "placement.txt", "placement.json.gz"])
def test_an_unknown_ending_is_refused_before_anything_is_written(small, tmp_path, name):
    """The message says which endings there are."""
    with pytest.raises(FileFormatError, match=f"{name}: expected a name that ends in .json or .npz"):
        small.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_the_old_file(small, with_failure, tmp_path, ending):
    """A write that fails half way leaves what was there, and nothing beside it."""
    path = tmp_path / f"placement{ending}"
    with_failure.save(path)
    with disk_full_after(100), pytest.raises(FileFormatError, match="cannot write here: File too large"):
        small.save(path)
    assert_same(Placement.load(path), with_failure)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_cut_off_anywhere_is_refused(small, tmp_path, ending):
    """A proper prefix of a file is an error, except that JSON does not miss its last line feed."""
    path = tmp_path / f"placement{ending}"
    small.save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole.rstrip(b"\n")), 2):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"truncated|not a readable|no header"):
            Placement.load(path)


@pytest.mark.parametrize("name", ["physical_to_logical", "layer_ids", "slots_per_rank", "rank_speeds", "num_nodes"])
def test_a_long_text_takes_no_memory(small, tmp_path, name):
    """Numpy would make room for as long a text in every place, 8 GiB here."""
    document, texts = document_of(small, tmp_path), ["x" * (1 << 20)] + ["a"] * 2000
    part = document if name in document else document["topology"]
    part[name] = [texts, texts[1:]] if name == "physical_to_logical" else texts
    with little_memory(64 << 20), pytest.raises(NAMED, match="with texts among them, such as 'xxxx"):
        load_document(document, tmp_path)


@pytest.mark.parametrize(("ending", "every"), [(".json", 5), (".npz", 17)])
def test_a_flipped_bit_is_never_read_as_another_placement(small, tmp_path, ending, every):
    """A flipped bit gives a named error, or hit nothing that counts."""
    path = tmp_path / f"placement{ending}"
    small.save(path)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), every):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert_refused_or_same(path, small)


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda d: d["physical_to_logical"][0].__setitem__(0, 2), FileFormatError, "does not match its hash"),
        (lambda d: d["physical_to_logical"].reverse(), FileFormatError, "does not match its hash"),
        (lambda d: d["topology"].__setitem__("rank_speeds", [1.0, 2.0]), FileFormatError, "does not match its hash"),
        (lambda d: d.__setitem__("layer_ids", [3, 8]), FileFormatError, "does not match its hash"),
        (lambda d: d.pop("layer_ids"), FileFormatError, "does not match its hash"),
        (lambda d: d.__setitem__("hash", ["x"]), FileFormatError, "does not match its hash"),
        (lambda d: d["physical_to_logical"][1].__setitem__(0, 1), PlacementError, "expert 2 of layer 1 has no replica"),
        (lambda d: d["physical_to_logical"][0].__setitem__(1, "1"), PlacementError, "expected integers, got dtype <U"),
        (lambda d: d["physical_to_logical"][0].__setitem__(1, 1.5), PlacementError, "expected integers, got dtype fl"),
        (lambda d: d["physical_to_logical"][0].append(0), PlacementError, "expected a rectangular array"),
        (lambda d: d.__setitem__("physical_to_logical", [[[0]]]), PlacementError, r"got shape \(1, 1, 1\)"),
        (lambda d: d.__setitem__("num_experts", 10**300), PlacementError, "cannot all stand in 4 slots"),
        (lambda d: d["topology"].__setitem__("num_ranks", 10**12), TopologyError, "expected at most 1048576"),
        (lambda d: d["topology"].__setitem__("slots_per_rank", [[1], [2, 3]]), TopologyError, "inhomogeneous"),
        (lambda d: d["topology"].__setitem__("rank_speeds", ["1", "2"]), TopologyError, "of dtype <U1"),
        (lambda d: d["topology"].__setitem__("rank_speeds", [1, float("nan")]), TopologyError, "got nan at rank 1"),
        (lambda d: d["topology"].__setitem__("racks", 2), TopologyError, "unexpected keyword argument 'racks'"),
        (lambda d: d["topology"].pop("num_ranks"), TopologyError, "missing .*'num_ranks'"),
        (lambda d: d.__setitem__("topology", [2, 2]), FileFormatError, "lacks a topology"),
        (lambda d: d.pop("num_experts"), FileFormatError, "lacks num_experts"),
        (lambda d: d.__setitem__("version", 2), FileFormatError, "placement version 2, this eplb reads 1; update eplb"),
        (lambda d: d.__setitem__("format", "other"), FileFormatError, "expected format 'eplb.placement'"),
    ],
)
def test_an_edited_file_is_refused(small, tmp_path, edit, error, message):
    """Whatever was edited, the error says in which file and what is wrong with it."""
    document = document_of(small, tmp_path)
    edit(document)
    with pytest.raises(error, match=f"edited.json: .*{message}"):
        load_document(document, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "null", "3", "[]", "{}", '"eplb.placement"', "\x00", "{" * 100_000, "[" * 100_000]
)
def test_json_that_is_no_placement_is_refused(tmp_path, text):
    """Anything but an object of our format is not ours."""
    with pytest.raises(FileFormatError, match=r"edited.json: not (a placement|valid JSON)"):
        load_document(text, tmp_path)


def test_a_name_that_comes_twice_is_refused(small, tmp_path):
    """Which of two values counts is not left to the parser."""
    text = json.dumps(document_of(small, tmp_path))
    with pytest.raises(FileFormatError, match="the name 'num_experts' comes twice"):
        load_document(text.replace('"num_experts"', '"num_experts": 3, "num_experts"'), tmp_path)


@given(st.sampled_from(["file", "topology"]), st.integers(0, 7), json_values)
@settings(deadline=None, max_examples=300)
def test_hostile_values_are_refused_by_name(where, place, value):
    """No JSON value in any place makes another error than ours, or another placement."""
    original = Placement(physical_to_logical=[[0, 1]], topology=Topology(num_ranks=1, slots_per_rank=2))
    with tempfile.TemporaryDirectory() as folder:
        document = document_of(original, Path(folder))
        fields = document if where == "file" else document["topology"]
        fields[list(fields)[place % len(fields)]] = value
        path = Path(folder, "edited.json")
        path.write_text(json.dumps(document))
        assert_refused_or_same(path, original)


@pytest.mark.parametrize("header", ["", "3", "{", "[" * 100_000, '{"format": "other"}'])
def test_an_npz_without_our_header_is_refused(tmp_path, header):
    """Arrays alone are no placement, whatever text stands beside them."""
    path = tmp_path / "foreign.npz"
    np.savez(path, header=np.array(header), physical_to_logical=np.zeros((1, 2), dtype=int))
    with pytest.raises(FileFormatError, match=r"foreign.npz: not a placement"):
        Placement.load(path)


def test_an_npz_with_an_edited_slot_is_refused(small, tmp_path):
    """The hash guards the binary format too."""
    path = tmp_path / "placement.npz"
    small.save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["physical_to_logical"][0, 0] = 2
    arrays["physical_to_logical"][0, 2] = 0
    np.savez(path, **arrays)
    with pytest.raises(FileFormatError, match="the content does not match its hash"):
        Placement.load(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_of_the_other_format_is_refused(small, tmp_path, ending):
    """The ending says what is inside; if it lies, that is said."""
    right, wrong = tmp_path / f"a{ending}", tmp_path / f"b{ENDINGS[ending == '.json']}"
    small.save(right)
    right.rename(wrong)
    with pytest.raises(FileFormatError, match=r"not a readable .npz file|not valid JSON|expected UTF-8 text"):
        Placement.load(wrong)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_file_is_named(tmp_path, ending):
    """A file that is not there is named, as an error of ours."""
    with pytest.raises(FileFormatError, match=f"nowhere{ending}: no such file"):
        Placement.load(tmp_path / f"nowhere{ending}")


def test_a_copy_is_equal_and_as_read_only():
    """Pickle and deepcopy, which processes and Ray use, give the same placement, protected as before."""
    placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    for twin in (pickle.loads(pickle.dumps(placement)), copy.deepcopy(placement)):
        assert twin == placement
        assert hash(twin) == hash(placement)
        assert not twin.physical_to_logical.flags.writeable
        assert not twin.replica_counts.flags.writeable
        assert not twin.topology.slot_counts.flags.writeable
    assert placement != Placement(physical_to_logical=[[0, 1, 2, 1]], topology=placement.topology)
