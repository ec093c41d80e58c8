"""Loads and placements from one format to another."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eplb.engines.formats import LOADS, Format
from eplb.engines.hints import Hints
from eplb.engines.layers import chosen_layers
from eplb.engines.placing import placed
from eplb.engines.registry import Recognized, format_for, format_named, recognized
from eplb.engines.remarks import Remarks
from eplb.errors import EplbError, FileFormatError, OptionError
from eplb.files import naming
from eplb.placement import Placement
from eplb.trace import LoadTrace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Converted:
    """What was read, and what there is to say.

    Parameters
    ----------
    value : LoadTrace or Placement
        What was read, with the model's numbers of the layers.
    kind : {"loads", "placement"}
        Which of the two it is.
    source_format, target_format : str
        Names of the formats; the target's is empty if nothing was written.
    notes : tuple of str
        Facts, such as how layers are numbered.
    warnings : tuple of str
        What was left out, or has no place in the format that was written.
    """

    value: LoadTrace | Placement
    kind: str
    source_format: str
    target_format: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read(source: str | os.PathLike[str], hints: Hints | None = None, source_format: str | None = None) -> Converted:
    """Return the loads or the placement in a file or folder of any format; which one is told by its content.

    Parameters
    ----------
    source : path
        The file or folder.
    hints : Hints, optional
        What the file does not say.
    source_format : str, optional
        Which format is meant, where a folder holds several.

    Raises
    ------
    FileFormatError
        If it is missing, truncated, foreign, too large or inconsistent.
    LoadsError, PlacementError, TopologyError
        If what it holds are no loads, or no sound placement.
    OptionError
        If a hint is needed and missing, or does not fit the file.
    MissingDependencyError
        If a library that reads it is not installed.

    Examples
    --------
    >>> import json, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "location.json")
    >>> _ = path.write_text(json.dumps({"physical_to_logical_map": [[0, 1, 2, 3], [0, 1, 2, 0]]}))
    >>> found = read(path, Hints(num_ranks=2, layers=[1]))
    >>> found.source_format, found.value.layer_ids.tolist(), found.value.physical_to_logical.tolist()
    ('sglang', [1], [[0, 1, 2, 0]])
    >>> folder.cleanup()
    """
    path, hints, remarks = Path(source), hints or Hints(), Remarks()
    with naming(path):
        found = recognized(path, source_format)
        value = _loads(found, hints, remarks) if found.kind == LOADS else _placement(found, hints, remarks)
    return Converted(
        value=value,
        kind=found.kind,
        source_format=found.format.name,
        notes=tuple(remarks.notes),
        warnings=tuple(remarks.warnings),
    )


def _loads(found: Recognized, hints: Hints, remarks: Remarks) -> LoadTrace:
    if found.format.read_loads is None:
        raise FileFormatError(f"{found.format.title} has no file of loads")
    recorded = found.format.read_loads(found.contents, hints, remarks)
    trace = recorded.trace
    if hints.num_experts not in (None, trace.num_experts):
        raise OptionError(f"num_experts: the file has {trace.num_experts} experts a layer, got {hints.num_experts}")
    if hints.layers is not None:
        rows, ids = chosen_layers(trace.layer_ids, hints.layers, recorded.counted)
        trace = replace(trace, loads=trace.loads[:, rows], layer_ids=ids)
    if hints.steps_per_window == 1:
        return trace
    if left_out := trace.num_windows % hints.steps_per_window:
        remarks.note(f"the last {left_out:,} of {trace.num_windows:,} steps fill no window, and are left out")
    return trace.windows(hints.steps_per_window)


def _placement(found: Recognized, hints: Hints, remarks: Remarks) -> Placement:
    if found.format.read_slots is None:
        raise FileFormatError(f"{found.format.title} has no file of placements")
    result = placed(found.format.read_slots(found.contents, hints, remarks), hints)
    if result.shared is not None:
        remarks.warn(
            f"{result.shared.num_slots} slots of each layer hold shared experts, ids from "
            f"{result.placement.num_experts} on: a placement has no place for them; to write a map with them where "
            f"they are, say --shared-from {found.contents.path}"
        )
    return result.placement


def write(
    value: LoadTrace | Placement,
    target: str | os.PathLike[str],
    target_format: str | None = None,
    hints: Hints | None = None,
) -> Converted:
    """Write loads or a placement in any format that holds them, whole or not at all.

    Parameters
    ----------
    value : LoadTrace or Placement
        What to write.
    target : path
        A new file; or one that holds a placement of that format, which is replaced.
    target_format : str, optional
        Name of the format; default: by the ending of `target`.
    hints : Hints, optional
        What the format holds and `value` does not.

    Raises
    ------
    PlacementError
        If the engine cannot have this placement.
    OptionError
        If a hint is needed and missing, or the engine has no such file.
    FileFormatError
        If something else is at `target`, or it cannot be written, or its name does not end as the format wants.
    MissingDependencyError
        If a library that writes it is not installed.
    """
    path, hints, remarks = Path(target), hints or Hints(), Remarks()
    kind = LOADS if isinstance(value, LoadTrace) else "placement"
    known = format_for(path, kind) if target_format is None else format_named(target_format)
    writes: Any = known.write_loads if kind == LOADS else known.write_placement
    if writes is None:
        raise OptionError(f"{known.title} takes no {LOADS if kind == LOADS else 'placements'} from a file")
    _check_target(path, kind, known)
    with naming(path):
        writes(value, path, hints, remarks)
    return Converted(
        value=value,
        kind=kind,
        source_format="",
        target_format=known.name,
        notes=tuple(remarks.notes),
        warnings=tuple(remarks.warnings),
    )


def _check_target(path: Path, kind: str, known: Format) -> None:
    """Raise unless nothing is at `path`, or a placement of that format: anything else is somebody's work."""
    if not os.path.lexists(path):
        return
    if kind == LOADS:
        raise FileFormatError(
            f"{path}: exists already, and loads are not replaced; remove it first, or write elsewhere"
        )
    try:
        found = recognized(path)
    except EplbError:
        found = None
    if found is None or (found.kind, found.format) != (kind, known):
        raise FileFormatError(
            f"{path}: exists and is no placement of {known.title}; remove it first, or write elsewhere"
        )


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    target_format: str | None = None,
    hints: Hints | None = None,
    source_format: str | None = None,
) -> Converted:
    """Read loads or a placement, and write them in another format; parameters and errors are those of both.

    Examples
    --------
    >>> import tempfile
    >>> from eplb import Topology
    >>> folder = tempfile.TemporaryDirectory()
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> placement.save(f"{folder.name}/plan.json")
    >>> converted = convert(f"{folder.name}/plan.json", f"{folder.name}/balancer.yaml")
    >>> print(Path(folder.name, "balancer.yaml").read_text())
    num_slots: 4
    layer_updates_per_iter: 0
    initial_global_assignments:
      0: [0, 1, 2, 0]
    <BLANKLINE>
    >>> folder.cleanup()
    """
    found = read(source, hints, source_format)
    if os.path.lexists(target) and Path(source).samefile(target):
        raise OptionError(f"{target}: this is the file that is read; write to another")
    written = write(found.value, target, target_format, hints)
    return replace(
        found,
        target_format=written.target_format,
        notes=found.notes + written.notes,
        warnings=found.warnings + written.warnings,
    )
