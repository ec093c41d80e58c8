"""PyTorch's .pt files: plain tensors alone are unpickled, and sizes are compared before memory is taken."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

from eplb.errors import FileFormatError, MissingDependencyError
from eplb.files import MAX_LOADS_BYTES, MAX_TEXT_BYTES, write_atomically

PICKLE = "/data.pkl"
MAX_DEPTH = 8


def require_torch(path: Path) -> Any:
    """Return the module torch, or raise `MissingDependencyError` with the command that installs it."""
    try:
        import torch
    except ImportError:
        raise MissingDependencyError(f'{path}: PyTorch is needed for .pt files; pip install "eplb[torch]"') from None
    return torch


def read_torch(path: Path) -> Any:
    """Return what `torch.save` wrote, tensors as arrays.

    Raises
    ------
    FileFormatError
        If the file is damaged, larger than 2 GiB unpacked, or holds more than tensors, containers and numbers.
    MissingDependencyError
        If PyTorch is not installed.
    """
    torch = require_torch(path)
    sizes, pickled = _archive_sizes(path) if zipfile.is_zipfile(path) else (None, _checked(path.stat().st_size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # PyTorch's own message advises to unpickle all, which runs what the file says
            raise FileFormatError(
                "not a .pt file of plain tensors: truncated, or it holds more than tensors and numbers; "
                "save a tensor, or a dict of tensors, by torch.save"
            ) from None
    return _Plain(torch, sizes, pickled).value(content)


def _archive_sizes(path: Path) -> tuple[set[int], int]:
    """Return the sizes of the archive's members, which are whole and not too large, and the size of the pickle."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _checked(sum(entry.file_size for entry in entries))
        pickled = sum(entry.file_size for entry in entries if entry.filename.endswith(PICKLE))
        if pickled > MAX_TEXT_BYTES:
            raise FileFormatError(
                f"{pickled:,} bytes beside the tensors, more than the {MAX_TEXT_BYTES:,} that are read"
            )
        damaged = archive.testzip()  # PyTorch compares no checksums
    if damaged is not None:
        raise FileFormatError(f"member {damaged[:80]!r} does not match its checksum (damaged)")
    return {entry.file_size for entry in entries}, pickled


def _checked(num_bytes: int) -> int:
    if num_bytes > MAX_LOADS_BYTES:
        raise FileFormatError(
            f"{num_bytes:,} bytes, more than the {MAX_LOADS_BYTES:,} that are read; record fewer steps a file"
        )
    return num_bytes


class _Plain:
    """Puts arrays in place of tensors, and copies the containers around them.

    Parameters
    ----------
    torch : module
    sizes : set of int or None
        Bytes of the data in the archive; None: an older file, which is none.
    most : int
        Entries of containers that can be: the file has a byte for each, unless it names one container many times.
    """

    def __init__(self, torch: Any, sizes: set[int] | None, most: int) -> None:
        self._torch, self._sizes, self._most = torch, sizes, most

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return `value` with arrays in place of tensors; containers are lists and dicts."""
        if depth > MAX_DEPTH:
            raise FileFormatError("lists in lists, more than eight deep; expected what an engine records")
        if isinstance(value, self._torch.Tensor):
            return self._array(value)
        if not isinstance(value, (dict, list, tuple)):
            return value
        self._most -= len(value)
        if self._most < 0:
            raise FileFormatError("a list that stands in others many times; expected what an engine records")
        if isinstance(value, dict):
            return {str(key): self.value(entry, depth + 1) for key, entry in value.items()}
        return [self.value(entry, depth + 1) for entry in value]

    def _array(self, tensor: Any) -> Any:
        tensor = tensor.detach()
        num_bytes = tensor.numel() * tensor.element_size()
        if num_bytes > MAX_LOADS_BYTES:  # a view of few bytes can be huge
            raise FileFormatError(f"a tensor {list(tensor.shape)} of {num_bytes:,} bytes, more than are read")
        if self._sizes is not None and tensor.untyped_storage().nbytes() not in self._sizes:
            raise FileFormatError(f"a tensor {list(tensor.shape)} whose data is not in the file (damaged?)")
        if tensor.is_floating_point() and tensor.element_size() < 4:
            tensor = tensor.float()  # numpy has no bfloat16
        return tensor.numpy()


def write_torch(path: Path, value: dict[str, Any]) -> None:
    """Write a dict of arrays as tensors, whole or not at all."""
    torch = require_torch(path)

    def write(stream: IO[bytes]) -> None:
        torch.save({name: torch.tensor(array) for name, array in value.items()}, stream)

    write_atomically(path, write)
