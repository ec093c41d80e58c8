"""TensorRT-LLM: the placement under `moe_config.load_balancer`, a YAML file; and its statistics.

Facts were read from TensorRT-LLM's `llmapi/llm_args.py` (`MoeLoadBalancerConfig`) and
`examples/wide_ep/ep_load_balancer`. Layers are the model's own numbers. Nothing says how many ranks there are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from eplb.engines.checking import id_list, id_matrix, integer, shown
from eplb.engines.contents import Contents
from eplb.engines.formats import LOADS, PLACEMENT, Format, Slots
from eplb.engines.hints import MAX_LAYERS, Hints
from eplb.engines.layers import numbers_of
from eplb.engines.remarks import Remarks
from eplb.engines.rules import Rules
from eplb.engines.tensorrt_llm_statistics import META, read_loads, write_loads
from eplb.engines.yaml_files import read_yaml
from eplb.errors import FileFormatError, PlacementError
from eplb.files import write_atomically
from eplb.placement import Placement

RULES = Rules(engine="TensorRT-LLM", fewest_ranks=2)
NAMES = ("num_slots", "initial_global_assignments", "layer_updates_per_iter")
ABOVE = ("moe_config", "load_balancer", "moe_load_balancer")
LINE = re.compile(rf"^({'|'.join((*NAMES, *ABOVE))})[ \t]*:", re.MULTILINE)


def kind_of(contents: Contents) -> str | None:
    """Return what TensorRT-LLM would find in `contents`."""
    if contents.container == "folder":
        return LOADS if META in contents.names else None
    if contents.container == "text":
        return PLACEMENT if LINE.search(contents.text) else None
    return PLACEMENT if contents.container == "json" and contents.keys & {*NAMES, *ABOVE} else None


def read_slots(contents: Contents, hints: Hints, remarks: Remarks) -> Slots:
    """Return the slots of a load balancer's configuration, alone or inside the options of the model."""
    config = _config(contents.value if contents.container == "json" else read_yaml(contents.path))
    updates = integer(config.get("layer_updates_per_iter", 0), "layer_updates_per_iter")
    if updates:
        remarks.warn(f"layer_updates_per_iter is {updates}: TensorRT-LLM changes this placement while it serves")
    rows = _rows(config.get("initial_global_assignments"))
    num_slots = integer(config.get("num_slots"), "num_slots", least=1)
    for layer, row in rows.items():
        if len(row) != num_slots:
            raise PlacementError(f"layer {layer}: expected {num_slots} slots, as num_slots says, got {len(row)}")
    remarks.note("TensorRT-LLM's layers have the model's own numbers")
    return Slots(
        experts=id_matrix(list(rows.values()), "initial_global_assignments"),
        layer_ids=np.array(list(rows), dtype=np.int64),
    )


def _rows(layers: Any) -> dict[int, list[int]]:
    """Return the experts of each layer, by its number."""
    if not isinstance(layers, dict) or not 0 < len(layers) <= MAX_LAYERS:
        raise FileFormatError(
            f"initial_global_assignments: expected the experts of each layer, got {shown(layers)}; without them "
            "TensorRT-LLM places experts while it serves, and there is nothing to read"
        )
    rows = {_layer(name): id_list(row, f"layer {str(name)[:40]}") for name, row in layers.items()}
    if len(rows) < len(layers):
        raise FileFormatError("initial_global_assignments: a layer comes twice")
    return dict(sorted(rows.items()))


def _config(value: Any) -> dict[Any, Any]:
    """Return the configuration of the load balancer in a file of options."""
    for name in ABOVE:
        if isinstance(value, dict) and name in value:
            value = value[name]
    if isinstance(value, str):
        raise FileFormatError(f"the load balancer is configured in another file, {value[:200]!r}; give that one")
    if not isinstance(value, dict):
        raise FileFormatError(f"expected the configuration of a load balancer, got {shown(value)}")
    foreign = sorted(str(name) for name in set(value) - set(NAMES))
    if foreign:
        raise FileFormatError(f"expected {', '.join(NAMES)} alone, as TensorRT-LLM does; got {foreign[0][:40]!r} too")
    return value


def _layer(name: Any) -> int:
    if isinstance(name, str) and name.isascii() and name.isdecimal() and len(name) < 10:
        name = int(name)  # names are texts in JSON
    return integer(name, "initial_global_assignments: layer")


def write_placement(placement: Placement, path: Path, hints: Hints, remarks: Remarks) -> None:
    """Write a YAML file for `moe_config.load_balancer`."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise FileFormatError(f"{path}: expected a name that ends in .yaml or .yml")
    RULES.check(placement, remarks)
    topology = placement.topology
    order = np.argsort(placement.layer_ids, kind="stable")
    rows = [f"  {placement.layer_ids[i]}: {placement.physical_to_logical[i].tolist()}\n" for i in order]
    text = f"num_slots: {topology.num_slots}\nlayer_updates_per_iter: 0\ninitial_global_assignments:\n" + "".join(rows)

    def write(stream: IO[bytes]) -> None:
        stream.write(text.encode())

    write_atomically(path, write)
    remarks.note(f"TensorRT-LLM looks layers up by the model's numbers: {numbers_of(placement.layer_ids[order])}")
    remarks.note(
        f"start TensorRT-LLM with {topology.num_ranks} expert-parallel ranks and moe_config.load_balancer: {path}"
    )
    if topology.node_count > 1:
        remarks.warn("the file does not say which node a rank is on")


FORMAT = Format(
    name="tensorrt-llm",
    title="TensorRT-LLM",
    kind_of=kind_of,
    read_loads=read_loads,
    read_slots=read_slots,
    write_loads=write_loads,
    write_placement=write_placement,
    rules=RULES,
    placement_endings=(".yaml", ".yml"),
)
