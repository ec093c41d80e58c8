"""Files: written whole or not at all, read from anywhere without harm."""

import io
import json
import os
import pickle
import re
import resource
import stat
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from eplb import FileFormatError
from eplb.files import existing_file, read_json, read_npy, read_npz, read_text, write_atomically

MIB = 1 << 20


class Bomb:
    """Something that leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def old(tmp_path):
    """Return a file that holds something already."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    return path


@contextmanager
def disk_full_after(num_bytes):
    """Let the system refuse to write any file beyond `num_bytes`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def little_memory(most_bytes=8 * MIB):
    """Fail when Python and numpy allocate more than `most_bytes` in the block."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most_bytes


def npy(shape, data=b"", descr="<i4", fortran=False):
    """Return the bytes of an .npy file whose header may lie."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": fortran, "descr": descr})
    return stream.getvalue() + data


def npy_with_header(header):
    """Return the start of an .npy file with any header text."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write_npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def assert_only(path, content):
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def assert_npy_refused(path, content, match):
    path.write_bytes(content)
    with little_memory(), pytest.raises(FileFormatError, match=f"{path.name}: {match}"):
        read_npy(path)


def assert_npz_refused(path, match):
    with little_memory(), pytest.raises(FileFormatError, match=f"{path.name}: {match}"):
        read_npz(path, ["loads"])


# ---- writing


def test_a_file_is_replaced(old):
    """A write that succeeds replaces the file, and leaves nothing beside it."""
    write_atomically(old, lambda stream: stream.write(b"new"))
    assert_only(old, b"new")


@pytest.mark.parametrize("error", [KeyError("half way"), KeyboardInterrupt(), MemoryError()])
def test_a_write_that_fails_leaves_the_old_file(old, error):
    """Whatever goes wrong half way leaves as it is, and the file stays as it was."""

    def write(stream):
        stream.write(b"ne")
        raise error

    with pytest.raises(type(error)):
        write_atomically(old, write)
    assert_only(old, b"old")


def test_a_disk_that_is_full_leaves_the_old_file(old):
    """The system's refusal becomes a named error."""
    with disk_full_after(100), pytest.raises(FileFormatError, match=r"file.bin: cannot write here: File too large"):
        write_atomically(old, lambda stream: stream.write(bytes(10_000)))
    assert_only(old, b"old")


def test_a_new_file_has_the_permissions_of_the_user(old):
    """The temporary file's private mode does not stay."""
    before = os.umask(0o027)
    try:
        write_atomically(old, lambda stream: stream.write(b"new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere/file.bin", "No such file or directory"),
        ("file.bin/below", "Not a directory"),
        ("a" * 300, "File name too long"),
        ("nul\0.bin", "embedded null byte"),
        ("folder", "Is a directory"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(old, name, reason):
    """The error holds the path and the system's reason; what was there stays."""
    (old.parent / "folder").mkdir()
    with pytest.raises(FileFormatError, match=f"{name}: cannot write here: .*{reason}"):
        write_atomically(old.parent / name, lambda stream: stream.write(b"new"))
    assert old.read_bytes() == b"old"
    assert sorted(path.name for path in old.parent.iterdir()) == ["file.bin", "folder"]


# ---- text and JSON


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere", "no such file"), ("", "is a folder"), ("nul\0", ""), ("a" * 300, "")]
)
def test_a_file_that_is_none_is_named(tmp_path, name, reason):
    """Missing files, folders and impossible names are errors of ours."""
    with pytest.raises(FileFormatError, match=f"{name}: {reason}"):
        existing_file(tmp_path / name)


def test_a_huge_text_is_refused_unread(tmp_path):
    """Size is asked before memory is taken."""
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.truncate(3 << 30)
    with little_memory(), pytest.raises(FileFormatError, match=r"huge.json: 3,221,225,472 bytes, more than the 268"):
        read_json(path)


def test_text_with_a_byte_order_mark_is_read(tmp_path):
    """Editors that write a mark do no harm."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello \xc3\xa4")
    assert read_text(tmp_path / "a.txt") == "hello ä"


def test_bytes_that_are_no_text_are_refused(tmp_path):
    """The offset of the first foreign byte is named."""
    (tmp_path / "a.txt").write_bytes(b"hello \xff")
    with pytest.raises(FileFormatError, match=r"a.txt: expected UTF-8 text, got other bytes at offset 6"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2", '{"a": 1} x', "[" * 100_000, '{"a": 1, "b": {"c": 1, "c": 2}}', "1" * 5000]
)
def test_what_is_not_json_is_refused(tmp_path, text):
    """Truncated, deep, repeated or endless: one error."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"a.json: not valid JSON \(truncated\?\): "):
        read_json(tmp_path / "a.json")


@given(st.dictionaries(st.text(), st.integers() | st.lists(st.text()) | st.none()))
@settings(deadline=None)
def test_json_is_read_as_it_was_written(tmp_path_factory, value):
    """Refusing repeated names refuses nothing else."""
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(value))
    assert read_json(path) == value


# ---- arrays


plain_arrays = arrays_of.arrays(
    st.sampled_from(["<i4", ">i8", "<f2", "<f8", ">f4", "|u1", "|b1", "<U3", "<c16"]),
    arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(plain_arrays, st.sampled_from("CF"))
@settings(deadline=None)
def test_arrays_are_read_as_they_were_saved(tmp_path_factory, array, order):
    """Byte order, axis order, empty axes and scalars survive."""
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.asarray(array, order=order))
    found = read_npy(path)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a readable .npy file"),
        (b"not an array at all", "not a readable .npy file"),
        (npy((10**12,)), r"shape \(1000000000000,\) needs 4,000,000,000,000 bytes, more than 8,589,934,592"),
        (npy((10**6, 10**6, 10**6)), "shape .* needs 4,000,000,000,000,000,000 bytes, more than"),
        (npy((10**8,)), r"shape \(100000000,\) needs 400,000,000 bytes, the file holds .* \(truncated\?\)"),
        (npy((-1,), bytes(40)), r"shape \(-1,\) has a negative length"),
        (npy((2,), bytes(7)), r"expected 8 bytes of data, got 7 \(truncated\?\)"),
        (npy((2,), bytes(9)), r"more data than shape \(2,\) needs"),
        (npy((0, 10**30)), "not a readable .npy file"),
        (npy((10**9,), descr="<U0"), "not a readable .npy file"),
        (npy((1,), b"\xff" * 4, descr="<U1"), "holds characters beyond Unicode"),
        (npy((1,), bytes(8), descr="|O"), "holds pickled Python objects, which are never loaded"),
        (npy((1,), bytes(8), descr=[("a", "<i4"), ("b", "|O")]), "holds pickled Python objects"),
        (b"\x93NUMPY\x03\x00" + bytes(200), r".npy format version \(3, 0\) is not read"),
        (npy_with_header("{'descr': '<i4', 'fortran_order': False, 'shape': ((1,), }"), "not a readable .npy file"),
        (npy_with_header("(" * 5000), "not a readable .npy file"),
        (npy_with_header("__import__('os').abort()"), "not a readable .npy file"),
        (npy_with_header(" " * 60_000), "not a readable .npy file"),
    ],
)
def test_an_array_that_is_none_is_refused(tmp_path, content, match):
    """Foreign, lying, hostile or truncated: refused by name, and before memory is taken."""
    assert_npy_refused(tmp_path / "a.npy", content, match)


def test_pickled_objects_are_never_loaded(tmp_path):
    """A file that runs code when it is unpickled does not run it."""
    mark = tmp_path / "mark"
    np.save(tmp_path / "a.npy", np.array([Bomb(mark)]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", loads=np.array([Bomb(mark)]))
    with pytest.raises(FileFormatError, match=r"a.npy: holds pickled Python objects"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(FileFormatError, match=r"a.npz: array 'loads': holds pickled Python objects"):
        read_npz(tmp_path / "a.npz", ["loads"])
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


def test_an_array_cut_off_anywhere_is_refused(tmp_path):
    """Every proper prefix is an error."""
    path = tmp_path / "a.npy"
    whole = npy((3,), bytes(12))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"a.npy: "):
            read_npy(path)


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
def test_a_flipped_bit_in_an_array_is_an_error_or_another_array_of_that_size(tmp_path):
    """Without a checksum a number may change, but nothing crashes and nothing is lost."""
    path = tmp_path / "a.npy"
    whole = npy((3, 1), bytes(12))
    for bit in range(0, 8 * len(whole), 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read_npy(path).nbytes == 12
        except FileFormatError as error:
            assert str(error).startswith(f"{path}: ")


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"PK\x05\x06"]))
@settings(deadline=None)
def test_foreign_bytes_are_refused(tmp_path_factory, content, start):
    """Random bytes are no array and no archive of loads, even after the right first bytes."""
    path = tmp_path_factory.mktemp("bytes") / "a.bin"
    path.write_bytes(start + content)
    with pytest.raises(FileFormatError, match=r"a.bin: "):
        read_npy(path)
    try:
        assert read_npz(path, ["loads"]) == {}
    except FileFormatError as error:
        assert str(error).startswith(f"{path}: ")


# ---- archives of arrays


def test_only_the_arrays_asked_for_are_read(tmp_path):
    """Foreign members do not matter, pickled or huge ones neither."""
    path = tmp_path / "a.npz"
    write_npz(path, loads=npy((2,), bytes(8)), other=npy((1,), b"", "|O"), big=npy((10**12,)))
    with little_memory():
        assert {name: array.tolist() for name, array in read_npz(path, ["loads", "labels"]).items()} == {
            "loads": [0, 0]
        }


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (npy((10**12,)), r"array 'loads': shape \(1000000000000,\) needs 4,000,000,000,000 bytes, more than"),
        (npy((10**8,)), r"array 'loads': shape .* needs 400,000,000 bytes, the file holds .* \(truncated\?\)"),
        (npy((-1,), bytes(64 * MIB)), r"array 'loads': shape \(-1,\) has a negative length"),
        (npy((1,), bytes(64 * MIB)), r"array 'loads': more data than shape \(1,\) needs"),
        (b"", "not a readable .npz file"),
    ],
    ids=["claims 10**12", "claims 10**8", "negative and compressed", "small but compressed", "empty"],
)
def test_a_bomb_is_refused_before_it_grows(tmp_path, content, match):
    """Headers that lie and members that unpack to much more than they say take no memory."""
    write_npz(tmp_path / "a.npz", loads=content)
    assert_npz_refused(tmp_path / "a.npz", match)


def test_a_directory_that_lies_about_a_size_is_refused(tmp_path):
    """A member that says it unpacks to 4 GB and does not is truncated, and takes no memory."""
    path = tmp_path / "a.npz"
    write_npz(path, loads=npy((10**9,), bytes(100)))
    size = len(npy((10**9,), bytes(100)))
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little")))
    assert_npz_refused(path, "array 'loads': expected 4,000,000,000 bytes of data, got 100")


def test_a_wrong_checksum_is_refused(tmp_path):
    """One changed byte of an array that is stored as it is does not pass."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("loads.npy", npy((4,), b"\x2a" * 16))
    path.write_bytes(path.read_bytes().replace(b"\x2a" * 16, b"\x2a" * 15 + b"\x2b"))
    assert_npz_refused(path, "not a readable .npz file .*Bad CRC-32")


@pytest.mark.parametrize("which", [0, 1], ids=["of the member", "in the directory"])
def test_a_damaged_name_is_not_taken_for_a_missing_array(tmp_path, which):
    """An archive holds each name twice; if they differ, the array was not left out but damaged."""
    path = tmp_path / "a.npz"
    write_npz(path, loads=npy((1,), bytes(4)))
    parts = path.read_bytes().split(b"loads")
    names = [b"loads", b"loads"]
    names[which] = b"foads"
    path.write_bytes(parts[0] + names[0] + parts[1] + names[1] + parts[2])
    assert_npz_refused(path, "not a readable .npz file .*differ")


def test_an_archive_that_hides_a_member_is_refused(tmp_path):
    """Damage that makes a member look like the comment of the one before leaves a count that tells."""
    path = tmp_path / "a.npz"
    write_npz(path, loads=npy((1,), bytes(4)), model=npy((1,), bytes(4)))
    whole = bytearray(path.read_bytes())
    first, second = (match.start() for match in re.finditer(b"PK\x01\x02", whole))
    whole[first + 32] = second - first  # the length of the first one's comment
    path.write_bytes(whole)
    assert_npz_refused(path, r"not a readable .npz file \(truncated\?\): 2 arrays listed, 1 found")


def test_an_archive_with_a_comment_is_read(tmp_path):
    """A comment behind the directory does not matter."""
    path = tmp_path / "a.npz"
    write_npz(path, loads=npy((1,), b"\5\0\0\0"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"recorded in the night"
    assert read_npz(path, ["loads"])["loads"].tolist() == [5]
