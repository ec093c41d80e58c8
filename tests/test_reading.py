"""Loads from files: every kind, and every way in which a file can be wrong."""

import json
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eplb.errors import EplbError, FileFormatError, LoadsError, MissingDependencyError
from eplb.reading import read_loads
from eplb.trace import LoadTrace
from tests.test_files import little_memory

SUFFIXES = (".npz", ".npy", ".json", ".csv", ".pt", ".bin")
TWO_LAYERS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
THREE_AXES = np.arange(24).reshape(2, 3, 4)
fuzz = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def saved(tmp_path):
    """Write text or bytes under a name, and return the path."""

    def save(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return save


def valid_bytes(folder, suffix):
    """Return the bytes of a sound file of that kind."""
    path = folder / f"valid{suffix}"
    if suffix == ".npz":
        LoadTrace(loads=THREE_AXES, model="m", labels=("a", "b")).save(path)
    elif suffix == ".npy":
        np.save(path, THREE_AXES)
    elif suffix == ".json":
        path.write_text(json.dumps({"loads": THREE_AXES.tolist(), "model": "m"}))
    elif suffix == ".csv":
        path.write_text("layer,expert,load\n0,0,5\n0,1,6\n")
    else:
        torch = pytest.importorskip("torch")
        torch.save({"loads": torch.from_numpy(THREE_AXES)}, path)
    return path.read_bytes()


def assert_named_error(path):
    """Reading ends in an error of ours that names the file, or in loads."""
    try:
        trace = read_loads(path)
    except EplbError as exc:
        assert str(exc).startswith(f"{path}: ")
    else:
        assert isinstance(trace, LoadTrace)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".json", ".pt"])
def test_reads_windows(tmp_path, saved, suffix):
    """Three axes stay three."""
    path = saved(f"loads{suffix}", valid_bytes(tmp_path, suffix))
    np.testing.assert_array_equal(read_loads(path).loads, THREE_AXES)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt"])
def test_binary_files_are_told_by_content(tmp_path, saved, suffix):
    """Whatever they are called."""
    path = saved("loads.dat", valid_bytes(tmp_path, suffix))
    np.testing.assert_array_equal(read_loads(path).loads, THREE_AXES)


def test_one_estimate_is_one_window(tmp_path):
    """Two axes are layers and experts."""
    np.save(tmp_path / "a.npy", TWO_LAYERS)
    assert read_loads(tmp_path / "a.npy").loads.shape == (1, 2, 3)


def test_json_object_holds_the_other_fields(saved):
    """As the arrays of an .npz do."""
    path = saved("a.json", '{"loads": [[[1, 2]], [[3, 4]]], "layer_ids": [7], "model": "m", "tokens": [3, 7]}')
    trace = read_loads(path)
    assert trace.layer_ids.tolist() == [7] and trace.model == "m" and trace.tokens.tolist() == [3, 7]


def test_csv_matrix(saved):
    """A line a layer; blank lines and comments are no lines, and Windows' line ends and marks are fine."""
    path = saved("a.csv", b'\xef\xbb\xbf# loads\r\n1,2,3\r\n\r\n4, 5,"6"\r\n')
    np.testing.assert_array_equal(read_loads(path).loads[0], TWO_LAYERS)


def test_csv_long(saved):
    """Rows and columns in any order; layers keep their ids and windows their sequence."""
    lines = ["Window,expert,layer,load"]
    lines += [f"{t + 5},{e},{2 * i + 1},{THREE_AXES[t, i, e]}" for e in range(4) for t in (1, 0) for i in range(3)]
    trace = read_loads(saved("a.csv", "\n".join(lines)))
    np.testing.assert_array_equal(trace.loads, THREE_AXES)
    assert trace.layer_ids.tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n", "line 1, column 1: expected a number"),
        ("1,2\n3,x\n", "line 2, column 2"),
        ("1,2\n3\n", "line 2: expected 2 columns"),
        ("0,1,2,3\n5,6,7,8\n", "as a header does"),
        ("1;2\n3;4\n", "got '1;2'"),
        ("1,-2\n", "-2.0 at [0, 1]"),
        ("1,inf\n", "inf at"),
        ("# nothing\n", "no rows"),
        ("layer,expert,load\n", "no rows"),
        ("layer,expert,load,speed\n0,0,1,1\n", "expected the header"),
        ("layer,expert,load\n0,0,1\n0,2,1\n", "zeros too"),
        ("layer,expert,load\n0,0,1\n0,0,1\n", "twice"),
        ("layer,expert,load\n0,0.5,1\n", "column expert"),
        ("layer,expert,load\n-1,0,1\n", "column layer"),
        ("layer,expert,load\n0,1e300,1\n", "column expert"),
        ("layer,expert,load\n0,nan,1\n", "column expert"),
        ("layer,expert,load\n0,4000000000000,1\n", "zeros too"),
    ],
)
def test_csv_errors_name_the_place(saved, content, says):
    """So that the line can be found and repaired."""
    with pytest.raises(EplbError) as caught:
        read_loads(saved("a.csv", content))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        ("[[1, 2], [3]]", LoadsError, "rectangular"),
        ("[[1, NaN]]", LoadsError, "nan at"),
        ("[[1, -1]]", LoadsError, "-1 at"),
        ("[]", LoadsError, "shape (0,)"),
        ("5", LoadsError, "shape ()"),
        ('[["a"]]', LoadsError, "dtype"),
        ('{"load": [[1]]}', FileFormatError, "'load'"),
        ('{"loads": [[1]], "model": 3}', FileFormatError, "model: expected a text"),
        ('{"loads": [[1]], "layer_ids": [[1], [2, 3]]}', EplbError, ""),
        ('{"loads": [[1]], "phase": "both"}', LoadsError, "phase"),
        ('{"format": "eplb.placement"}', FileFormatError, "a placement, not loads"),
        ('{"loads": [[1', FileFormatError, "truncated"),
        ("[" * 100_000, FileFormatError, ""),
    ],
)
def test_json_errors(saved, content, error, says):
    """What was expected, and what came."""
    with pytest.raises(error) as caught:
        read_loads(saved("a.json", content))
    assert says in str(caught.value) and "a.json: " in str(caught.value)


def test_token_ids_are_no_loads(tmp_path):
    """The error says what to do with them."""
    np.savez(tmp_path / "a.npz", ids=np.zeros((4, 2, 1), dtype=np.int8))
    with pytest.raises(FileFormatError, match="token ids"):
        read_loads(tmp_path / "a.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    """They could run anything."""
    np.save(tmp_path / "a.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(FileFormatError, match="pickled"):
        read_loads(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["a.parquet", "a"])
def test_other_kinds_are_refused_with_those_read(saved, name):
    """The list is the help."""
    with pytest.raises(FileFormatError, match=r"\.npz, \.npy, \.json, \.csv, \.pt"):
        read_loads(saved(name, "x"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_and_missing_files(saved, tmp_path, suffix):
    """Each says which it is."""
    with pytest.raises(FileFormatError, match="empty"):
        read_loads(saved(f"a{suffix}", b""))
    with pytest.raises(FileFormatError, match="no such file"):
        read_loads(tmp_path / f"b{suffix}")


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.npy", "a.pt"])
def test_huge_files_are_refused_before_they_are_read(tmp_path, name):
    """A sparse file of 3 GiB costs no memory here."""
    with (tmp_path / name).open("wb") as stream:
        stream.write(b"\x93NUMPY" if name == "a.npy" else b"[")
        stream.truncate(3 << 30)
    with pytest.raises(FileFormatError, match="more than"):
        read_loads(tmp_path / name)


@pytest.mark.parametrize("name", ["loads", "layer_ids", "tokens", "labels"])
def test_a_long_text_takes_no_memory(saved, name):
    """Numpy would make room for as long a text in every place, 8 GiB here."""
    fields = {"loads": [[1, 2]], name: [["x" * (1 << 20)] + ["a"] * 2000]}
    fields[name] = fields[name] if name == "loads" else fields[name][0]
    file = saved("a.json", json.dumps(fields))
    with little_memory(64 << 20), pytest.raises(EplbError, match=f"a.json: {name}: "):
        read_loads(file)


def test_zip_bombs_are_refused(tmp_path, monkeypatch):
    """The size unpacked counts, not that of the file."""
    monkeypatch.setattr("eplb.reading.MAX_LOADS_BYTES", 1 << 20)
    monkeypatch.setattr("eplb.reading._check_size.__defaults__", (1 << 20,))
    np.savez_compressed(tmp_path / "a.npz", loads=np.zeros((1, 1, 1 << 20), dtype=np.int8))
    with pytest.raises(FileFormatError, match="more than"):
        read_loads(tmp_path / "a.npz")


def test_an_archive_of_something_else(tmp_path):
    """A zip file that is neither .npz nor .pt."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FileFormatError, match="array 'loads'"):
        read_loads(tmp_path / "a.npz")


@pytest.fixture
def torch():
    """PyTorch, which is an extra."""
    return pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32", "int64"])
def test_tensors_of_any_dtype(torch, tmp_path, dtype):
    """Numpy has no bfloat16, people do."""
    torch.save(torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)), tmp_path / "a.pt")
    np.testing.assert_array_equal(read_loads(tmp_path / "a.pt").loads[0], [[0, 1, 2], [3, 4, 5]])


def test_counts_that_sglang_records(torch, tmp_path):
    """Its name for loads; a tensor with a gradient is a tensor; the older format is read."""
    content = {"logical_count": torch.ones(2, 3, 4, requires_grad=True), "rank": 0}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert read_loads(tmp_path / "a.pt").loads.shape == (2, 3, 4)


def test_nothing_but_tensors_is_unpickled(torch, tmp_path):
    """A pickle that names functions is refused, and not with the advice to run it."""
    torch.save([np.array, print], tmp_path / "a.pt")
    with pytest.raises(FileFormatError, match="plain tensors") as caught:
        read_loads(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value)


def test_other_content_of_torch_files(torch, tmp_path):
    """A list is no tensor, a sparse tensor no array, and a view can be larger than its file."""
    for content, says in (
        ([1, 2], "expected a tensor"),
        (torch.ones(2, 2).to_sparse(), "cannot be read"),
        (torch.ones(1).expand(10**6, 10**6), "more than"),
    ):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(FileFormatError, match=says):
            read_loads(tmp_path / "a.pt")


def test_without_torch(torch, tmp_path, monkeypatch):
    """The error holds the command that installs it."""
    torch.save(torch.ones(2, 2), tmp_path / "a.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "eplb\[torch\]"'):
        read_loads(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", SUFFIXES)
@fuzz
@given(content=st.binary(max_size=300))
def test_random_bytes(saved, suffix, content):
    """Whatever the name."""
    assert_named_error(saved(f"a{suffix}", content))


@pytest.mark.parametrize(
    "magic", [b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"PK\x03\x04", b"\x80\x02", b"layer,expert,load\n"]
)
@fuzz
@given(content=st.binary(max_size=200) | st.text(alphabet="{}'()[],:|<>fiubOdescrshape0123456789 \n", max_size=120))
def test_random_bytes_after_a_sound_start(saved, magic, content):
    """Which come further into the decoders."""
    content = content if isinstance(content, bytes) else len(content).to_bytes(2, "little") + content.encode()
    for suffix in (".npy", ".csv", ".pt"):
        assert_named_error(saved(f"a{suffix}", magic + content))


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".json", ".csv", ".pt"])
@fuzz
@given(data=st.data())
def test_cut_and_altered_files(tmp_path, saved, suffix, data):
    """A sound file, cut somewhere or with a few bytes changed."""
    content = bytearray(valid_bytes(tmp_path, suffix))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    assert_named_error(saved(f"a{suffix}", bytes(content)))
