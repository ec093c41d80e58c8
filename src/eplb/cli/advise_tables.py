"""An advice as a paragraph and tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eplb.advising.choosing import AS_GOOD
from eplb.advising.deciding import DYNAMIC, NONE
from eplb.advising.paragraph import milliseconds, num_bytes, paragraph
from eplb.advising.recommendation import Advice, Option
from eplb.cli.advise_settings import Asked, engine_settings
from eplb.cli.console import one_line, output
from eplb.cli.replay_tables import source_facts
from eplb.cli.summary import counted
from eplb.cli.tables import facts, machine_facts
from eplb.engines.settings import EngineSettings

NEARBY = 6
STARRED = f"* advised: the simplest of those at most {AS_GOOD:.1%} slower than the best"
NAMES = {"none": "leave in order", "static": "place once", "dynamic": "replan"}


def print_advice(asked: Asked, best: Advice, found: Sequence[Advice]) -> None:
    """Print what was asked, the recommendation, the options, what was tried near the best, and the settings."""
    console = output()
    console.print(facts(_asked_facts(asked, best)))
    console.print()
    console.print(Text(one_line(paragraph(best, asked.cost))))
    console.print()
    console.print(options_table(best))
    console.print()
    if len(found) > 1:
        console.print(ranks_table(found, best))
        console.print()
    console.print(nearby_table(best))
    console.print(STARRED)
    console.print()
    console.print(facts(_left_facts(best)))
    print_settings(console, asked, best)


def print_settings(console: Console, asked: Asked, best: Advice) -> None:
    """Print what to set in the engine that was named."""
    settings = engine_settings(asked, best)
    for line in () if settings is None else _settings_lines(asked, settings):
        console.print(Text(line), soft_wrap=True)


def _asked_facts(asked: Asked, best: Advice) -> list[tuple[str, str]]:
    setting = best.chosen.setting
    machine = machine_facts(setting.topology, asked.source.trace.num_experts, asked.groups)
    return [*source_facts(asked.source, asked.file, machine), *cost_facts(asked, best)]


def cost_facts(asked: Asked, best: Advice) -> list[tuple[str, str]]:
    """Return what steps were modelled for, and what was assumed."""
    cost = asked.cost
    rates = "measured rates" if cost.rates is not None else f"at {cost.hardware.efficiency:.0%} of its datasheet"
    return [
        ("hardware", f"{cost.hardware.name}, {rates}"),
        ("", f"{cost.model.name}: {num_bytes(cost.model.bytes_per_expert)} an expert and layer"),
        ("a step", f"{best.tokens_per_step:,.0f} tokens; {best.tokens_per_expert:,.1f} an expert that gets any"),
        *(("note", note) for note in asked.notes),
    ]


def options_table(advice: Advice) -> Table:
    """Return a row for each thing to do, on windows that did not choose."""
    table = _table(("on held-out windows", "ms a\nstep", "tokens/s", "range", "balanced-\nness", "MB moved\na step"))
    for cells in option_rows(advice):
        table.add_row(*cells)
    return table


def option_rows(advice: Advice) -> list[list[str]]:
    """Return its cells: name, ms a step, tokens/s, range, balancedness, MB moved a step."""
    return [_option_cells(option, advice) for option in advice.options.values()]


def _option_cells(option: Option, advice: Advice) -> list[str]:
    gain = option.gain
    return [
        f"{NAMES[option.kind]}{' *' if option.kind == advice.choice else ''}",
        milliseconds(option.seconds_per_step).removesuffix(" ms"),
        "" if option.kind == NONE else f"{gain.expected:+.1%}",
        "" if option.kind == NONE else f"{gain.low:+.1%} to {gain.high:+.1%}",
        f"{option.balancedness:.3f}",
        f"{option.moved_bytes_per_step / 1e6:,.1f}",
    ]


def ranks_table(found: Sequence[Advice], best: Advice) -> Table:
    """Return a row for each number of ranks."""
    table = _table(("ranks", "slots", "what", "ms a step", "tokens/s", "tokens/s\na rank"))
    for advice in found:
        option = advice.chosen
        table.add_row(
            f"{option.setting.num_ranks}{' *' if advice is best else ''}",
            str(option.setting.slots_per_rank),
            NAMES[advice.choice],
            milliseconds(option.seconds_per_step).removesuffix(" ms"),
            f"{advice.tokens_per_second:,.0f}",
            f"{advice.tokens_per_second_per_rank:,.0f}",
        )
    return table


def nearby_table(advice: Advice) -> Table:
    """Return the settings of replanning that did best, over all windows that were scored, and the one that is advised.

    It is the simplest of those about as good as the best.
    """
    table = _table(
        (f"replanning: best of {len(advice.nearby)} tried", "slots", "interval", "windows", "budget", "threshold", "ms")
    )
    advised = advice.options[DYNAMIC].setting
    for number, (setting, seconds) in enumerate(advice.nearby):
        if number >= NEARBY and setting != advised:
            continue
        table.add_row(
            f"split {setting.split}{' *' if setting == advised else ''}",
            str(setting.slots_per_rank),
            str(setting.interval),
            str(setting.window),
            f"{setting.max_moves_share:.0%}",
            f"{setting.threshold:g}",
            milliseconds(seconds).removesuffix(" ms"),
        )
    return table


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _left_facts(advice: Advice) -> list[tuple[str, str]]:
    dynamic = advice.options[DYNAMIC]
    return [
        ("memory", f"{num_bytes(dynamic.extra_bytes_per_rank)} a rank for the spare slots of replanning"),
        ("spare slots", f"filled without knowing loads: tokens/s {advice.spare_slots_gain:+.1%}"),
        ("left", f"balancedness {advice.chosen.balancedness:.4f} of at most {advice.bound:.4f}"),
        ("planning", f"in {advice.planning_seconds:.3f} s a plan, on this machine"),
        ("judged on", f"{counted(advice.held_out, 'window')} of {advice.num_windows:,}, which chose nothing before"),
    ]


def _settings_lines(asked: Asked, settings: EngineSettings) -> list[str]:
    return ["", f"settings for {asked.engine}", *(f"  {line}" for line in settings.lines), *map(_note, settings.notes)]


def _note(text: str) -> str:
    return f"  note: {text}"
