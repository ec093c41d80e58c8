"""`eplb validate`: whether a placement is sound, fits loads, and can run in an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import eplb
from eplb.cli.console import output
from eplb.cli.convert import warn_all
from eplb.cli.engine_options import ExpertsOfFile, FormatRead, LayersOfFile, NodesOfFile, RanksOfFile, hints_from
from eplb.cli.options import JsonOutput
from eplb.cli.progress import with_progress
from eplb.cli.summary import counted
from eplb.cli.tables import facts, machine_facts
from eplb.engines import Verdict, validate
from eplb.engines.layers import numbers_of
from eplb.reading import read_loads

VALIDATE_EXAMPLE = "Example: eplb validate plan.json --loads loads.npz --engine sglang"


def validate_command(
    file: Annotated[Path, typer.Argument(metavar="PLACEMENT", help="A placement of any format.", show_default=False)],
    loads: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Loads that it is for: how balanced it is on them.", show_default=False),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Engine that is to run it: sglang, tensorrt-llm, vllm-ascend, vllm or megatron.",
            show_default=False,
        ),
    ] = None,
    source_format: FormatRead = None,
    ranks: RanksOfFile = None,
    nodes: NodesOfFile = "1",
    experts: ExpertsOfFile = None,
    layers: LayersOfFile = None,
    json_output: JsonOutput = False,
) -> None:
    """Say all that is wrong with a placement, and its hash if nothing is.

    Every expert of every layer needs a replica, ids must be those of experts,
    slots must be shared out as the engine wants. An expert twice on a rank is a
    warning, unless the engine forbids it.

    Exit code 1 says that something is wrong, 2 that the file cannot be read.
    """
    hints = hints_from(ranks, nodes, experts, layers)
    trace = None if loads is None else with_progress(f"reading {loads.name}", lambda: read_loads(loads))
    verdict = with_progress(f"reading {file.name}", lambda: validate(file, hints, engine, trace, source_format))
    quality = _quality(verdict, trace)
    if json_output:
        print(json.dumps(_object(verdict, file, engine, quality), allow_nan=False))
    else:
        _print(verdict, file, engine, quality)
    if not verdict.is_valid:
        raise typer.Exit(1)


def _quality(verdict: Verdict, trace: eplb.LoadTrace | None) -> float | None:
    """Return the balancedness on the loads, the mean over their windows."""
    if trace is None or verdict.placement is None or not verdict.is_valid:
        return None
    return float(eplb.evaluate(verdict.placement, trace).balancedness.mean())


def _print(verdict: Verdict, file: Path, engine: str | None, quality: float | None) -> None:
    warn_all(verdict.warnings)
    rows = [("placement", f"{file}: of {verdict.format}")]
    if verdict.placement is not None:
        rows += _placement_facts(verdict.placement)
    rows += [("note" if i == 0 else "", text) for i, text in enumerate(verdict.notes)]
    rows += [("wrong" if i == 0 else "", text) for i, text in enumerate(verdict.errors)]
    if verdict.is_valid:
        rows.append(("valid", "yes" if engine is None else f"yes, for {engine}"))
    if quality is not None:
        rows.append(("balanced", f"{quality:.4f} on the loads, mean of the windows (1 is perfect)"))
    output().print(facts(rows))


def _placement_facts(placement: eplb.Placement) -> list[tuple[str, str]]:
    counts = placement.replica_counts
    return [
        ("", f"{counted(placement.num_layers, 'layer')} x {counted(placement.num_experts, 'expert')}"),
        machine_facts(placement.topology, placement.num_experts, 1),
        ("layers", numbers_of(placement.layer_ids)),
        ("replicas", f"{counts.min()} to {counts.max()} of an expert"),
        ("hash", placement.hash),
    ]


def _object(verdict: Verdict, file: Path, engine: str | None, quality: float | None) -> dict[str, Any]:
    placement = verdict.placement
    return {
        "file": str(file),
        "format": verdict.format,
        "engine": engine,
        "valid": verdict.is_valid,
        "errors": list(verdict.errors),
        "warnings": list(verdict.warnings),
        "notes": list(verdict.notes),
        "plan_hash": None if placement is None else placement.hash,
        "num_experts": None if placement is None else placement.num_experts,
        "layer_ids": None if placement is None else placement.layer_ids.tolist(),
        "topology": None if placement is None else placement.topology.to_dict(),
        "balancedness": quality,
        "eplb_version": eplb.__version__,
    }
