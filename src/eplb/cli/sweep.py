"""`eplb sweep`: a grid of settings on recorded traces, as a table."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import eplb
from eplb.advising import Setting, Sweep, sweep
from eplb.advising.tables import check_table_path
from eplb.advising.work import num_processors
from eplb.cli.advise_costs import steps_of_all
from eplb.cli.console import one_line, output
from eplb.cli.options import JsonOutput
from eplb.cli.progress import Count, with_count, with_progress
from eplb.cli.summary import counted
from eplb.cli.sweep_grid import settings_from
from eplb.cli.sweep_tables import after_facts, before_facts, best_of, best_table, check_outcomes
from eplb.cli.tables import facts
from eplb.errors import OptionError
from eplb.reading import read_loads
from eplb.replay.cost import CostModel, hardware_named, model_named
from eplb.replay.splits import planned_split

SWEEP_EXAMPLE = "Example: eplb sweep loads.npz --ranks 8,16 --slots-per-rank 5:9 --interval 1,4 --out grid.parquet"
TITLE = "balancedness (1 is perfect), moves a window as a share of all slots; best of"


def sweep_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="TRACE", help="Loads over windows: files or .zarr folders.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The table: .parquet or .csv.", show_default=False)],
    ranks: Annotated[
        str | None, typer.Option(metavar="X,...", help="Ranks (GPUs), each number given.", show_default=False)
    ] = None,
    slots_per_rank: Annotated[
        str | None, typer.Option(metavar="X,...", help="Experts a rank has memory for.", show_default=False)
    ] = None,
    redundant: Annotated[
        str | None, typer.Option(metavar="X,...", help="Redundant experts, in place of slots.", show_default=False)
    ] = None,
    nodes: Annotated[
        str | None, typer.Option(metavar="X,...", help="Nodes that the ranks stand in.", show_default="1")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="contiguous, static, deepseek, eplb, oracle.", show_default="eplb"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="X,...", help="even, weighted, weighted-lagged.", show_default="even")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Windows that are summed before a policy sees them.", show_default="1"),
    ] = None,
    interval: Annotated[
        str | None, typer.Option(metavar="X,...", help="Such sums from one plan to the next.", show_default="1")
    ] = None,
    max_moves_share: Annotated[
        str | None, typer.Option(metavar="X,...", help="Share of all slots that a replan may move.", show_default="0.1")
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(metavar="X,...", help="Imbalance that is put up with, 0 to 1.", show_default="0")
    ] = None,
    effort: Annotated[
        str | None, typer.Option(metavar="X,...", help="fast, balanced, thorough.", show_default="balanced")
    ] = None,
    history: Annotated[
        str | None, typer.Option(metavar="X,...", help="The most sums that a plan is shown.", show_default="24")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(metavar="X,...", help="Expert groups, each on one node.", show_default="1")
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="X,...", help="Seeds of the planner.", show_default="0")] = None,
    grid: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings in JSON, in place of all above.", show_default=False)
    ] = None,
    first: Annotated[int, typer.Option(help="The first window of each trace that is scored.")] = 8,
    hardware: Annotated[
        str | None, typer.Option(metavar="NAME", help="Adds step times: of this GPU, with --model.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose experts the times are for.", show_default=False)
    ] = None,
    steps_per_window: Annotated[
        int | None, typer.Option(help="Forward passes in a window.", show_default="as the traces say, or 1")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; 0: this one alone.", show_default="one a processor")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster in place of processes.", show_default=False)
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Try every combination of settings on recorded traces, and write a table with a row for each.

    Values are lists (4,8) or ranges with both ends (4:16:4). Every trial is a replay: each window is scored under a
    placement that was planned before it. The rows are the same on any number of processes, on a Ray cluster, and after
    a kill, from which the same command goes on.
    """
    names = {str(file): file for file in files}
    if len(names) < len(files):
        raise OptionError("TRACE: a file comes twice; name each once")
    check_table_path(out)
    texts = {
        "ranks": ranks,
        "slots_per_rank": slots_per_rank,
        "redundant": redundant,
        "nodes": nodes,
        "policy": policy,
        "split": split,
        "window": window,
        "interval": interval,
        "max_moves_share": max_moves_share,
        "threshold": threshold,
        "effort": effort,
        "history": history,
        "groups": groups,
        "seed": seed,
    }
    traces = with_progress("reading traces", lambda: {name: read_loads(file) for name, file in names.items()})
    settings = settings_from(texts, grid, [trace.num_experts for trace in traces.values()])
    cost, notes = _cost(hardware, model, steps_per_window, traces)
    options = {"workers": workers, "ray_address": ray, "first": first, "cost": cost}

    def begin(num_resumed: int) -> None:
        if not json_output:
            output().print(facts(before_facts(traces, settings, out, _who(workers, ray), num_resumed, notes)))

    found = run_sweep(traces, settings, out, options, begin)
    if json_output:
        print(json.dumps(_object(found, notes), allow_nan=False))
    else:
        _print(found)
    check_outcomes(found)


def run_sweep(
    traces: Mapping[str, eplb.LoadTrace],
    settings: Sequence[Setting],
    out: Path,
    options: dict[str, Any],
    begin: Callable[[int], None],
) -> Sweep:
    """Run the sweep with a bar; what has to be compiled is compiled once, before there are workers.

    `begin` is called with the trials of an earlier run, when all has been checked and before the first trial.
    """
    if options["ray_address"] is None:
        splits = {planned_split(setting.split) for setting in settings}
        with_progress("loading the planner", lambda: eplb.warm_up(splits.pop() if len(splits) == 1 else None))
    count = Count(what="trying settings", total=len(traces) * len(settings), unit="trials")
    begun = False

    def advance(done: int, total: int) -> None:
        nonlocal begun
        count.done = done
        if not begun:  # what an earlier run made counts for nothing in the pace of this one
            begin(done)
            count.begin(count.what)
            begun = True

    return with_count(count, lambda: sweep(traces, settings, out, progress=advance, **options))


def _who(workers: int | None, ray: str | None) -> str:
    if ray is not None:
        return f"on the Ray cluster {ray}"
    number = num_processors() if workers is None else workers
    return f"by {counted(number, 'worker')}" if number else "in this process"


def _cost(
    hardware: str | None, model: str | None, steps_per_window: int | None, traces: Mapping[str, eplb.LoadTrace]
) -> tuple[CostModel | None, list[str]]:
    """Return the cost model, if one is asked for, and what was assumed."""
    if hardware is None and model is None:
        if steps_per_window is not None:
            raise OptionError("--steps-per-window: means something to step times alone; add --hardware and --model")
        return None, []
    if hardware is None or model is None:
        raise OptionError("--hardware, --model: step times need both")
    steps, notes = steps_of_all(traces, steps_per_window)
    return CostModel(hardware=hardware_named(hardware), model=model_named(model), steps_per_window=steps), notes


def _print(found: Sweep) -> None:
    console = output()
    for name, trials in itertools.groupby(found.trials, key=lambda tried: tried.trace):
        ours = list(trials)
        if best_of(ours):
            console.print()
            console.print(one_line(f"{TITLE} {name}"))
            console.print(best_table(ours))
    console.print()
    console.print(facts(after_facts(found)))


def _object(found: Sweep, notes: Sequence[str]) -> dict[str, Any]:
    by_trace = itertools.groupby(found.trials, key=lambda tried: tried.trace)
    return {
        "out": str(found.out),
        "num_rows": len(found.trials),
        "num_failed": found.num_failed,
        "num_resumed": found.num_resumed,
        "seconds": found.seconds,
        "notes": list(notes),
        "best": {name: [tried.to_dict() for tried in best_of(list(trials))] for name, trials in by_trace},
        "eplb_version": eplb.__version__,
    }
