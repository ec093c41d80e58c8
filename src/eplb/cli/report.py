"""`eplb report`: a trace, or saved replays, as one HTML file to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import eplb
from eplb.advising.recommendation import Advice
from eplb.cli.advise_costs import hardware_from
from eplb.cli.advise_json import advice_as_json
from eplb.cli.advise_options import HARDWARE_HELP, EngineName, ModelName, TokensPerStep
from eplb.cli.advise_question import Question
from eplb.cli.advise_report import advised, check_alike, recommendation_from
from eplb.cli.advise_settings import Asked
from eplb.cli.advise_tables import print_settings
from eplb.cli.console import output
from eplb.cli.options import (
    EffortLevel,
    EffortName,
    FailedRanks,
    Groups,
    JsonOutput,
    Nodes,
    RankSpeeds,
    check_plan_size,
    topology_from,
)
from eplb.cli.progress import Count, with_count, with_progress
from eplb.cli.replay_policies import policies_from
from eplb.cli.replay_source import Batching, Source, read_source
from eplb.cli.tables import facts
from eplb.engines.settings import check_engine
from eplb.errors import OptionError
from eplb.replay import Policy
from eplb.replay.splits import check_split, planned_split
from eplb.report import (
    Findings,
    Recommendation,
    Settings,
    check_report_path,
    examine,
    holds_replays,
    load_findings,
    plotly_library,
    recommend,
    write_report,
)

REPORT_EXAMPLE = "Example: eplb report loads.npz --ranks 8 --slots-per-rank 9 --out report.html"
DEFAULT_OUT = Path("report.html")


def report_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Loads over windows, a .zarr folder, a token stream, or what `eplb replay --json` printed.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the report here (.html).")] = DEFAULT_OUT,
    ranks: Annotated[
        int | None, typer.Option(help="Ranks (GPUs) of the expert-parallel group.", show_default=False)
    ] = None,
    slots_per_rank: Annotated[
        str | None,
        typer.Option(
            metavar="S", help="Experts a rank has memory for: one integer, or one a rank (9,9,8,8).", show_default=False
        ),
    ] = None,
    nodes: Nodes = "1",
    groups: Groups = 1,
    rank_speeds: RankSpeeds = None,
    failed_ranks: FailedRanks = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="As of `eplb replay`; may be repeated. contiguous always takes part: it is the before.",
            show_default="all five",
        ),
    ] = None,
    history: Annotated[int, typer.Option(help="The most windows that a plan is shown.")] = 24,
    interval: Annotated[
        int | None,
        typer.Option(
            help="Windows from one plan to the next.", show_default="1, more where planning would take minutes"
        ),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(help="The first window that is scored.", show_default="8, or the middle of a shorter trace"),
    ] = None,
    max_moves_share: Annotated[
        float, typer.Option(metavar="X", help="Share of all slots that a replan may move; 1: any number.")
    ] = 0.1,
    max_moves_per_rank: Annotated[
        int | None, typer.Option(help="Experts that a replan may move to each rank.", show_default="any number")
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(
            metavar="X",
            help="Share of all slots: eplb is replayed within it too, for the frontier; may be repeated.",
            show_default="0.02, 0.05, 0.2, 1",
        ),
    ] = None,
    expert_bytes: Annotated[
        int | None, typer.Option(help="Bytes of one expert's weights: moves are told in bytes too.", show_default=False)
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
    split: Annotated[str, typer.Option(help="How replicas share tokens: even, weighted or weighted-lagged.")] = "even",
    batch_size: Annotated[
        int | None, typer.Option(help="Token streams: requests that decode together.", show_default=False)
    ] = None,
    steps_per_window: Annotated[
        int | None,
        typer.Option(
            help="Token streams: steps that make a window. With --hardware: forward passes in a window.",
            show_default="32; as the trace says",
        ),
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Token streams: requests arrive as given or random.", show_default="given")
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{HARDWARE_HELP}: recommend what `eplb advise` does, which models time.",
            show_default="judge balance alone",
        ),
    ] = None,
    model: ModelName = None,
    tokens_per_step: TokensPerStep = None,
    engine: EngineName = None,
    json_output: JsonOutput = False,
) -> None:
    """Write one HTML file that shows what policies do with a trace, and what to do.

    It needs no network, and holds balancedness over time with the bound, rank loads by layer before and after, replicas
    by expert, what moved when, balance against moves, the worst layers and why, and a recommendation: with --hardware
    that of `eplb advise` on these ranks, else what balance alone speaks for. A report that is at --out is replaced,
    other files are not.

    A trace needs --ranks and --slots-per-rank. Of what `eplb replay --json` printed, the report shows what that holds.
    """
    check_report_path(out)
    plotly_library()  # before the work, which takes a while
    if holds_replays(file):
        _refuse(
            {
                **{"--ranks": ranks, "--slots-per-rank": slots_per_rank, "--rank-speeds": rank_speeds},
                **{"--failed-ranks": failed_ranks, "--policy": policy, "--interval": interval, "--first": first},
                **{"--max-moves-per-rank": max_moves_per_rank, "--budget": budget, "--forecast": forecast},
                **{"--batch-size": batch_size, "--steps-per-window": steps_per_window, "--order": order},
                **{"--hardware": hardware, "--model": model, "--tokens-per-step": tokens_per_step, "--engine": engine},
            }
        )
        found = with_progress(f"reading {file.name}", lambda: load_findings(file, expert_bytes))
        _finish(found, None, file, {}, out, json_output)
        return
    if ranks is None or slots_per_rank is None:
        missing = "--ranks" if ranks is None else "--slots-per-rank"
        raise OptionError(f"{missing}: expected with a trace; only what `eplb replay --json` printed goes without")
    check_split(split, "--split")
    topology = topology_from(ranks, slots_per_rank, nodes, rank_speeds, failed_ranks)
    question = _question(topology, hardware, model, tokens_per_step, steps_per_window, engine)
    planning: dict[str, Any] = {"groups": groups, "effort": effort.value, "seed": seed}
    policies, notes = policies_from(policy or (), forecast or (), topology, split=planned_split(split), **planning)
    how: dict[str, Any] = {"history": history, "interval": interval, "first": first, "max_moves_share": max_moves_share}
    how |= {"max_moves_per_rank": max_moves_per_rank, "split": split, "expert_bytes": expert_bytes}
    how |= {} if budget is None else {"budgets": budget}
    settings = Settings(source=str(file), groups=groups, notes=notes, **how)
    steps = steps_per_window if batch_size is not None or question is None else None
    batching = Batching(batch_size=batch_size, steps_per_window=steps, order=order, seed=seed)
    source = with_progress(f"reading {file.name}", lambda: read_source(file, batching))
    check_plan_size(source.trace.num_layers, topology)
    splits = {**planning, "splits": (split,)}
    advice = None if question is None else advised(source, topology, question, engine, str(file), splits)
    found = examined(source, topology, policies, settings)
    _finish(found, advice, file, {**topology.to_dict(), **planning, **how}, out, json_output)


def examined(source: Source, topology: eplb.Topology, policies: list[Policy], settings: Settings) -> Findings:
    """Examine the source, with one bar for all replays."""
    with_progress("loading the planner", lambda: eplb.warm_up(planned_split(settings.split)))
    count = Count(what="replaying", unit="windows")

    def progress(what: str, done: int, total: int) -> None:
        count.total = total
        if f"replaying {what}" != count.what:
            count.begin(f"replaying {what}")
        count.done = done

    return with_count(
        count, lambda: examine(source.trace, topology, policies, settings, steps=source.steps, progress=progress)
    )


def _question(
    topology: eplb.Topology,
    hardware: str | None,
    model: str | None,
    tokens_per_step: float | None,
    steps_per_window: int | None,
    engine: str | None,
) -> Question | None:
    """Return what an advice is asked with, or None where time is not to be modelled."""
    if hardware is None:
        for option, value in (("--model", model), ("--tokens-per-step", tokens_per_step), ("--engine", engine)):
            if value is not None:
                raise OptionError(f"{option}: expected --hardware with it; without, balance alone is judged")
        return None
    if engine is not None:
        check_engine(engine)
    check_alike(topology)
    return Question(
        hardware=hardware_from(hardware),
        model=model,
        steps_per_window=steps_per_window,
        tokens_per_step=tokens_per_step,
    )


def _refuse(options: dict[str, Any]) -> None:
    """Raise if one of the options of a replay was given."""
    for option, value in options.items():
        if value is not None:
            raise OptionError(f"{option}: the file holds replays that were made already; leave it out")


def _finish(
    found: Findings,
    asked: tuple[Asked, Advice] | None,
    file: Path,
    options: dict[str, Any],
    out: Path,
    json_output: bool,
) -> None:
    advice = recommend(found) if asked is None else recommendation_from(*asked, options["slots_per_rank"])
    size = with_progress("writing the report", lambda: write_report(out, found, advice))
    if json_output:
        told = None if asked is None else advice_as_json(*asked, [asked[1]])
        content = {**_object(found, advice, file, options, out, size), "advice": told}
        print(json.dumps(content, allow_nan=False))
        return
    console = output()
    console.print(facts([*report_facts(found, advice), ("written", f"{out}: {size / 1e6:.1f} MB")]))
    if asked is not None:
        print_settings(console, *asked)


def report_facts(found: Findings, advice: Recommendation) -> list[tuple[str, str]]:
    """Return what the report says first."""
    rows = [("", text) for text in advice.details]
    return [("report", found.model or found.source), ("says", advice.headline), *rows]


def _object(
    found: Findings, advice: Recommendation, file: Path, options: dict[str, Any], out: Path, size: int
) -> dict[str, Any]:
    return {
        "file": str(file),
        "options": options,
        "report": str(out),
        "report_bytes": size,
        "model": found.model,
        "best_balancedness": None if found.trace is None else float(found.trace.bound.mean()),
        "policies": {
            policy.name: {
                "mean_balancedness": policy.mean_balancedness,
                "moved_share": policy.moves_per_window / found.num_slots,
            }
            for policy in found.policies
        },
        "recommendation": {
            "verdict": advice.verdict,
            "headline": advice.headline,
            "details": list(advice.details),
            "settings": dict(advice.settings),
            "commands": list(advice.commands),
        },
        "eplb_version": eplb.__version__,
    }
