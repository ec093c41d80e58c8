"""The formats of this library: loads as .npz, .json, .csv or .zarr, placements as .json or .npz."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from eplb.engines.checking import id_matrix, integer, named, shown
from eplb.engines.contents import Contents
from eplb.engines.formats import LOADS, PLACEMENT, Format, Recorded, Slots
from eplb.engines.hints import Hints
from eplb.engines.remarks import Remarks
from eplb.errors import FileFormatError, LoadsError, PlacementError, TopologyError
from eplb.files import parse_json, read_npz, write_atomically
from eplb.placement import FORMAT as PLACEMENT_FORMAT
from eplb.placement import VERSION, Placement, checked_layer_ids
from eplb.reading import read_loads as read_any_loads
from eplb.topology import Topology
from eplb.trace import LoadTrace

ARRAYS = ("header", "layer_ids", "physical_to_logical")
NUMBERS = re.compile(r"[\s\d.,+\-eE\"]*\Z")
MAX_CSV_LOADS, MAX_JSON_LOADS = 2**22, 2**24


def kind_of(contents: Contents) -> str | None:
    """Return what this library would find in `contents`."""
    match contents.container:
        case "folder":
            return LOADS if ".zattrs" in contents.names else None
        case "npy":
            return LOADS
        case "archive":
            return PLACEMENT if {f"{name}.npy" for name in ARRAYS} <= contents.names else LOADS
        case "text":
            return LOADS if _is_table(contents.text) else None
        case "json" if contents.keys and contents.value.get("format") == PLACEMENT_FORMAT:
            return PLACEMENT
        case "json" | "torch":
            is_loads = "loads" in contents.keys or isinstance(contents.value, (list, np.ndarray))
            return LOADS if is_loads else None
    return None


def _is_table(text: str) -> bool:
    """Whether the first line that is no comment is a row of numbers or the header of a table of loads."""
    for line in text.lstrip("\ufeff").splitlines():
        if line.strip() and not line.startswith("#"):
            names = {cell.strip().lower() for cell in line.split(",")}
            return {"layer", "expert", "load"} <= names or NUMBERS.match(line) is not None
    return False


def read_loads(contents: Contents, hints: Hints, remarks: Remarks) -> Recorded:
    """Return the loads, as `eplb.reading.read_loads` does."""
    return Recorded(trace=read_any_loads(contents.path))


def read_slots(contents: Contents, hints: Hints, remarks: Remarks) -> Slots:
    """Return the slots of a placement that `Placement.save` wrote."""
    header = contents.value if contents.container == "json" else _npz_header(contents.path)
    if not isinstance(header, dict) or header.get("format") != PLACEMENT_FORMAT:
        raise FileFormatError(f"not a placement: expected format {PLACEMENT_FORMAT!r}")
    if header.get("version") != VERSION:
        raise FileFormatError(
            f"placement version {shown(header.get('version'))}, this eplb reads {VERSION}; update eplb"
        )
    experts = id_matrix(header.get("physical_to_logical"), "physical_to_logical")
    return Slots(
        experts=experts,
        layer_ids=checked_layer_ids(header.get("layer_ids"), len(experts), PlacementError),
        topology=_topology(named(header, "topology", dict, "the placement")),
        num_experts=integer(header.get("num_experts"), "num_experts", least=1),
        plan_hash=header.get("hash"),
    )


def _topology(parameters: dict[str, Any]) -> Topology:
    try:
        return Topology(**parameters)
    except TypeError as exc:
        raise TopologyError(f"topology: {exc}") from None


def _npz_header(path: Path) -> Any:
    arrays = read_npz(path, ARRAYS)
    try:
        header = parse_json(str(arrays.pop("header")[()]))
    except (KeyError, ValueError, RecursionError):
        raise FileFormatError(f"not a placement: no header of format {PLACEMENT_FORMAT!r}") from None
    return {**header, **arrays} if isinstance(header, dict) else header


def write_placement(placement: Placement, path: Path, hints: Hints, remarks: Remarks) -> None:
    """Write a placement, which is held whole."""
    placement.save(path)


def write_loads(trace: LoadTrace, path: Path, hints: Hints, remarks: Remarks) -> None:
    """Write loads in the format of the ending."""
    match path.suffix.lower():
        case ".npz" | ".zarr":
            trace.save(path)
        case ".json":
            _write_text(path, json.dumps(_fields(trace)) + "\n")
        case ".csv":
            _write_text(path, _table(trace))
            remarks.warn_of_fields(trace, "a table")
        case _:
            raise FileFormatError(f"{path}: expected a name that ends in .npz, .zarr, .json or .csv")


def _fields(trace: LoadTrace) -> dict[str, Any]:
    if trace.loads.size > MAX_JSON_LOADS:
        raise LoadsError(f"{trace.loads.size:,} loads are too many for JSON; write .npz or .zarr")
    fields: dict[str, Any] = {"model": trace.model, "window": trace.window, "phase": trace.phase}
    fields["layer_ids"] = trace.layer_ids.tolist()
    if trace.tokens is not None:
        fields["tokens"] = trace.tokens.tolist()
    if trace.labels is not None:
        fields["labels"] = list(trace.labels)
    return {**fields, "loads": trace.loads.tolist()}


def _table(trace: LoadTrace) -> str:
    if trace.loads.size > MAX_CSV_LOADS:
        raise LoadsError(f"{trace.loads.size:,} loads are too many for a table; write .npz or .zarr")
    if trace.loads.dtype.kind in "iu" and int(trace.loads.max()) >= 2**53:
        raise LoadsError("loads of 2**53 and more are not exact in a table; write .npz, .zarr or .json")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["window", "layer", "expert", "load"])
    ids = trace.layer_ids.tolist()
    for window, layers in enumerate(trace.loads.tolist()):
        for layer, experts in zip(ids, layers, strict=True):
            writer.writerows([window, layer, expert, load] for expert, load in enumerate(experts))
    return stream.getvalue()


def _write_text(path: Path, text: str) -> None:
    def write(stream: IO[bytes]) -> None:
        stream.write(text.encode("utf-8", "surrogatepass"))

    write_atomically(path, write)


FORMAT = Format(
    name="eplb",
    title="eplb",
    kind_of=kind_of,
    read_loads=read_loads,
    read_slots=read_slots,
    write_loads=write_loads,
    write_placement=write_placement,
    loads_endings=(".npz", ".zarr", ".csv", ".json"),
    placement_endings=(".json", ".npz"),
)
