"""The command line `eplb`; its libraries are imported only when it runs."""

from __future__ import annotations

import sys

NEEDED = ("typer", "click", "rich")


def run() -> int:
    """Run the command line on `sys.argv` and return the exit code.

    0: done. 1: the reader of the output went away, a placement is not valid, or a bug. 2: the input cannot be used; one
    line on stderr says why. 130: interrupted.
    """
    try:
        from eplb.cli.app import main
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in NEEDED:
            raise
        print('error: the command line needs typer and rich; pip install "eplb[cli]"', file=sys.stderr)
        return 2
    return main()
