"""TensorRT-LLM's expert statistics: a folder with `meta_info.json` and a file of counts a rank.

`rank*.safetensors` hold "{iteration}_{layer}" -> counts [experts]; `rank*_raw.safetensors`, which some versions write,
hold the experts of the tokens, [tokens, k]. Ranks are added up.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.engines.checking import by_number, integer, named, shown, token_counts
from eplb.engines.contents import Contents
from eplb.engines.formats import Recorded
from eplb.engines.hints import MAX_EXPERTS, MAX_LAYERS, Hints
from eplb.engines.remarks import Remarks
from eplb.engines.steps import Steps
from eplb.errors import FileFormatError, LoadsError, MissingDependencyError, OptionError
from eplb.files import MAX_LOADS_BYTES, existing_file, naming, read_json
from eplb.trace import LoadTrace

META = "meta_info.json"
COUNTED, RAW = r"rank(\d+)\.safetensors", r"rank(\d+)_raw\.safetensors"
KEY = re.compile(r"(\d{1,9})_(\d{1,9})")
WINDOW = "1 iteration"


def read_loads(contents: Contents, hints: Hints, remarks: Remarks) -> Recorded:
    """Return the counts of all ranks, an iteration a window."""
    with naming(contents.path / META):
        meta = read_json(existing_file(contents.path / META, 1 << 20))
        num_experts = integer(named(meta, "num_experts", int, META), "num_experts", least=1, most=MAX_EXPERTS)
        top_k = integer(named(meta, "num_experts_per_token", int, META), "num_experts_per_token", 1, num_experts)
    files = by_number(contents.names, COUNTED)
    raw = {} if files else by_number(contents.names, RAW)
    if not files and not raw:
        raise FileFormatError(f"expected files rank0.safetensors, ... beside {META}, got none")
    steps = Steps()
    for rank, name in (files or raw).items():
        with naming(contents.path / name):
            _add_rank(steps, rank, contents.path / name, num_experts, is_raw=bool(raw))
    _remark_ranks(list(files or raw), remarks)
    remarks.note("TensorRT-LLM's layers have the model's own numbers")
    trace = steps.trace(num_experts, WINDOW, remarks)
    return Recorded(trace=_with_tokens(trace, top_k))


def _add_rank(steps: Steps, rank: int, path: Path, num_experts: int, is_raw: bool) -> None:
    for key, values in _tensors(path):
        match = KEY.fullmatch(key)
        if match is None:
            raise FileFormatError(f"{key[:80]!r}: expected names such as '100_3', iteration and layer")
        what = f"{key!r}"
        counts = _counted(values, num_experts, what) if is_raw else token_counts(values, what)
        if counts.shape != (num_experts,):
            raise FileFormatError(f"{what}: expected {num_experts} counts, as {META} says, got {shown(values)}")
        steps.add(int(match[1]), int(match[2]), rank, counts)


def _counted(values: NDArray[Any], num_experts: int, what: str) -> NDArray[np.int64]:
    """Return how often each expert stands in the experts of tokens."""
    ids = token_counts(values, what).ravel()
    if ids.size and int(ids.max()) >= num_experts:
        raise FileFormatError(f"{what}: expected experts below {num_experts}, got {ids.max()}")
    return np.bincount(ids, minlength=num_experts)


def _tensors(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield names and arrays of a safetensors file, which are no larger than the file."""
    safetensors = require_safetensors(path)
    existing_file(path, MAX_LOADS_BYTES)
    with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
        for name in sorted(file.keys()):
            yield name, np.asarray(file.get_tensor(name))


def require_safetensors(path: Path) -> Any:
    """Return the module safetensors, or raise `MissingDependencyError` with the command that installs it."""
    try:
        import safetensors.numpy  # which makes safetensors.numpy an attribute
    except ImportError:
        raise MissingDependencyError(f'{path}: safetensors is needed for it; pip install "eplb[engines]"') from None
    return safetensors


def _remark_ranks(ranks: list[int], remarks: Remarks) -> None:
    missing = sorted(set(range(max(ranks) + 1)) - set(ranks)) if max(ranks) < MAX_LAYERS else [0]
    if missing:
        remarks.warn(f"{len(ranks)} files of ranks up to {max(ranks)}: that of rank {missing[0]} is missing, say")
    else:
        remarks.note(f"added up over {len(ranks)} rank{'s' if len(ranks) > 1 else ''}")


def _with_tokens(trace: LoadTrace, top_k: int) -> LoadTrace:
    """Return `trace` with the tokens of each window, if all layers agree on them."""
    sums = trace.loads.sum(axis=2)
    if (sums != sums[:, :1]).any() or (sums % top_k).any():
        return trace
    return LoadTrace(loads=trace.loads, layer_ids=trace.layer_ids, window=trace.window, tokens=sums[:, 0] // top_k)


def write_loads(trace: LoadTrace, path: Path, hints: Hints, remarks: Remarks) -> None:
    """Write a folder of statistics, as if of one rank."""
    if trace.loads.dtype.kind == "f" and (trace.loads != np.floor(trace.loads)).any():
        raise LoadsError("TensorRT-LLM counts tokens: expected whole loads; sum more steps, or scale and round them")
    if trace.num_experts > MAX_EXPERTS or float(trace.loads.max()) >= 2**48:
        raise LoadsError(f"expected at most {MAX_EXPERTS:,} experts and loads below 2**48")
    counts = trace.loads.astype(np.int64)
    meta = {"num_experts": trace.num_experts, "num_experts_per_token": _experts_per_token(trace, hints)}
    tensors = {
        f"{window}_{layer}": np.ascontiguousarray(counts[window, row])
        for window in range(trace.num_windows)
        for row, layer in enumerate(trace.layer_ids.tolist())
    }
    library = require_safetensors(path)

    def write(folder: Path) -> None:
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")
        library.numpy.save_file(tensors, os.fspath(folder / "rank0.safetensors"))

    _write_folder(path, write)
    remarks.warn_of_fields(trace, "TensorRT-LLM's folder", kept=("tokens",))


def _experts_per_token(trace: LoadTrace, hints: Hints) -> int:
    if hints.experts_per_token is not None:
        return hints.experts_per_token
    if trace.tokens is not None and trace.tokens[0] > 0:
        top_k, rest = divmod(int(trace.loads[0, 0].sum()), int(trace.tokens[0]))
        if not rest and top_k:
            return top_k
    raise OptionError("experts_per_token: TensorRT-LLM's statistics hold it and these loads do not; say it: --top-k K")


def _write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a temporary neighbour of `target`, then rename it: `target` is whole, or not there."""
    if os.path.lexists(target):
        raise FileFormatError(f"{target}: exists already; remove it first, or write to another folder")
    try:
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except (OSError, ValueError) as exc:
        raise FileFormatError(f"{target}: cannot write here: {getattr(exc, 'strerror', None) or exc}") from None
    try:
        write(made)
        made.chmod(0o777 & ~_umask())
        made.rename(target)
    except OSError as exc:
        raise FileFormatError(f"{target}: cannot write here: {exc.strerror or exc}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
