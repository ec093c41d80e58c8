"""TraceStore: a trace that grows on disk, whole after every crash, and refused when it was damaged."""

import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb import EplbError, FileFormatError, LoadsError, LoadTrace, MissingDependencyError, TraceStore
from eplb import trace_folder as folder_of_store
from eplb import trace_store as module
from eplb.reading import read_loads
from tests.test_files import disk_full_after
from tests.test_trace import assert_same, traces


@pytest.fixture
def trace():
    """Return a trace of four windows, two layers and three experts with every field set."""
    return LoadTrace(
        loads=np.arange(24).reshape(4, 2, 3),
        layer_ids=[3, 7],
        model="tiny",
        window="32 decode steps",
        phase="decode",
        tokens=[10, 20, 30, 40],
        labels=["a", "", "c", "ä"],
    )


@pytest.fixture
def path(tmp_path):
    """Return where a store may be made."""
    return tmp_path / "served.zarr"


@pytest.fixture
def store(path, trace):
    """Return a store that holds the trace."""
    return TraceStore.from_trace(path, trace)


def empty_like(path, trace, **changed):
    """Return a store without windows for those of `trace`."""
    about = {name: getattr(trace, name) for name in ("num_experts", "layer_ids", "model", "window", "phase")}
    return TraceStore.create(path, **{**about, "dtype": trace.loads.dtype, **changed})


def append(store, trace):
    store.append(trace.loads, tokens=trace.tokens, labels=trace.labels)


def edit_json(file, **changed):
    """Change the names given in a JSON file, and its hash if it has one."""
    content = {**json.loads(file.read_text()), **changed}
    if content.pop("hash", None):
        content["hash"] = folder_of_store._hash({k: v for k, v in content.items() if k != "hash"})
    file.write_text(json.dumps(content))


# ---- what comes back


@given(traces())
@settings(deadline=None, max_examples=40)
def test_every_trace_comes_back(tmp_path_factory, trace):
    """All fields survive, dtypes included."""
    path = tmp_path_factory.mktemp("store") / "trace.zarr"
    trace.save(path)
    assert_same(LoadTrace.load(path), trace)


@given(traces(), st.data())
@settings(deadline=None, max_examples=20)
def test_many_appends_are_one(tmp_path_factory, trace, data):
    """Cut anywhere, the pieces make the whole, through an object that stays or is opened anew."""
    path = tmp_path_factory.mktemp("store") / "trace.zarr"
    store = empty_like(path, trace)
    cuts = sorted(data.draw(st.sets(st.integers(1, trace.num_windows))) | {0, trace.num_windows})
    for first, last in itertools.pairwise(cuts):
        append(store, trace.part(first, last))
        store = data.draw(st.sampled_from([store, TraceStore.open(path)]))
    assert_same(LoadTrace.load(path), trace)


def test_the_store_tells_what_it_holds(store, trace):
    """Sizes and names are there without reading a window."""
    assert (store.num_windows, store.num_layers, store.num_experts) == (4, 2, 3)
    assert (store.model, store.window, store.phase) == ("tiny", "32 decode steps", "decode")
    assert store.layer_ids.tolist() == [3, 7] and not store.layer_ids.flags.writeable
    assert store.loads_bytes == trace.loads.nbytes
    assert repr(store).endswith("served.zarr', 4 windows x 2 layers x 3 experts)")


def test_one_window_needs_no_axis(path):
    """[L, E] is one window."""
    store = TraceStore.create(path, num_experts=2, layer_ids=[0])
    store.append([[3, 4]])
    assert store.part(0, 1).loads.tolist() == [[[3, 4]]]


def test_a_part_reads_its_windows_alone(store, trace, path):
    """The other windows may even be gone."""
    for lost in (0, 3):
        (path / "loads" / f"{lost}.0.0").unlink()
    assert_same(store.part(1, 3), trace.part(1, 3))


@pytest.mark.parametrize("slab_bytes", [1, 100, 1 << 20])
def test_iterating_holds_a_slab(store, trace, monkeypatch, slab_bytes):
    """Each window comes alone, and no more than a slab of them is read at once."""
    monkeypatch.setattr(module, "SLAB_BYTES", slab_bytes)
    read, sizes = folder_of_store.read_part, []
    monkeypatch.setattr(module, "read_part", lambda *args: sizes.append(args[3] - args[2]) or read(*args))
    for index, window in enumerate(store):
        assert_same(window, trace.part(index, index + 1))
    assert sum(sizes) == 4 and max(sizes) == min(4, max(1, slab_bytes // 48))


def test_zarr_alone_reads_it(store, trace, path):
    """The folder is a plain Zarr group."""
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["loads"][:], trace.loads)
    np.testing.assert_array_equal(group["tokens"][:], trace.tokens)
    assert group.attrs["format"] == "eplb.trace" and group.attrs["num_windows"] == 4


def test_windows_of_zeros_are_kept(path):
    """A window without load is no lost window."""
    TraceStore.from_trace(path, LoadTrace(loads=np.zeros((3, 1, 2))))
    assert LoadTrace.load(path).loads.tolist() == [[[0.0, 0.0]]] * 3


# ---- crashes


def crash(*_):
    raise KeyboardInterrupt


def test_an_append_that_was_interrupted_is_not_seen(store, trace, path, monkeypatch):
    """Before the commit the old windows count; the next append overwrites what was left."""
    with monkeypatch.context() as crashing, pytest.raises(KeyboardInterrupt):
        crashing.setattr(folder_of_store, "commit", crash)
        append(store, LoadTrace(loads=trace.loads + 100, tokens=trace.tokens, labels=trace.labels))
    assert (path / "loads" / "7.0.0").exists()
    assert_same(LoadTrace.load(path), trace)
    append(store, trace.part(1, 2))
    assert_same(TraceStore.open(path).part(4, 5), trace.part(1, 2))


def test_a_chunk_that_is_half_written_is_overwritten(store, trace, path):
    """What lies behind the windows that count is not looked at."""
    for name, chunk in (("loads", "4.0.0"), ("tokens", "4"), ("labels", "4.0")):
        (path / name / chunk).write_bytes(b"half")
    append(TraceStore.open(path), trace.part(3, 4))
    assert_same(TraceStore.open(path).part(4, 5), trace.part(3, 4))


def test_a_full_disk_leaves_the_old_windows(path, rng):
    """The error names the store, and the store is as it was."""
    loads = rng.integers(0, 10**6, (2, 8, 64))
    store = TraceStore.from_trace(path, LoadTrace(loads=loads))
    with disk_full_after(1000), pytest.raises(FileFormatError, match=r"served.zarr: cannot be written: File too large"):
        store.append(loads)
    assert LoadTrace.load(path).loads.tolist() == loads.tolist()


@pytest.mark.parametrize("old", [None, LoadTrace(loads=[[[7]]])])
def test_saving_that_was_interrupted_leaves_what_was_there(trace, path, monkeypatch, old):
    """Nothing, or the old store, and nothing beside it."""
    if old:
        old.save(path)
    with monkeypatch.context() as crashing, pytest.raises(KeyboardInterrupt):
        crashing.setattr(folder_of_store, "write_windows", crash)
        trace.save(path)
    assert list(path.parent.iterdir()) == ([path] if old else [])
    if old:
        assert_same(LoadTrace.load(path), old)


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(store, trace, path, monkeypatch):
    """When the second of two renames fails, the first is undone."""
    rename = Path.rename

    def failing(self, target):
        if self.suffix != ".old" and target == path:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(FileFormatError, match=r"served.zarr: cannot write here: No space left"):
        trace.part(0, 1).save(path)
    assert_same(LoadTrace.load(path), trace)
    assert list(path.parent.iterdir()) == [path]


# ---- what is there already


def test_saving_replaces_a_store_and_nothing_else(store, trace, path):
    """As with files, the new one takes the place; but no other folder is removed."""
    trace.part(0, 1).save(path)
    assert LoadTrace.load(path).num_windows == 1
    (path / ".zattrs").unlink()
    with pytest.raises(FileFormatError, match=r"served.zarr: exists and is no trace store; remove it first"):
        trace.save(path)
    assert (path / "loads").is_dir()


def test_a_link_is_not_replaced(store, trace, tmp_path, path):
    """Neither the link nor what it leads to."""
    (tmp_path / "link.zarr").symlink_to(path)
    with pytest.raises(FileFormatError, match=r"link.zarr: exists and is no trace store"):
        trace.save(tmp_path / "link.zarr")
    assert_same(LoadTrace.load(tmp_path / "link.zarr"), trace)


def test_a_new_store_is_made_where_nothing_is(store, trace, path):
    """The message says how to append to the one there."""
    for make in (lambda: empty_like(path, trace), lambda: TraceStore.from_trace(path, trace)):
        with pytest.raises(FileFormatError, match=r"exists already; open it with eplb.TraceStore.open, or remove"):
            make()


def test_places_where_no_store_can_be(trace, tmp_path):
    """Another ending, and a folder that is missing."""
    with pytest.raises(FileFormatError, match=r"trace: expected a name that ends in .zarr"):
        TraceStore.from_trace(tmp_path / "trace", trace)
    with pytest.raises(FileFormatError, match=r"a.zarr: cannot write here: No such file"):
        trace.save(tmp_path / "missing" / "a.zarr")


# ---- what is refused


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_experts": 0}, "num_experts: expected an integer >= 1, got 0"),
        ({"num_experts": 2.0}, "num_experts: expected an integer >= 1, got 2.0"),
        ({"num_experts": 10**12}, "a window takes .* bytes, more than"),
        ({"layer_ids": []}, "at least one entry"),
        ({"layer_ids": [1, 1]}, "layer_ids: expected distinct ids >= 0, got 1 at index 1"),
        ({"layer_ids": 3}, "layer_ids: expected a list of integers"),
        ({"model": None}, "model: expected a text"),
        ({"phase": "idle"}, "phase: expected one of"),
        ({"dtype": "M8[D]"}, "dtype: expected integers or floats of at most 64 bits, got datetime64"),
        ({"dtype": "O"}, "dtype: .* got object"),
        ({"dtype": "integer"}, "dtype: expected integers or floats"),
    ],
)
def test_a_store_of_no_trace_is_refused(trace, path, changed, message):
    """Before anything is written."""
    with pytest.raises(LoadsError, match=message):
        empty_like(path, trace, **changed)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"loads": np.ones((1, 3, 3), dtype=int)},
            r"loads: expected \[2, 3\] .layers, experts. a window, got \[3, 3\]",
        ),
        ({"loads": [[1, 2, 3], [4, -5, 6]]}, r"got -5 at \[1, 1\]"),
        ({"loads": [[0.5, 0, 0], [0, 0, 0]]}, r"fits the store's int64 exactly, got 0.5 at \[0, 0, 0\]; create"),
        ({"loads": [[2.0**60, 0, 0], [0, 0, 0]]}, r"exactly, got 1.152.* at \[0, 0, 0\]"),
        ({"tokens": None}, "tokens: expected with all windows or none; those before have them"),
        ({"labels": None}, "labels: expected with all windows or none; those before have them"),
        ({"tokens": [1, 2]}, r"tokens: expected one integer a window \(1\), got 2"),
        ({"labels": ["ä" * 513]}, "at most 1,024 bytes of UTF-8 without NUL a label, got 1,026 at index 0: 'äää"),
        ({"labels": ["a\0"]}, "without NUL"),
    ],
)
def test_windows_of_another_kind_are_refused(store, trace, path, changed, message):
    """And nothing is written."""
    fields = {"loads": np.ones((2, 3), dtype=int), "tokens": [1], "labels": ["a"], **changed}
    with pytest.raises(LoadsError, match=message):
        store.append(**fields)
    assert_same(LoadTrace.load(path), trace)


@pytest.mark.parametrize(
    ("kept_as", "loads", "fits"),
    [
        ("u1", [255], True),
        ("u1", [256], False),
        ("i8", np.array([2**63], dtype="u8"), False),
        ("u8", [2**63 - 1], True),
        ("f4", [2**24 - 1], True),
        ("f4", [2**24 + 1], False),
        ("f8", [2**53 + 1], False),
        ("f4", [0.1], False),
        ("f8", np.array([0.1], dtype="f4"), True),
        ("f2", [1e5], False),
        ("i2", [5.0], True),
    ],
)
def test_loads_are_kept_exactly_or_refused(path, kept_as, loads, fits):
    """Whatever the dtypes, no number becomes another."""
    store = TraceStore.create(path, num_experts=1, layer_ids=[0], dtype=kept_as)
    if not fits:
        with pytest.raises(LoadsError, match="exactly"):
            store.append([loads])
        return
    store.append([loads])
    assert (store.part(0, 1).loads.ravel() == np.asarray(loads)).all()
    assert store.part(0, 1).loads.dtype == np.dtype(kept_as)


def test_two_that_append_are_told(store, trace, path):
    """The second would overwrite the first."""
    append(TraceStore.open(path), trace.part(0, 1))
    with pytest.raises(FileFormatError, match=r"served.zarr: another process appended since .* open it again"):
        append(store, trace)
    assert (store.num_windows, TraceStore.open(path).num_windows) == (4, 5)


@pytest.mark.parametrize(("first", "last"), [(0, 5), (2, 2), (-1, 1), (0, 1.0)])
def test_a_part_is_inside_the_store(store, first, last):
    """The message names the store and how many windows it has."""
    with pytest.raises(LoadsError, match=r"served.zarr: part: expected integers 0 <= first < last <= 4, got "):
        store.part(first, last)


def test_a_store_without_windows_is_no_trace_yet(path, trace):
    """It can be opened and appended to, not loaded."""
    assert list(empty_like(path, trace)) == []
    for read in (LoadTrace.load, read_loads):
        with pytest.raises(LoadsError, match=r"served.zarr: part: there are no windows yet"):
            read(path)


def test_more_than_memory_is_refused(store, path, monkeypatch):
    """Before it is taken."""
    monkeypatch.setattr("eplb.reading._check_size.__defaults__", (100,))
    with pytest.raises(FileFormatError, match=r"served.zarr: 192 bytes, more than the 100 that are read"):
        read_loads(path)
    monkeypatch.setattr(module, "MAX_ARRAY_BYTES", 100)
    with pytest.raises(FileFormatError, match=r"served.zarr: 192 bytes, more than the 100 .* take fewer windows"):
        LoadTrace.load(path)
    assert store.part(1, 3).num_windows == 2


# ---- damage


@pytest.mark.parametrize("read", [LoadTrace.load, read_loads, TraceStore.open])
def test_what_is_no_store_is_named(tmp_path, path, read):
    """A missing folder, a file, an empty folder, another Zarr group."""
    with pytest.raises(FileFormatError, match=r"served.zarr: no such f"):
        read(path)
    path.mkdir()
    with pytest.raises(FileFormatError, match=r"served.zarr: not a trace store: it has no .zattrs"):
        read(path)
    (path / ".zattrs").write_text('{"format": "other"}')
    with pytest.raises(FileFormatError, match=r"served.zarr: not a trace store: expected format 'eplb.trace'"):
        read(path)
    shutil.rmtree(path)
    path.write_text("loads")
    with pytest.raises(FileFormatError, match=r"served.zarr"):
        read(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 2}, "trace store version 2, this eplb reads 1; update eplb"),
        ({"num_windows": -1}, "describes no trace: num_windows: expected an integer >= 0, got -1"),
        ({"num_windows": True}, "describes no trace: num_windows"),
        ({"num_windows": 10**6}, r"\.zarray: expected the header of at least 1000000 windows"),
        ({"num_experts": "3"}, "describes no trace: num_experts"),
        ({"num_experts": 10**15}, "describes no trace: a window takes"),
        ({"layer_ids": ["3", "7"]}, "describes no trace: layer_ids: expected a list of integers"),
        ({"layer_ids": 5}, "describes no trace"),
        ({"phase": ["decode"]}, "describes no trace: phase"),
        ({"dtype": "O"}, "describes no trace: dtype"),
        ({"dtype": "1000000000i8"}, "describes no trace: dtype"),
        ({"dtype": "<f8"}, "dtype float64 with the codecs that eplb writes"),
        ({"fields": ["tokens", "extra"]}, "describes no trace: fields"),
        ({"fields": [{}]}, "describes no trace"),
        ({"fields": None}, "describes no trace"),
        ({"more": 1}, "describes no trace"),
    ],
)
def test_a_description_of_something_else_is_refused(store, path, changed, message):
    """Even with a hash that fits."""
    edit_json(path / ".zattrs", **changed)
    with pytest.raises(FileFormatError, match=rf"served.zarr.*{message}"):
        LoadTrace.load(path)


def test_an_edited_description_is_refused(store, path):
    """Its hash tells."""
    file = path / ".zattrs"
    file.write_text(file.read_text().replace('"num_windows": 4', '"num_windows": 3'))
    with pytest.raises(FileFormatError, match=r"served.zarr: .zattrs does not match its hash"):
        TraceStore.open(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "pickle"}},
        {"dtype": "|O"},
        {"chunks": [10**9, 2, 3]},
        {"shape": [3, 2, 3]},
        {"shape": ["4", 2, 3]},
        {"shape": None},
        {"order": "F"},
    ],
)
def test_a_header_of_another_program_is_refused(store, path, changed):
    """Zarr never sees it: its codecs include pickle, which runs what a file says."""
    edit_json(path / "loads" / ".zarray", **changed)
    with pytest.raises(FileFormatError, match=r"\.zarray: expected the header of at least 4 windows of shape \(2, 3\)"):
        LoadTrace.load(path)


@pytest.mark.parametrize("chunk", ["loads/2.0.0", "tokens/0", "labels/3.0"])
def test_a_lost_window_is_named(store, path, chunk):
    """It is not read as zeros."""
    (path / chunk).unlink()
    with pytest.raises(FileFormatError, match=rf"{chunk}: no such file; window \d was lost"):
        LoadTrace.load(path)


def test_a_flipped_bit_is_never_read_as_another_trace(store, trace, path):
    """In no file of the folder: it gives a named error, or hit nothing that counts."""
    for file in [file for file in path.rglob("*") if file.is_file()]:
        whole = file.read_bytes()
        for bit in range(0, 8 * len(whole), 67):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            try:
                assert_same(LoadTrace.load(path), trace)
            except EplbError as error:
                assert str(error).startswith(f"{path}"), error
        file.write_bytes(whole)


def test_a_file_that_is_called_so_is_read_by_its_content(tmp_path, trace):
    """Only a folder is a store."""
    trace.save(tmp_path / "a.npz")
    (tmp_path / "a.npz").rename(tmp_path / "a.zarr")
    assert_same(read_loads(tmp_path / "a.zarr"), trace)


def test_without_zarr(store, trace, tmp_path, path, monkeypatch):
    """The error holds the command that installs it."""
    monkeypatch.setitem(sys.modules, "zarr", None)
    calls = (TraceStore.open, LoadTrace.load, read_loads, lambda _: trace.save(tmp_path / "other.zarr"))
    for call in calls:
        with pytest.raises(MissingDependencyError, match=r'pip install "eplb\[zarr\]"'):
            call(path)
    with pytest.raises(MissingDependencyError, match="install"):
        empty_like(tmp_path / "other.zarr", trace)
