"""SGLang: recorded expert distributions, and initial expert locations.

Facts were read from SGLang 0.5.23, `sglang/srt/eplb/expert_distribution.py` and `expert_location.py`. Rows are all
hidden layers of the model, dense ones included. Nothing says how many ranks there are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eplb.engines import sglang_records
from eplb.engines.checking import id_matrix, number_lists, shown
from eplb.engines.contents import Contents
from eplb.engines.formats import LOADS, PLACEMENT, Format, Recorded, Slots
from eplb.engines.hints import MAX_CELLS, MAX_LAYERS, Hints
from eplb.engines.layers import numbers_of
from eplb.engines.remarks import Remarks
from eplb.engines.rules import Rules
from eplb.errors import FileFormatError, LoadsError, OptionError
from eplb.files import write_atomically
from eplb.placement import Placement
from eplb.torch_files import write_torch
from eplb.trace import LoadTrace

MAP, COUNT = "physical_to_logical_map", "logical_count"
MAX_JSON_NUMBERS = 2**24
RULES = Rules(engine="SGLang")


def kind_of(contents: Contents) -> str | None:
    """Return what SGLang would find in `contents`."""
    if contents.container == "folder":
        return LOADS if sglang_records.recordings_in(contents) else None
    if contents.container not in ("json", "torch"):
        return None
    if MAP in contents.keys:
        return PLACEMENT
    is_loads = COUNT in contents.keys or {"records", sglang_records.LAST_MAP} <= contents.keys
    return LOADS if is_loads else None


def read_loads(contents: Contents, hints: Hints, remarks: Remarks) -> Recorded:
    """Return the loads that SGLang recorded, or that it would plan from."""
    if contents.container == "folder":
        trace = sglang_records.read_folder(contents, remarks)
    elif COUNT in contents.keys:
        trace = sglang_records.read_counts(contents.value, _counts(contents.value[COUNT]), remarks)
    else:
        trace = sglang_records.read_details([contents.value], remarks)
    sglang_records.remark_dense(trace, hints.layers, remarks)
    return Recorded(trace=replace(trace, layer_ids=_rows(trace.num_layers, remarks)))


def _counts(values: Any) -> NDArray[Any]:
    return values if isinstance(values, np.ndarray) else number_lists(values, COUNT)


def read_slots(contents: Contents, hints: Hints, remarks: Remarks) -> Slots:
    """Return the slots of a file for `--init-expert-location`."""
    others = sorted(contents.keys - {MAP})
    if others:
        raise FileFormatError(f"{MAP}: expected this name alone, as SGLang does; got {shown(contents.value)}")
    experts = id_matrix(contents.value[MAP], MAP)
    return Slots(experts=experts, layer_ids=_rows(len(experts), remarks))


def _rows(count: int, remarks: Remarks) -> NDArray[np.int64]:
    if count > MAX_LAYERS:
        raise FileFormatError(f"{count:,} layers, more than {MAX_LAYERS:,}")
    remarks.note("SGLang's rows are all layers of the model, from 0 on, dense ones included")
    return np.arange(count)


def write_placement(placement: Placement, path: Path, hints: Hints, remarks: Remarks) -> None:
    """Write a file for `--init-expert-location`: `.json` or `.pt`."""
    RULES.check(placement, remarks)
    num_rows = _num_rows(placement.layer_ids, placement.topology.num_slots, hints)
    rows = np.tile(np.arange(placement.topology.num_slots) % placement.num_experts, (num_rows, 1))
    rows[placement.layer_ids] = placement.physical_to_logical
    _write(path, {MAP: rows})
    _tell_rows(placement.layer_ids, num_rows, "hold SGLang's own trivial placement", remarks)
    topology = placement.topology
    redundant = topology.num_slots - placement.num_experts
    remarks.note(
        f"start SGLang with --ep-size {topology.num_ranks} --ep-num-redundant-experts {redundant} "
        f"--init-expert-location {path}"
    )
    if topology.node_count > 1:
        remarks.warn("the file does not say which node a rank is on; SGLang takes --nnodes, in order of the ranks")


def write_loads(trace: LoadTrace, path: Path, hints: Hints, remarks: Remarks) -> None:
    """Write counts for `--init-expert-location`, from which SGLang plans by itself: `.json` or `.pt`."""
    num_rows = _num_rows(trace.layer_ids, trace.num_windows * trace.num_experts, hints)
    if trace.loads.dtype.kind == "u" and int(trace.loads.max()) >= 2**63:
        raise LoadsError("loads of 2**63 and more do not fit SGLang's counts; store them as floats")
    dtype = np.dtype(np.int64) if trace.loads.dtype.kind in "iu" else trace.loads.dtype.newbyteorder("=")
    counts = np.zeros((trace.num_windows, num_rows, trace.num_experts), dtype=dtype)
    counts[:, trace.layer_ids] = trace.loads
    _write(path, {COUNT: counts})
    _tell_rows(trace.layer_ids, num_rows, "hold no tokens", remarks)
    remarks.warn_of_fields(trace, "SGLang's file")


def _num_rows(layer_ids: NDArray[np.int64], num_cells: int, hints: Hints) -> int:
    least = int(layer_ids.max()) + 1
    num_rows = hints.num_hidden_layers or least
    if num_rows < least:
        raise OptionError(f"num_hidden_layers: expected at least {least}, one more than the last layer; got {num_rows}")
    if num_rows > MAX_LAYERS or num_rows * num_cells > MAX_CELLS:
        raise OptionError(f"{num_rows:,} layers x {num_cells:,} entries are more than are written; check the layers")
    return num_rows


def _tell_rows(layer_ids: NDArray[np.int64], num_rows: int, filled: str, remarks: Remarks) -> None:
    others = np.setdiff1d(np.arange(num_rows), layer_ids)
    text = f"SGLang needs a row for every hidden layer: {num_rows} rows written, for {numbers_of(np.arange(num_rows))}"
    remarks.note(f"{text}; {numbers_of(others)} {filled}" if others.size else text)


def _write(path: Path, value: dict[str, NDArray[Any]]) -> None:
    if path.suffix.lower() == ".pt":
        write_torch(path, value)
        return
    if path.suffix.lower() != ".json":
        raise FileFormatError(f"{path}: expected a name that ends in .json or .pt, by which SGLang tells them apart")
    if sum(array.size for array in value.values()) > MAX_JSON_NUMBERS:
        raise FileFormatError(f"more than {MAX_JSON_NUMBERS:,} numbers are too many for JSON; write .pt")
    content = json.dumps({name: array.tolist() for name, array in value.items()}).encode()

    def write(stream: IO[bytes]) -> None:
        stream.write(content)

    write_atomically(path, write)


FORMAT = Format(
    name="sglang",
    title="SGLang",
    kind_of=kind_of,
    read_loads=read_loads,
    read_slots=read_slots,
    write_loads=write_loads,
    write_placement=write_placement,
    rules=RULES,
    loads_endings=(".pt",),
    placement_endings=(".pt",),
)
