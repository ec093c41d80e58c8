"""`eplb convert`: loads and placements from one format to another."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import eplb
from eplb.cli.console import one_line, output
from eplb.cli.engine_options import (
    ExpertsOfFile,
    FormatRead,
    LayersOfFile,
    NodesOfFile,
    RanksOfFile,
    hints_from,
)
from eplb.cli.options import JsonOutput
from eplb.cli.progress import with_progress
from eplb.cli.summary import counted
from eplb.cli.tables import facts
from eplb.engines import Converted, convert
from eplb.engines.layers import numbers_of

CONVERT_EXAMPLE = "Example: eplb convert plan.json location.json --to sglang --hidden-layers 61"


def convert_command(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A file or folder with loads or a placement.", show_default=False)
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="What is written.", show_default=False)],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Format that is written: eplb, sglang, tensorrt-llm or vllm-ascend.",
            show_default="by the ending of OUT",
        ),
    ] = None,
    source_format: FormatRead = None,
    ranks: RanksOfFile = None,
    nodes: NodesOfFile = "1",
    experts: ExpertsOfFile = None,
    layers: LayersOfFile = None,
    hidden_layers: Annotated[
        int | None,
        typer.Option(help="Layers of the model, dense ones too: the rows for SGLang.", show_default="up to the last"),
    ] = None,
    steps_per_window: Annotated[int, typer.Option(help="Recorded steps that are summed to a window.")] = 1,
    top_k: Annotated[
        int | None,
        typer.Option(help="Experts of a token, which TensorRT-LLM's statistics hold.", show_default=False),
    ] = None,
    shared_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="vllm-ascend: the map whose shared experts keep their slots.", show_default=False
        ),
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Convert loads or a placement from one format to another.

    What IN is, is told by its content:

    - eplb: loads (.npz, .npy, .json, .csv, .pt, .zarr), placements (.json, .npz)
    - sglang: the recorder's dumps (a file, or a folder with those of all ranks)
    - sglang: files for --init-expert-location (.json, .pt)
    - tensorrt-llm: a folder of expert statistics
    - tensorrt-llm: the YAML file under moe_config.load_balancer
    - vllm-ascend: expert maps (.json)
    - megatron: a folder of routing traces (only read)

    Nothing is written if anything is wrong.
    A placement of the same format is replaced, other files are not.
    """
    hints = hints_from(
        ranks,
        nodes,
        experts,
        layers,
        hidden_layers=hidden_layers,
        steps_per_window=steps_per_window,
        top_k=top_k,
        shared_from=shared_from,
    )
    done = with_progress(f"converting {source.name}", lambda: convert(source, target, to, hints, source_format))
    if json_output:
        print(json.dumps(_object(done, source, target), allow_nan=False))
        return
    warn_all(done.warnings)
    rows = [
        ("read", f"{source}: {done.kind} of {done.source_format}"),
        ("", _size(done)),
        ("layers", numbers_of(done.value.layer_ids)),
        ("written", f"{target}: {done.kind} of {done.target_format}"),
    ]
    output().print(facts([*rows, *(("note" if i == 0 else "", text) for i, text in enumerate(done.notes))]))


def warn_all(texts: Sequence[str]) -> None:
    """Print each text as a line on stderr."""
    for text in texts:
        print(f"warning: {one_line(text)}", file=sys.stderr)


def _size(done: Converted) -> str:
    value = done.value
    size = f"{counted(value.num_layers, 'layer')} x {counted(value.num_experts, 'expert')}"
    if isinstance(value, eplb.LoadTrace):
        return f"{counted(value.num_windows, 'window')} x {size}"
    topology = value.topology
    return f"{size} in {topology.num_slots:,} slots on {counted(topology.num_ranks, 'rank')}; plan {value.hash[:12]}"


def _object(done: Converted, source: Path, target: Path) -> dict[str, Any]:
    return {
        "kind": done.kind,
        "source": str(source),
        "source_format": done.source_format,
        "target": str(target),
        "target_format": done.target_format,
        "layer_ids": done.value.layer_ids.tolist(),
        "num_experts": done.value.num_experts,
        **_only(done.value),
        "notes": list(done.notes),
        "warnings": list(done.warnings),
        "eplb_version": eplb.__version__,
    }


def _only(value: eplb.LoadTrace | eplb.Placement) -> dict[str, Any]:
    """Return what only loads have, or only a placement."""
    if isinstance(value, eplb.LoadTrace):
        return {"num_windows": value.num_windows}
    return {"topology": value.topology.to_dict(), "plan_hash": value.hash}
