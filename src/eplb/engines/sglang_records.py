"""What SGLang's expert distribution recorder writes, a file a dump or a file a rank, added up to loads.

The modes `stat` and `stat_approx` write logical counts, summed over ranks; `per_pass` and `per_token` write physical
counts of a rank for each forward pass, and the map from slots to experts that was in force last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.engines.checking import id_matrix, integer, named, shown, token_counts
from eplb.engines.contents import Contents
from eplb.engines.hints import MAX_EXPERTS, MAX_LAYERS
from eplb.engines.layers import numbers_of
from eplb.engines.remarks import Remarks
from eplb.errors import FileFormatError, LoadsError
from eplb.files import MAX_LOADS_BYTES, naming
from eplb.torch_files import read_torch
from eplb.trace import LoadTrace

PREFIX, SUFFIX = "expert_distribution_recorder_", ".pt"
LAST_MAP, PASS_COUNT, STAT = "last_physical_to_logical_map", "global_physical_count", "logical_count"
WINDOW = "1 forward pass"
MAX_RANKS = 2**14


def recordings_in(folder: Contents) -> list[str]:
    """Return the names of the recorder's files, those dumped first first."""
    found = [name for name in folder.names if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    return sorted(found, key=_dumped_at)


def _dumped_at(name: str) -> tuple[float, str]:
    moment = name.removeprefix(PREFIX).removesuffix(SUFFIX).partition("_")[0]
    try:
        return float(moment), name
    except ValueError:
        return float("inf"), name


def read_folder(folder: Contents, remarks: Remarks) -> LoadTrace:
    """Return the loads in all files of a folder: dumps one after another, or ranks added up."""
    details, traces = [], []
    for name in recordings_in(folder):
        with naming(folder.path / name):
            value = read_torch(folder.path / name)
            if isinstance(value, dict) and STAT in value:
                traces.append(read_counts(value, value[STAT], remarks))
            else:
                details.append(_details(value))
        _check_together(traces, details)
    return _joined(traces) if traces else _summed(details, remarks)


def _check_together(traces: Sequence[LoadTrace], details: Sequence[_Details]) -> None:
    if traces and details:
        raise FileFormatError("files of stat modes and of detail modes in one folder; keep one recording a folder")
    if sum(trace.loads.nbytes for trace in traces) + sum(part.counts.nbytes for part in details) > MAX_LOADS_BYTES:
        raise FileFormatError(f"more than {MAX_LOADS_BYTES:,} bytes of counts in this folder; take fewer files")


def _joined(traces: Sequence[LoadTrace]) -> LoadTrace:
    shapes = {trace.loads.shape[1:] for trace in traces}
    if len(shapes) > 1:
        raise FileFormatError(f"dumps of several models in one folder: layers x experts {sorted(shapes)}")
    return LoadTrace(loads=np.concatenate([trace.loads for trace in traces]), window=WINDOW)


def read_counts(value: dict[str, Any], counts: NDArray[Any], remarks: Remarks) -> LoadTrace:
    """Return logical counts [layers, experts] or [steps, layers, experts]; a dump's empty steps are left out."""
    trace = LoadTrace(loads=counts, window=WINDOW if counts.ndim == 3 else "")
    if "rank" not in value:
        return trace
    used = np.flatnonzero(trace.loads.any(axis=(1, 2)))
    if not used.size:
        raise LoadsError("no step has a token; record while requests are served, and dump before the next start")
    if used.size < trace.num_windows:
        empty = trace.num_windows - used.size
        remarks.note(f"{empty:,} of {trace.num_windows:,} steps of the recorder's buffer are empty, and left out")
        trace = LoadTrace(loads=trace.loads[used], window=WINDOW)
    remarks.note("the recorder's buffer is a ring: once it is full, the order of its steps is not that of time")
    return trace


def remark_dense(trace: LoadTrace, wanted: Sequence[int] | None, remarks: Remarks) -> None:
    """Warn of layers without any token, unless they are not wanted."""
    idle = trace.layer_ids[~trace.loads.any(axis=(0, 2))]
    if wanted is not None:
        idle = np.intersect1d(idle, np.array(wanted))
    if idle.size:
        remarks.warn(
            f"layers without any token: {numbers_of(idle)}; dense layers are no MoE layers, and --layers FIRST-LAST "
            "leaves them out"
        )


class _Details:
    """Logical counts [passes, L, E] of the ranks in a file, with pass and rank of each."""

    __slots__ = ("counts", "passes", "ranks")

    def __init__(self, counts: NDArray[np.int64], passes: list[int], ranks: list[int]) -> None:
        self.counts, self.passes, self.ranks = counts, passes, ranks


def read_details(values: Sequence[Any], remarks: Remarks) -> LoadTrace:
    """Return the loads in dumps of the detail modes, added up over ranks."""
    return _summed([_details(value) for value in values], remarks)


def _details(value: Any) -> _Details:
    """Return the logical counts in a dump of a detail mode."""
    slots = id_matrix(named(value, LAST_MAP, np.ndarray, "the dump"), LAST_MAP)
    num_experts = int(slots.max()) + 1
    if int(slots.min()) < 0 or num_experts > min(MAX_EXPERTS, slots.shape[1]) or len(slots) > MAX_LAYERS:
        raise FileFormatError(
            f"{LAST_MAP}: expected ids of 0 to {slots.shape[1] - 1}, got {slots.min()} to {slots.max()}"
        )
    records = named(value, "records", list, "the dump")
    if not records:
        raise LoadsError("no pass was recorded; record while requests are served, and dump before the next start")
    if len(records) * len(slots) * num_experts * 8 > MAX_LOADS_BYTES:
        raise FileFormatError(f"{len(records):,} passes are more than are read; record fewer, or in mode stat")
    counts = np.zeros((len(records), len(slots), num_experts), dtype=np.int64)
    layers = np.arange(len(slots))[:, None]
    for index, record in enumerate(records):
        np.add.at(counts[index], (layers, slots), _pass_counts(record, index, slots.shape))
    passes = [
        integer(record.get("forward_pass_id"), f"records[{i}]: forward_pass_id") for i, record in enumerate(records)
    ]
    ranks = [integer(record.get("rank"), f"records[{i}]: rank", most=MAX_RANKS) for i, record in enumerate(records)]
    return _Details(counts, passes, ranks)


def _pass_counts(record: Any, index: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    found = named(record, PASS_COUNT, np.ndarray, f"records[{index}]")
    if found.shape != shape:
        raise FileFormatError(f"records[{index}]: expected counts {list(shape)} as {LAST_MAP} has, got {shown(found)}")
    return token_counts(found, f"records[{index}]: {PASS_COUNT}")


def _summed(details: Sequence[_Details], remarks: Remarks) -> LoadTrace:
    """Return the sums over ranks of the passes that all ranks recorded, in order."""
    shapes = {part.counts.shape[1:] for part in details}
    if len(shapes) > 1:
        raise FileFormatError(f"dumps of several models in one folder: layers x experts {sorted(shapes)}")
    ranks = sorted({rank for part in details for rank in part.ranks})
    seen: dict[int, set[int]] = {}
    for part in details:
        for number, rank in zip(part.passes, part.ranks, strict=True):
            if rank in seen.setdefault(number, set()):
                raise FileFormatError(f"pass {number} of rank {rank} comes twice; keep one recording a folder")
            seen[number].add(rank)
    whole = sorted(number for number, found in seen.items() if len(found) == len(ranks))
    if not whole:
        raise FileFormatError(f"no pass was recorded by all {len(ranks)} ranks; give the files of one recording")
    window_of = {number: window for window, number in enumerate(whole)}
    loads = np.zeros((len(whole), *shapes.pop()), dtype=np.int64)
    for part in details:
        for counts, number in zip(part.counts, part.passes, strict=True):
            if number in window_of:
                loads[window_of[number]] += counts
    _remark_ranks(ranks, len(seen) - len(whole), len(seen), remarks)
    return LoadTrace(loads=loads, window=WINDOW)


def _remark_ranks(ranks: Sequence[int], left_out: int, count: int, remarks: Remarks) -> None:
    if len(ranks) == 1:
        remarks.warn(f"these are the tokens of rank {ranks[0]} alone; give the folder with the files of all ranks")
    else:
        remarks.note(f"added up over the {len(ranks)} ranks {numbers_of(np.array(ranks))}")
    if left_out:
        remarks.warn(f"{left_out:,} of {count:,} passes lack a rank, and are left out")
    remarks.note(f"slots were read as experts by each file's {LAST_MAP}: counts before a rebalance in it are wrong")
