"""`eplb demo`: the whole thing on the loads that come with the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from eplb.cli.console import output
from eplb.cli.options import check_writable
from eplb.cli.replay_policies import policies_from
from eplb.cli.replay_source import Source
from eplb.cli.report import examined
from eplb.cli.summary import summarize
from eplb.cli.tables import balance_table, bound_fact, facts, loads_facts, machine_facts, print_picture
from eplb.errors import FileFormatError, MissingDependencyError, OptionError
from eplb.report import Settings, check_report_path, plotly_library, write_report
from eplb.topology import Topology
from eplb.trace import LoadTrace

TOPOLOGY = Topology(num_ranks=8, slots_per_rank=5)
REPORT = Path("eplb-demo-report.html")
NEXT = (
    "`eplb plan FILE --ranks 8 --slots-per-rank 9` does this with your own loads",
    "`eplb replay FILE --ranks 8 --slots-per-rank 9` scores policies on windows they have not seen",
    "`eplb report FILE --ranks 8 --slots-per-rank 9` shows all of that in a page to look at",
    "`eplb plan --help` tells which files are read, and of groups, nodes and failed ranks",
)


def demo_command(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the placement here (.json or .npz).", show_default=False)
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the report here (.html).", show_default=f"{REPORT}, if nothing else is there"
        ),
    ] = None,
) -> None:
    """Plan the bundled loads of a small model: on the first half of them, judged on the second.

    At the end, a report of all of them is written for a browser, if plotly is installed.
    """
    check_writable(out)
    if report is not None:
        check_report_path(report)
        plotly_library()
    trace = bundled_trace()
    half = trace.num_windows // 2
    summary = summarize(trace.part(0, half), TOPOLOGY, 1, "balanced", 0)
    if out is not None:
        summary.plan.placement.save(out)
    console = output()
    console.print(facts([*loads_facts(summary.trace, "bundled"), machine_facts(TOPOLOGY, trace.num_experts, 1)]))
    console.print()
    console.print(balance_table(summary, unseen=trace.part(half, trace.num_windows)))
    console.print()
    console.print(facts([bound_fact(summary)]))
    console.print()
    print_picture(console, summary)
    console.print()
    written = [("written", str(out))] if out is not None else []
    written.append(("report", _report(trace, report)))
    console.print(facts([*written, *(("next" if i == 0 else "", line) for i, line in enumerate(NEXT))]))


def _report(trace: LoadTrace, wanted: Path | None) -> str:
    """Write the report, and return where it is or why there is none; only what was asked for can fail."""
    out = REPORT if wanted is None else wanted
    try:
        check_report_path(out)
        plotly_library()
        policies, notes = policies_from((), (), TOPOLOGY)
        found = examined(Source(trace=trace), TOPOLOGY, policies, Settings(source="bundled", notes=notes))
        write_report(out, found)
    except (FileFormatError, MissingDependencyError, OptionError) as exc:
        if wanted is not None:
            raise
        return f"none: {exc}"
    return f"{out.resolve()}, to be opened in a browser"


def bundled_trace() -> LoadTrace:
    """Return the loads that come with the package.

    Raises
    ------
    FileFormatError
        If the package was installed without its data, or they are too few to be halved.
    """
    with as_file(files("eplb") / "data" / "tiny_moe.npz") as file:
        if not file.is_file():
            raise FileFormatError("the bundled loads are missing from this installation; reinstall eplb")
        trace = LoadTrace.load(file)
    if trace.num_windows < 2:
        raise FileFormatError("the bundled loads are too few; reinstall eplb")
    return trace
