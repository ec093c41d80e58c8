"""The commands under one name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from eplb import __version__
from eplb.cli.advise import ADVISE_EXAMPLE, advise_command
from eplb.cli.convert import CONVERT_EXAMPLE, convert_command
from eplb.cli.demo import demo_command
from eplb.cli.exits import exit_code_of
from eplb.cli.plan import EXAMPLE, plan_command
from eplb.cli.replay import REPLAY_EXAMPLE, replay_command
from eplb.cli.report import REPORT_EXAMPLE, report_command
from eplb.cli.sweep import SWEEP_EXAMPLE, sweep_command
from eplb.cli.validate import VALIDATE_EXAMPLE, validate_command
from eplb.cli.versions import versions_command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eplb {__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Balance the load of a Mixture-of-Experts model over the ranks of expert parallelism.

    Start with `eplb demo`: it needs no file.
    """


app = typer.Typer(
    name="eplb",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(
    epilog="Exit codes: 0 done; 1 a bug, the reader of the output left, or a placement is not valid; "
    "2 the input cannot be used; 130 interrupted."
)(_main)
app.command("plan", epilog=EXAMPLE)(plan_command)
app.command("replay", epilog=REPLAY_EXAMPLE)(replay_command)
app.command("advise", epilog=ADVISE_EXAMPLE)(advise_command)
app.command("sweep", epilog=SWEEP_EXAMPLE)(sweep_command)
app.command("report", epilog=REPORT_EXAMPLE)(report_command)
app.command("convert", epilog=CONVERT_EXAMPLE)(convert_command)
app.command("validate", epilog=VALIDATE_EXAMPLE)(validate_command)
app.command("demo")(demo_command)
app.command("versions")(versions_command)


def main() -> int:
    """Run the command in `sys.argv`, print what went wrong in one line, and return the exit code."""
    arguments = sys.argv[1:] or ["--help"]
    return exit_code_of(lambda: app(args=arguments, prog_name="eplb", standalone_mode=False))
