"""What PyTorch's files hold, as arrays; those whose sizes lie are refused before memory is taken."""

import pickle
import zipfile

import numpy as np
import pytest

from eplb.errors import FileFormatError, LoadsError
from eplb.reading import read_loads
from eplb.torch_files import read_torch
from tests.test_files import little_memory

torch = pytest.importorskip("torch")


def pickled(path, value):
    """Write an archive of PyTorch with any pickle in it."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, pickle.dumps(value, 2) if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize("is_archive", [True, False])
def test_tensors_come_as_arrays(tmp_path, is_archive):
    """Also those of an older file, and those of a type that numpy has not."""
    content = {"a": torch.ones(2, 3, dtype=torch.bfloat16), "b": [torch.arange(3), 5], 1: ("x", None)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=is_archive)
    found = read_torch(tmp_path / "a.pt")
    assert found["a"].dtype == np.float32 and found["a"].shape == (2, 3)
    assert found["b"][0].tolist() == [0, 1, 2] and found["b"][1:] == [5] and found["1"] == ["x", None]


def test_a_list_named_many_times_takes_no_memory(tmp_path):
    """A file of a few kilobytes that would be eight billion numbers."""
    row = list(range(2000))
    path = pickled(tmp_path / "a.pt", {"loads": [[row] * 2000] * 2000})
    assert path.stat().st_size < 32 << 10
    for reader in (read_torch, read_loads):
        with little_memory(64 << 20), pytest.raises(FileFormatError, match="stands in others many times"):
            reader(path)


def test_long_texts_among_numbers_take_no_memory(tmp_path):
    """Numpy would make room for as long a text in every place, 8 GiB here."""
    path = pickled(tmp_path / "a.pt", {"loads": [["x" * (1 << 20)] + ["a"] * 2000]})
    with little_memory(64 << 20), pytest.raises(LoadsError, match="texts among them"):
        read_loads(path)
