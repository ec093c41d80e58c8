"""`eplb replay`: a recorded trace through policies, each scored on windows that it had not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import eplb
from eplb.cli.console import output
from eplb.cli.options import check_plan_size, topology_from
from eplb.cli.plan import ONE_OBJECT, EffortName
from eplb.cli.progress import Count, with_count, with_progress
from eplb.cli.replay_json import replays_as_json
from eplb.cli.replay_policies import name_of, policies_from
from eplb.cli.replay_source import Batching, Source, read_source
from eplb.cli.replay_tables import TITLE, next_step, outcome_facts, replay_table, replayed_facts, source_facts
from eplb.cli.tables import facts, machine_facts
from eplb.errors import OptionError
from eplb.replay import Policy, Replay, replay

REPLAY_EXAMPLE = "Example: eplb replay loads.npz --ranks 8 --slots-per-rank 9 --policy static --policy eplb"


def replay_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE", help="Loads over windows, a .zarr folder, or a token stream.", show_default=False
        ),
    ],
    ranks: Annotated[int, typer.Option(help="Ranks (GPUs) of the expert-parallel group.", show_default=False)],
    slots_per_rank: Annotated[
        str,
        typer.Option(
            metavar="S", help="Experts a rank has memory for: one integer, or one a rank (9,9,8,8).", show_default=False
        ),
    ],
    nodes: Annotated[str, typer.Option(metavar="N", help="Nodes, or the node of each rank (0,0,1,1).")] = "1",
    groups: Annotated[int, typer.Option(help="Expert groups; each is kept on one node. 1: no groups.")] = 1,
    rank_speeds: Annotated[
        str | None, typer.Option(metavar="X,X,...", help="Relative speed of each rank.", show_default="all 1")
    ] = None,
    failed_ranks: Annotated[
        str | None, typer.Option(metavar="R,R,...", help="Ranks that hold nothing.", show_default="none")
    ] = None,
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
    first: Annotated[int, typer.Option(help="The first window that is scored.")] = 8,
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
    effort: Annotated[
        EffortName, typer.Option(metavar="LEVEL", help="fast, balanced or thorough: bounds the work, never the time.")
    ] = EffortName.balanced,
    seed: Annotated[int, typer.Option(help="Same trace, options and seed: the same placements.")] = 0,
    split: Annotated[str, typer.Option(help="How replicas share tokens: even.")] = "even",
    batch_size: Annotated[
        int | None, typer.Option(help="Token streams: requests that decode together.", show_default=False)
    ] = None,
    steps_per_window: Annotated[
        int | None, typer.Option(help="Token streams: steps that make a window.", show_default="32")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Token streams: requests arrive as given or random.", show_default="given")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help=ONE_OBJECT)] = False,
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
    if split != "even":
        raise OptionError(f"--split: expected even, got {split!r}")
    topology = topology_from(ranks, slots_per_rank, nodes, rank_speeds, failed_ranks)
    policies, notes = policies_from(policy or (), forecast or (), topology, groups, effort.value, seed)
    batching = Batching(batch_size=batch_size, steps_per_window=steps_per_window, order=order, seed=seed)
    source = with_progress(f"reading {file.name}", lambda: read_source(file, batching))
    check_plan_size(source.trace.num_layers, topology)
    options: dict[str, Any] = {
        "history": history,
        "interval": interval,
        "first": first,
        "max_moves_share": max_moves_share,
        "max_moves_per_rank": max_moves_per_rank,
        "split": split,
    }
    replays = replay_all(source, topology, policies, options)
    if json_output:
        planning = {"groups": groups, "effort": effort.value, "seed": seed, "forecasts": list(forecast or ())}
        batches = {"batch_size": batch_size, "steps_per_window": steps_per_window, "order": order}
        shown = {"file": str(file), "options": {**topology.to_dict(), **planning, **options, **batches}}
        print(json.dumps({**shown, **replays_as_json(source, replays, notes)}, allow_nan=False))
    else:
        machine = machine_facts(topology, source.trace.num_experts, groups)
        _print(source_facts(source, str(file), machine), replays, forecast or (), notes)


def replay_all(
    source: Source, topology: eplb.Topology, policies: Sequence[Policy], options: dict[str, Any]
) -> list[Replay]:
    """Replay the source under each policy, with one bar for all."""
    with_progress("loading the planner", eplb.warm_up)
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
