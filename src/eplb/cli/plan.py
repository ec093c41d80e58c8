"""`eplb plan`: from a file of loads to a placement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from eplb.cli import tables
from eplb.cli.console import output
from eplb.cli.machine_readable import as_json
from eplb.cli.options import (
    EffortLevel,
    EffortName,
    FailedRanks,
    Groups,
    JsonOutput,
    Nodes,
    Ranks,
    RankSpeeds,
    SlotsPerRank,
    check_plan_size,
    check_writable,
    topology_from,
)
from eplb.cli.progress import with_progress
from eplb.cli.summary import Summary, summarize
from eplb.placement import Placement
from eplb.reading import read_loads

EXAMPLE = "Example: eplb plan loads.npz --ranks 8 --slots-per-rank 9 --out plan.json"
NEARLY_BALANCED = 0.98
LARGE_GAP = 0.005
LOW_BOUND = 0.95


def plan_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Loads: layers x experts, or windows x layers x experts.", show_default=False
        ),
    ],
    ranks: Ranks,
    slots_per_rank: SlotsPerRank,
    nodes: Nodes = "1",
    groups: Groups = 1,
    rank_speeds: RankSpeeds = None,
    failed_ranks: FailedRanks = None,
    effort: EffortLevel = EffortName.balanced,
    previous: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The placement in force; only moves that pay are made.", show_default=False),
    ] = None,
    max_moves: Annotated[
        int | None, typer.Option(help="With --previous: most moves, over all layers.", show_default="any number")
    ] = None,
    max_moves_per_rank: Annotated[
        int | None, typer.Option(help="With --previous: most experts to each rank.", show_default="any number")
    ] = None,
    forecast: Annotated[
        str, typer.Option(metavar="NAME", help="Several windows: last, mean, exponential, drift or auto.")
    ] = "auto",
    split: Annotated[
        str, typer.Option(help="How replicas share tokens: even, or weighted (the best shares for each window).")
    ] = "even",
    seed: Annotated[int, typer.Option(help="Same loads, options and seed: the same plan.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the placement here (.json or .npz).", show_default=False)
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Plan which rank holds which replicas of which experts, and prove how good that is.

    FILE holds the loads:

    - .npz: an array 'loads', as eplb.LoadTrace saves it
    - .npy: an array
    - .json: nested lists, or an object with 'loads'
    - .csv: a line a layer, a column an expert; or the header layer,expert,load
    - .pt: a tensor, or a dict with 'loads' or 'logical_count'

    'Before' in the output is the placement without a plan: expert e of E on rank floor(e R / E), nothing redundant.
    """
    topology = topology_from(ranks, slots_per_rank, nodes, rank_speeds, failed_ranks)
    check_writable(out, file)
    trace = with_progress(f"reading {file.name}", lambda: read_loads(file))
    check_plan_size(trace.num_layers, topology)
    moving: dict[str, Any] = {"max_moves": max_moves, "max_moves_per_rank": max_moves_per_rank, "forecast": forecast}
    in_force = None if previous is None else Placement.load(previous)
    summary = summarize(trace, topology, groups, effort.value, seed, split, previous=in_force, **moving)
    if json_output:
        planning = {"groups": groups, "effort": effort.value, "seed": seed, "split": split, **moving}
        options = {**topology.to_dict(), **planning, "previous": None if previous is None else str(previous)}
        text = json.dumps(_object(summary, file, options, out), allow_nan=False)
    if out is not None:
        summary.plan.placement.save(out)
    if json_output:
        print(text)
    else:
        _print(summary, file, groups, effort.value, out)


def _object(summary: Summary, file: Path, options: dict[str, Any], out: Path | None) -> dict[str, Any]:
    return {"file": str(file), "options": options, **as_json(summary), "placement": None if out is None else str(out)}


def _print(summary: Summary, file: Path, groups: int, effort: str, out: Path | None) -> None:
    console, trace, placement = output(), summary.trace, summary.plan.placement
    planned = ("planned", f"in {summary.seconds:.2f} s, effort {effort}; plan {placement.hash[:12]}")
    machine = tables.machine_facts(placement.topology, trace.num_experts, groups)
    split = tables.split_facts(summary.split)
    console.print(tables.facts([*tables.loads_facts(trace, str(file)), machine, *split, planned]))
    console.print()
    console.print(tables.balance_table(summary))
    console.print()
    console.print(
        tables.facts([tables.bound_fact(summary), tables.worst_layers_fact(summary), *tables.moves_facts(summary)])
    )
    console.print()
    tables.print_picture(console, summary)
    console.print()
    rows = [("next" if i == 0 else "", hint) for i, hint in enumerate(hints(summary, effort, out))]
    console.print(tables.facts([*([("written", str(out))] if out is not None else []), *rows]))


def _best_balancedness(summary: Summary) -> float:
    """Return the balancedness that no plan exceeds for lack of slots: with groups, that of a plan without."""
    plan = summary.plan if summary.ungrouped is None else summary.ungrouped
    return plan.certificate.best_balancedness


def placement_stays(summary: Summary) -> bool:
    """Whether there was a placement in force, and no move from it pays."""
    return summary.plan.largest_load_before is not None and summary.plan.moves == 0


def hints(summary: Summary, effort: str, out: Path | None) -> list[str]:
    """Return what to do next, the most useful first."""
    certificate, found = summary.plan.certificate, []
    if placement_stays(summary):
        found.append("nothing needs to move: the placement in force is as good as any within the budget")
    if summary.before.balancedness >= NEARLY_BALANCED:
        found.append("these loads are nearly balanced without a plan: there is little to gain")
    if summary.trace.num_windows > 1:
        found.append("`eplb replay` with the same file and machine scores plans on windows they have not seen")
    elif certificate.gap > LARGE_GAP and effort != "thorough":
        found.append("--effort thorough may close more of the gap")
    elif _best_balancedness(summary) < LOW_BOUND:
        found.append("no placement in these slots does much better; more slots per rank would help")
    if summary.ungrouped is not None and summary.ungrouped.certificate.largest_load < certificate.largest_load * 0.99:
        found.append("groups cost balance here; --groups 1 plans without, at the price of traffic between nodes")
    if out is None:
        found.append("--out placement.json keeps this placement")
    else:
        found.append(f"in Python: eplb.Placement.load({str(out)!r}).physical_to_logical")
    return found
