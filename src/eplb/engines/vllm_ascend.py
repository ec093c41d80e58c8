"""vllm-ascend: expert maps, as `expert_map_path` loads and `expert_map_record_path` records them.

Facts were read from vllm-ascend 0.23.0, `vllm_ascend/eplb/core/eplb_utils.py` and `adaptor/vllm_adaptor.py`. Layers are
the MoE layers, counted from 0; layers and devices are found by their position. With `mix_placement` the map holds
shared experts too, whose ids come after those of the routed ones.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from eplb.engines.checking import id_list, id_matrix, integer, named
from eplb.engines.contents import Contents, contents_of
from eplb.engines.formats import PLACEMENT, Format, Slots
from eplb.engines.hints import MAX_LAYERS, Hints
from eplb.engines.layers import numbers_of
from eplb.engines.placing import routed_part
from eplb.engines.remarks import Remarks
from eplb.engines.rules import Rules
from eplb.errors import FileFormatError, OptionError, PlacementError
from eplb.files import naming, write_atomically
from eplb.placement import Placement

RULES = Rules(engine="vllm-ascend", repeats_on_rank=False, fewest_ranks=2)


def kind_of(contents: Contents) -> str | None:
    """Return "placement" if this is an expert map."""
    return PLACEMENT if contents.container == "json" and {"moe_layer_count", "layer_list"} & contents.keys else None


def read_slots(contents: Contents, hints: Hints, remarks: Remarks) -> Slots:
    """Return the slots of an expert map."""
    layers = named(contents.value, "layer_list", list, "the map")
    count = integer(contents.value.get("moe_layer_count"), "moe_layer_count", least=1, most=MAX_LAYERS)
    if count != len(layers):
        raise FileFormatError(f"moe_layer_count: expected {len(layers)}, as layer_list has; got {count}")
    rows = [_row(layer, index) for index, layer in enumerate(layers)]
    num_ranks = len(named(layers[0], "device_list", list, "layer_list[0]"))
    _check_even(rows, num_ranks)
    experts = id_matrix([[expert for device in row for expert in device] for row in rows], "device_expert")
    if hints.layers is None:
        remarks.note(f"vllm-ascend counts MoE layers from 0: {numbers_of(np.arange(count))} here")
    return Slots(experts=experts, layer_ids=np.arange(count), counted=True, num_ranks=num_ranks, shares_slots=True)


def _row(layer: Any, index: int) -> list[list[int]]:
    """Return the experts of each device of a layer."""
    what = f"layer_list[{index}]"
    devices = named(layer, "device_list", list, what)
    _check_position(layer, "layer_id", index, what)
    _check_position(layer, "device_count", len(devices), what)
    found = []
    for rank, device in enumerate(devices):
        where = f"{what}: device_list[{rank}]"
        found.append(id_list(named(device, "device_expert", list, where), f"{where}: device_expert"))
        _check_position(device, "device_id", rank, where)
    return found


def _check_position(value: Any, name: str, expected: int, what: str) -> None:
    if name not in value:
        raise FileFormatError(f"{what}: {name} is missing (truncated?)")
    if integer(value[name], f"{what}: {name}") != expected:
        raise FileFormatError(
            f"{what}: {name}: expected {expected}, since vllm-ascend goes by position; got {value[name]}"
        )


def _check_even(rows: list[list[list[int]]], num_ranks: int) -> None:
    """Raise unless all devices of all layers hold equally many experts, as vllm-ascend's tensor needs."""
    expected = len(rows[0][0]) if rows[0] else 0
    if not expected:
        raise PlacementError("layer_list[0]: expected devices with experts, got none")
    for index, row in enumerate(rows):
        sizes = [len(device) for device in row]
        if sizes != [expected] * num_ranks:
            raise PlacementError(
                f"layer_list[{index}]: expected {expected} experts on each of {num_ranks} devices, got {sizes[:16]}"
            )


def write_placement(placement: Placement, path: Path, hints: Hints, remarks: Remarks) -> None:
    """Write an expert map, a `.json` file."""
    if path.suffix != ".json":
        raise FileFormatError(f"{path}: expected a name that ends in .json, which vllm-ascend asks for")
    RULES.check(placement, remarks)
    order = np.argsort(placement.layer_ids, kind="stable")
    experts = _with_shared(placement, hints, remarks)[order]
    num_ranks = placement.topology.num_ranks
    layers = [_layer(row.reshape(num_ranks, -1), index) for index, row in enumerate(experts)]
    content = json.dumps({"moe_layer_count": len(layers), "layer_list": layers}, indent=1).encode()

    def write(stream: IO[bytes]) -> None:
        stream.write(content)

    write_atomically(path, write)
    _tell(placement, path, order, remarks)


def _layer(devices: NDArray[np.int64], index: int) -> dict[str, Any]:
    listed = [{"device_id": rank, "device_expert": experts} for rank, experts in enumerate(devices.tolist())]
    return {"layer_id": index, "device_count": len(listed), "device_list": listed}


def _with_shared(placement: Placement, hints: Hints, remarks: Remarks) -> NDArray[Any]:
    """Return the experts of all slots, [L, P]: those of shared experts as in the map that the hints name."""
    if hints.shared_from is None:
        return placement.physical_to_logical
    path = Path(os.fspath(hints.shared_from))
    with naming(path):
        contents = contents_of(path)
        if kind_of(contents) is None:
            raise FileFormatError("expected an expert map of vllm-ascend, whose shared experts are to stay")
        slots = read_slots(contents, Hints(), Remarks())
        _, shared = routed_part(slots, Hints(num_experts=placement.num_experts))
        if shared is None:
            raise OptionError(f"no ids from {placement.num_experts} on: this map holds no shared experts")
        experts = shared.with_routed(placement)
    remarks.note(f"{shared.num_slots} slots hold shared experts, where they were in {path}")
    return experts


def _tell(placement: Placement, path: Path, order: NDArray[np.intp], remarks: Remarks) -> None:
    ids = placement.layer_ids[order]
    remarks.note(
        f"vllm-ascend counts MoE layers: its {numbers_of(np.arange(len(ids)))} are the model's {numbers_of(ids)}"
    )
    remarks.note(f'start vllm-ascend with {{"eplb_config": {{"expert_map_path": "{path}"}}}} in --additional-config')
    if placement.topology.node_count > 1:
        remarks.warn("an expert map does not say which node a rank is on")


FORMAT = Format(
    name="vllm-ascend",
    title="vllm-ascend",
    kind_of=kind_of,
    read_slots=read_slots,
    write_placement=write_placement,
    rules=RULES,
)
