"""Whether a placement is sound, fits the loads, and can run in an engine: all that is wrong, not only the first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eplb.engines.formats import LOADS, Slots
from eplb.engines.hints import Hints
from eplb.engines.layers import numbers_of
from eplb.engines.placing import on_layers, placed, routed_part, topology_of
from eplb.engines.registry import recognized, rules_of
from eplb.engines.remarks import Remarks
from eplb.engines.rules import Rules, repeats
from eplb.errors import FileFormatError, PlacementError, TopologyError
from eplb.files import naming
from eplb.placement import Placement
from eplb.trace import LoadTrace

MAX_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What was found.

    Parameters
    ----------
    format : str
        Name of the format of the file.
    errors : tuple of str
        What is wrong; empty if the placement is valid.
    warnings, notes : tuples of str
        What is doubtful, and facts.
    placement : Placement or None
        The placement, if it is sound.
    """

    format: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    placement: Placement | None = field(default=None)

    @property
    def is_valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors


def validate(
    source: str | os.PathLike[str],
    hints: Hints | None = None,
    engine: str | None = None,
    loads: LoadTrace | None = None,
    source_format: str | None = None,
) -> Verdict:
    """Return all that is wrong with a placement, as far as the file can be read.

    Parameters
    ----------
    source : path
        A placement of any format.
    hints : Hints, optional
        What the file does not say.
    engine : str, optional
        The engine that is to run it.
    loads : LoadTrace, optional
        Loads that must be of the same layers and experts.
    source_format : str, optional
        The format that is meant; default: by content.

    Raises
    ------
    FileFormatError
        If the file cannot be read as a placement at all.
    OptionError
        If a hint is needed and missing.
    MissingDependencyError
        If a library that reads it is not installed.

    Examples
    --------
    >>> import json, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "location.json")
    >>> _ = path.write_text(json.dumps({"physical_to_logical_map": [[0, 1, 3, 3], [0, 1, 2, 0]]}))
    >>> validate(path, Hints(num_ranks=2), engine="sglang").errors
    ('layer 0: expert 2 has no replica', 'layer 1: expert 3 has no replica')
    >>> folder.cleanup()
    """
    path, hints, remarks = Path(source), hints or Hints(), Remarks()
    rules = None if engine is None else rules_of(engine)
    with naming(path):
        found = recognized(path, source_format)
        if found.kind == LOADS or found.format.read_slots is None:
            raise FileFormatError(f"holds loads of {found.format.title}, no placement; `eplb plan` makes one of them")
        try:
            slots = found.format.read_slots(found.contents, hints, remarks)
            errors, placement = _judged(slots, hints, loads)
        except (PlacementError, TopologyError) as exc:
            errors, placement = [str(exc)], None
    if placement is not None:
        errors += _fitting(placement, rules, loads, remarks)
    return Verdict(
        format=found.format.name,
        errors=tuple(errors),
        warnings=tuple(remarks.warnings),
        notes=tuple(remarks.notes),
        placement=placement,
    )


def _fitting(placement: Placement, rules: Rules | None, loads: LoadTrace | None, remarks: Remarks) -> Iterator[str]:
    """Yield what is wrong with a sound placement for the engine and the loads; remark what is doubtful."""
    if rules is not None:
        yield from rules.broken(placement)
        remarks.warnings += rules.doubtful(placement)
    elif repeated := repeats(placement):
        remarks.warn(f"an expert twice on a rank takes memory and splits nothing: {repeated}")
    if loads is not None:
        yield from _against(placement, loads)


def _judged(slots: Slots, hints: Hints, loads: LoadTrace | None) -> tuple[list[str], Placement | None]:
    """Return what is wrong with the slots, and the placement if nothing is."""
    routed, _ = routed_part(on_layers(slots, hints), hints)
    num_experts = routed.num_experts
    if num_experts is None:
        num_experts = loads.num_experts if loads is not None else int(routed.experts.max()) + 1
    found = list(_wrong(routed, num_experts, hints))
    if len(found) > MAX_LISTED:
        found = [*found[:MAX_LISTED], f"and {len(found) - MAX_LISTED} more"]
    if found:
        return found, None
    try:
        return [], placed(slots, hints).placement
    except (PlacementError, TopologyError, FileFormatError) as exc:
        return [str(exc)], None


def _wrong(slots: Slots, num_experts: int, hints: Hints) -> Iterator[str]:
    """Yield what is wrong with the ids in the slots, layer by layer."""
    if num_experts > slots.experts.shape[1]:  # before memory is taken for as many
        num_slots = slots.experts.shape[1]
        yield f"{num_experts:,} experts, by the largest id or as said, cannot all stand in {num_slots:,} slots"
        return
    usable = np.ones(slots.experts.shape[1], dtype=np.bool_)
    try:
        topology = topology_of(slots, hints)
        if topology.num_slots != slots.experts.shape[1]:
            yield f"{slots.experts.shape[1]} slots a layer; {topology.num_ranks} ranks have {topology.num_slots}"
        else:
            usable = topology.alive[topology.rank_of_slot]
    except (PlacementError, TopologyError) as exc:
        yield str(exc)
    for experts, layer in zip(slots.experts, slots.layer_ids, strict=True):
        yield from _wrong_in_layer(experts, int(layer), num_experts, usable)


def _wrong_in_layer(
    experts: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    layer: int,
    num_experts: int,
    usable: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> Iterator[str]:
    foreign = np.flatnonzero(((experts < 0) | (experts >= num_experts)) & usable)
    if foreign.size:
        slot = int(foreign[0])
        more = f", and {foreign.size - 1} slots more" if foreign.size > 1 else ""
        yield f"layer {layer}: slot {slot} holds {experts[slot]}, no id of 0 to {num_experts - 1}{more}"
    if (stray := np.flatnonzero((experts != -1) & ~usable)).size:
        yield f"layer {layer}: slot {stray[0]} belongs to a rank that failed, and holds {experts[stray[0]]}"
    missing = np.setdiff1d(np.arange(num_experts), experts[usable])
    if missing.size:
        plural = "experts" if missing.size > 1 else "expert"
        yield f"layer {layer}: {plural} {numbers_of(missing)} {'have' if missing.size > 1 else 'has'} no replica"


def _against(placement: Placement, loads: LoadTrace) -> Iterator[str]:
    """Yield where loads are not those of the placement's model."""
    if loads.num_experts != placement.num_experts:
        yield f"the loads have {loads.num_experts} experts a layer, the placement {placement.num_experts}"
    if loads.layer_ids.tolist() != placement.layer_ids.tolist():
        theirs = numbers_of(placement.layer_ids)
        yield f"the loads are of layers {numbers_of(loads.layer_ids)}, the placement of {theirs}"
