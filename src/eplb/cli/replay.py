"""`eplb replay`: a recorded trace through policies, each scored on windows that it had not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import eplb
from eplb.cli.console import output
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
    topology_from,
)
from eplb.cli.progress import Count, with_count, with_progress
from eplb.cli.replay_json import replays_as_json
from eplb.cli.replay_policies import name_of, policies_from
from eplb.cli.replay_source import Batching, Source, read_source
from eplb.cli.replay_tables import TITLE, next_step, outcome_facts, replay_table, replayed_facts, source_facts
from eplb.cli.tables import facts, machine_facts
from eplb.replay import Policy, Replay, replay
from eplb.replay.splits import check_split, planned_split

REPLAY_EXAMPLE = "Example: eplb replay loads.npz --ranks 8 --slots-per-rank 9 --policy static --policy eplb"

FIRST = 8


def replay_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE", help="Loads over windows, a .zarr folder, or a token stream.", show_default=False
        ),
    ],
    ranks: Ranks,
    slots_per_rank: SlotsPerRank,
    nodes: Nodes = "1",
    groups: Groups = 1,
    rank_speeds: RankSpeeds = None,
    failed_ranks: FailedRanks = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="contiguous, static, deepseek, eplb, oracle, or NAME=file.py:function; may be repeated.",
            show_default="all five",
        ),
    ] = None,
    history: Annotated[int, typer.Option(help="The most windows that a plan is shown.")] = 24,
    interval: Annotated[int, typer.Option(help="Windows from one plan to the next.")] = 1,
    first: Annotated[
        int | None,
        typer.Option(
            help="The first window that is scored.", show_default="8, or the middle of a trace that ends before"
        ),
    ] = None,
    max_moves_share: Annotated[
        float, typer.Option(metavar="X", help="Share of all slots that a replan may move; 1: any number.")
    ] = 0.1,
    max_moves_per_rank: Annotated[
        int | None, typer.Option(help="Experts that a replan may move to each rank.", show_default="any number")
    ] = None,
    forecast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What eplb expects: last, mean, exponential, drift or auto; may be repeated.",
            show_default="auto",
        ),
    ] = None,
    effort: EffortLevel = EffortName.balanced,
    seed: Annotated[int, typer.Option(help="Same trace, options and seed: the same placements.")] = 0,
    split: Annotated[
        str,
        typer.Option(
            help="How replicas share tokens: even; weighted (the best shares for each window, and step); or "
            "weighted-lagged (those of the window before)."
        ),
    ] = "even",
    batch_size: Annotated[
        int | None, typer.Option(help="Token streams: requests that decode together.", show_default=False)
    ] = None,
    steps_per_window: Annotated[
        int | None, typer.Option(help="Token streams: steps that make a window.", show_default="32")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Token streams: requests arrive as given or random.", show_default="given")
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Drive a recorded trace through policies and score each placement on windows it has not seen.

    TRACE holds loads over windows, in any file that `eplb plan` reads or a .zarr folder; or single tokens (an .npz file
    with 'ids'), which --batch-size puts into steps.

    - contiguous: the experts in order, nothing balanced
    - static: planned once, on the windows before the first
    - deepseek: DeepSeek's algorithm, on the sum of the last 8 windows
    - eplb: this planner, from the placement in force, within the budget of moves
    - oracle: this planner on the very windows that are scored: what no forecast exceeds by much
    """
    check_split(split, "--split")
    topology = topology_from(ranks, slots_per_rank, nodes, rank_speeds, failed_ranks)
    planning: dict[str, Any] = {"groups": groups, "effort": effort.value, "seed": seed}
    policies, notes = policies_from(policy or (), forecast or (), topology, split=planned_split(split), **planning)
    batching = Batching(batch_size=batch_size, steps_per_window=steps_per_window, order=order, seed=seed)
    source = with_progress(f"reading {file.name}", lambda: read_source(file, batching))
    check_plan_size(source.trace.num_layers, topology)
    options: dict[str, Any] = {
        "history": history,
        "interval": interval,
        "first": _first_of(source.trace.num_windows) if first is None else first,
        "max_moves_share": max_moves_share,
        "max_moves_per_rank": max_moves_per_rank,
        "split": split,
    }
    replays = replay_all(source, topology, policies, options)
    if json_output:
        planning["forecasts"] = list(forecast or ())
        batches = {"batch_size": batch_size, "steps_per_window": steps_per_window, "order": order}
        shown = {"file": str(file), "options": {**topology.to_dict(), **planning, **options, **batches}}
        print(json.dumps({**shown, **replays_as_json(source, replays, notes)}, allow_nan=False))
    else:
        machine = machine_facts(topology, source.trace.num_experts, groups)
        _print(source_facts(source, str(file), machine), replays, forecast or (), notes)


def _first_of(num_windows: int) -> int:
    return FIRST if num_windows > FIRST else max(1, num_windows // 2)


def replay_all(
    source: Source, topology: eplb.Topology, policies: Sequence[Policy], options: dict[str, Any]
) -> list[Replay]:
    """Replay the source under each policy, with one bar for all."""
    with_progress("loading the planner", lambda: eplb.warm_up(planned_split(options["split"])))
    num_scored = max(0, source.trace.num_windows - options["first"])
    count = Count(what="replaying", total=len(policies) * num_scored, unit="windows")

    def advance(done: int, total: int) -> None:
        count.done += 1

    def run() -> list[Replay]:
        found = []
        for policy in policies:
            count.begin(f"replaying {name_of(policy)}")
            found.append(replay(source.trace, topology, policy, steps=source.steps, progress=advance, **options))
        return found

    return with_count(count, run)


def _print(
    about: list[tuple[str, str]], replays: Sequence[Replay], forecasts: Sequence[str], notes: Sequence[str]
) -> None:
    console = output()
    console.print(facts([*about, *replayed_facts(replays[0])]))
    console.print()
    console.print(TITLE)
    console.print(replay_table(replays))
    console.print()
    console.print(facts([*outcome_facts(replays, notes), ("next", next_step(replays, forecasts))]))
