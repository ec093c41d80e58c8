"""An advice as what a report recommends."""

from __future__ import annotations

from typing import Any

from eplb.advising.deciding import DYNAMIC, NONE
from eplb.advising.paragraph import sentences
from eplb.advising.recommendation import Advice
from eplb.cli.advise import advise_all
from eplb.cli.advise_question import Question
from eplb.cli.advise_settings import Asked, engine_settings
from eplb.cli.advise_tables import cost_facts, option_rows
from eplb.cli.replay_source import Source
from eplb.errors import OptionError
from eplb.report import NumberTable, Recommendation
from eplb.topology import Topology

HEAD = ("on held-out windows", "ms a step", "tokens/s", "range", "balancedness", "MB moved a step")


def check_alike(topology: Topology) -> None:
    """Raise unless an advice can be given for these ranks.

    Raises
    ------
    OptionError
        If they are not alike.
    """
    given = topology.to_dict()
    for name, plain in (("rank_speeds", None), ("failed_ranks", [])):
        if given[name] != plain:
            raise OptionError(f"--{name.replace('_', '-')}: times are modelled for ranks that are alike; leave it out")
    for name in ("slots_per_rank", "num_nodes"):
        if isinstance(given[name], list):
            option = name.removeprefix("num_").replace("_", "-")
            raise OptionError(f"--{option}: times are modelled for ranks that are alike; expected one number")


def advised(
    source: Source, topology: Topology, question: Question, engine: str | None, file: str, options: dict[str, Any]
) -> tuple[Asked, Advice]:
    """Return what `eplb advise` says on these ranks and nodes, and what it was asked with.

    Parameters
    ----------
    source : Source
        The trace.
    topology : Topology
        Ranks and nodes; slots a rank are searched.
    question : Question
        Hardware, model, steps.
    engine : str or None
        Whose settings are wanted.
    file : str
        Name of the trace.
    options : dict
        splits, groups, effort and seed, as of `advise`.

    Raises
    ------
    OptionError, LoadsError
        As `advise`.
    """
    cost, machines, notes = question.answered(source, [(topology.num_ranks, topology.node_count)])
    (advice,) = advise_all(source, cost, machines, options)
    asked = Asked(file=file, source=source, cost=cost, engine=engine, notes=notes, groups=options["groups"])
    return asked, advice


def recommendation_from(asked: Asked, advice: Advice, slots_per_rank: int) -> Recommendation:
    """Return the advice for a report whose charts are about `slots_per_rank` slots."""
    headline, *others = sentences(advice, asked.cost)
    details = [" ".join(others), f"Modelled for {'; '.join(text for _, text in cost_facts(asked, advice))}."]
    details.append(_about_charts(advice, slots_per_rank))
    return Recommendation(
        verdict="go" if advice.go else "no-go",
        headline=headline,
        details=tuple(filter(None, details)),
        settings=_settings(asked, advice) if advice.go else (),
        table=NumberTable(
            caption="What leaving, placing once and replanning take",
            head=HEAD,
            rows=tuple(map(tuple, option_rows(advice))),
        ),
        commands=_commands(asked, advice),
    )


def _about_charts(advice: Advice, slots_per_rank: int) -> str:
    """Return why numbers here differ from those of the charts, or nothing."""
    in_order, chosen = (option.setting.slots_per_rank for option in (advice.options[NONE], advice.chosen))
    text = ""
    if in_order != slots_per_rank:
        text = (
            f"Experts that are left in order take {in_order} slots a rank here; in the charts below they fill all "
            f"{slots_per_rank}. "
        )
    if advice.go and chosen != slots_per_rank:
        text += f"What is advised has {chosen}: --slots-per-rank {chosen} draws that."
    return text.strip()


def _settings(asked: Asked, advice: Advice) -> tuple[tuple[str, str], ...]:
    setting = advice.chosen.setting
    found = [("slots a rank", f"{setting.slots_per_rank}"), ("replicas share tokens", setting.split)]
    if advice.choice == DYNAMIC:
        steps = setting.interval * setting.window * asked.cost.steps_per_window
        found += [
            ("a plan every", f"{steps:,} steps"),
            ("a replan moves", f"at most {setting.max_moves_share:.0%} of the slots"),
        ]
        found += [("imbalance put up with", f"{setting.threshold:g}")] if setting.threshold else []
    return tuple(found)


def _commands(asked: Asked, advice: Advice) -> tuple[str, ...]:
    settings = engine_settings(asked, advice)
    return () if settings is None else (*settings.lines, *(f"# {note}" for note in settings.notes))
