"""`eplb advise`: would balancing help, how, what does it cost, and how much is left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from eplb.advising.advice import LEAST_GAIN, SPLITS, advise
from eplb.advising.recommendation import Advice
from eplb.cli.advise_costs import Figures, hardware_from
from eplb.cli.advise_json import advice_as_json
from eplb.cli.advise_options import EngineName, HardwareName, ModelName, TokensPerStep
from eplb.cli.advise_question import Question
from eplb.cli.advise_settings import Asked
from eplb.cli.advise_tables import print_advice
from eplb.cli.options import EffortLevel, EffortName, Groups, JsonOutput, integers
from eplb.cli.progress import Count, with_count, with_progress
from eplb.cli.replay_source import Batching, Source, read_source
from eplb.engines.settings import check_engine
from eplb.errors import OptionError
from eplb.replay.cost import CostModel

ADVISE_EXAMPLE = "Example: eplb advise loads.npz --model deepseek-v3 --hardware h200 --ranks 32 --nodes 4 --engine vllm"


def advise_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE", help="Loads over windows, a .zarr folder, or a token stream.", show_default=False
        ),
    ],
    hardware: HardwareName,
    model: ModelName = None,
    ranks: Annotated[
        str | None,
        typer.Option(
            metavar="R,...",
            help="Ranks (GPUs); of several, the one with most tokens/s a rank.",
            show_default="up to three that fit",
        ),
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Nodes that they stand in; one number, or one for each of --ranks.",
            show_default="1; without --ranks, one for 8",
        ),
    ] = None,
    engine: EngineName = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="How replicas may share tokens: even, weighted-lagged or weighted; may be repeated.",
            show_default="even; without --engine weighted-lagged too",
        ),
    ] = None,
    least_gain: Annotated[
        float, typer.Option(metavar="X", help="Gain that is worth it, as a share: the low end of the range.")
    ] = LEAST_GAIN,
    steps_per_window: Annotated[
        int | None, typer.Option(help="Forward passes in a window.", show_default="as the trace says; streams: 32")
    ] = None,
    tokens_per_step: TokensPerStep = None,
    other_ms: Annotated[
        float, typer.Option(help="What a step takes beside its MoE layers; 0: judge these alone.")
    ] = 0.0,
    planner_ms: Annotated[float, typer.Option(help="What serving stalls for a plan; 0: it runs beside.")] = 0.0,
    hidden_migration: Annotated[float, typer.Option(help="Share of a migration that serving hides, 0 to 1.")] = 0.0,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measured tokens, activated_experts, ms of a rank (.csv, .json).", show_default=False
        ),
    ] = None,
    layers: Annotated[int | None, typer.Option(help="MoE layers of the model.", show_default="as the model")] = None,
    experts_per_token: Annotated[int | None, typer.Option(help="Of the model.", show_default="as the model")] = None,
    hidden_size: Annotated[
        int | None, typer.Option(help="Values of a token between layers.", show_default="as the model")
    ] = None,
    expert_size: Annotated[
        int | None, typer.Option(help="Values of a token inside an expert.", show_default="as the model")
    ] = None,
    bytes_per_weight: Annotated[
        float | None, typer.Option(help="Of an expert, in memory.", show_default="as the model, or 2")
    ] = None,
    groups: Groups = 1,
    effort: EffortLevel = EffortName.balanced,
    seed: Annotated[int, typer.Option(help="Same trace, options and seed: the same advice.")] = 0,
    batch_size: Annotated[
        int | None, typer.Option(help="Token streams: requests that decode together.", show_default=False)
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Token streams: requests arrive as given or random.", show_default="given")
    ] = None,
    json_output: JsonOutput = False,
) -> None:
    """Say whether to balance the experts of a recorded trace, how, what it gains and costs, and how much is left.

    Settings are searched on the first part of the trace, and judged on later ones: slots a rank, ranks, windows,
    interval, budget of moves, threshold, split. What a step takes is modelled from published figures of the hardware
    and the model, or from times that you measured. It says no-go where the gain is not sure.
    """
    if engine is not None:
        check_engine(engine)
    wanted = None if ranks is None else machines_from(ranks, nodes or "1")
    if wanted is None and nodes is not None:
        raise OptionError("--nodes: expected --ranks with it")
    question = Question(
        hardware=hardware_from(hardware),
        model=model,
        figures=Figures(
            num_layers=layers,
            experts_per_token=experts_per_token,
            hidden_size=hidden_size,
            expert_size=expert_size,
            bytes_per_weight=bytes_per_weight,
        ),
        steps_per_window=steps_per_window,
        tokens_per_step=tokens_per_step,
        other_ms=other_ms,
        planner_ms=planner_ms,
        hidden_migration=hidden_migration,
        calibration=calibration,
    )
    steps = steps_per_window if batch_size is not None else None
    batching = Batching(batch_size=batch_size, steps_per_window=steps, order=order, seed=seed)
    source = with_progress(f"reading {file.name}", lambda: read_source(file, batching))
    cost, machines, notes = question.answered(source, wanted)
    splits = tuple(split or (SPLITS if engine is None else ("even",)))
    options: dict[str, Any] = {"splits": splits, "least_gain": least_gain, "groups": groups, "seed": seed}
    found = advise_all(source, cost, machines, {**options, "effort": effort.value})
    best = max(found, key=lambda advice: advice.tokens_per_second_per_rank)
    asked = Asked(file=str(file), source=source, cost=cost, engine=engine, notes=notes, groups=groups)
    if json_output:
        print(json.dumps(advice_as_json(asked, best, found), allow_nan=False))
    else:
        print_advice(asked, best, found)


def machines_from(ranks: str, nodes: str) -> list[tuple[int, int]]:
    """Return pairs of ranks and nodes.

    Examples
    --------
    >>> machines_from("8,16", "1"), machines_from("8,16", "1,2")
    ([(8, 1), (16, 1)], [(8, 1), (16, 2)])
    """
    numbers, stands = _listed(ranks, "--ranks"), _listed(nodes, "--nodes")
    if len(stands) not in (1, len(numbers)):
        raise OptionError(f"--nodes: expected one number, or {len(numbers)} as for --ranks, got {nodes!r}")
    if len(set(numbers)) < len(numbers):
        raise OptionError(f"--ranks: expected different numbers, got {ranks!r}")
    return list(zip(numbers, stands * len(numbers) if len(stands) == 1 else stands, strict=True))


def _listed(text: str, option: str) -> list[int]:
    values = integers(text, option)
    found = [values] if isinstance(values, int) else list(values)
    if min(found) < 1:
        raise OptionError(f"{option}: expected integers >= 1, got {text!r}")
    return found


def advise_all(
    source: Source, cost: CostModel, machines: Sequence[tuple[int, int]], options: dict[str, Any]
) -> list[Advice]:
    """Return the advice for each number of ranks; a bar says how many settings have been tried."""
    count = Count(what="trying settings")

    def advised() -> list[Advice]:
        found = []
        for num_ranks, num_nodes in machines:
            tell = partial(_tell, count, num_ranks)
            found.append(advise(source.trace, cost, num_ranks=num_ranks, num_nodes=num_nodes, progress=tell, **options))
        return found

    return with_count(count, advised)


def _tell(count: Count, num_ranks: int, runs: int) -> None:
    count.what = f"{num_ranks} ranks: {runs} settings tried"
