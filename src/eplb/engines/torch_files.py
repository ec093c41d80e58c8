"""PyTorch's .pt files: plain tensors alone are unpickled, and sizes are compared before anything is."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

from eplb.errors import FileFormatError, MissingDependencyError
from eplb.files import write_atomically
from eplb.reading import MAX_LOADS_BYTES, MAX_TEXT_BYTES

PICKLE = "/data.pkl"


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
    sizes = _checked_sizes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # PyTorch's own message advises to unpickle all, which runs what the file says
            raise FileFormatError(
                "not a .pt file of plain tensors: truncated, or it holds more than tensors and numbers"
            ) from None
    return _as_arrays(content, torch, sizes, depth=0)


def _checked_sizes(path: Path) -> set[int]:
    """Return the sizes of the archive's members, which are whole and not too large."""
    with zipfile.ZipFile(path) as archive:
        sizes = [entry.file_size for entry in archive.infolist()]
        if sum(sizes) > MAX_LOADS_BYTES:
            raise FileFormatError(
                f"{sum(sizes):,} bytes, more than the {MAX_LOADS_BYTES:,} that are read; record fewer steps a file"
            )
        pickled = sum(entry.file_size for entry in archive.infolist() if entry.filename.endswith(PICKLE))
        if pickled > MAX_TEXT_BYTES:
            raise FileFormatError(
                f"{pickled:,} bytes beside the tensors, more than the {MAX_TEXT_BYTES:,} that are read"
            )
        damaged = archive.testzip()  # PyTorch compares no checksums
    if damaged is not None:
        raise FileFormatError(f"member {damaged[:80]!r} does not match its checksum (damaged)")
    return set(sizes)


def _as_arrays(value: Any, torch: Any, sizes: set[int], depth: int) -> Any:
    """Return `value` with arrays in place of tensors; containers are lists and dicts."""
    if depth > 8:
        raise FileFormatError("lists in lists, more than eight deep; expected what an engine records")
    if isinstance(value, torch.Tensor):
        return _array(value, sizes)
    if isinstance(value, dict):
        return {str(key): _as_arrays(entry, torch, sizes, depth + 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_arrays(entry, torch, sizes, depth + 1) for entry in value]
    return value


def _array(tensor: Any, sizes: set[int]) -> Any:
    tensor = tensor.detach()
    num_bytes = tensor.numel() * tensor.element_size()
    if num_bytes > MAX_LOADS_BYTES:  # a view of few bytes can be huge
        raise FileFormatError(f"a tensor {list(tensor.shape)} of {num_bytes:,} bytes, more than are read")
    if tensor.untyped_storage().nbytes() not in sizes:
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
