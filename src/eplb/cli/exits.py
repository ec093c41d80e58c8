"""From what a command raises to one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import typer

from eplb.cli.console import one_line
from eplb.errors import EplbError

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

CLICK_ERROR = typer.BadParameter.__mro__[2]  # typer brings its own click, or takes the installed one


def exit_code_of(command: Callable[[], Any]) -> int:
    """Call `command` and return the exit code; what went wrong is said in one line on stderr."""
    nobody_reads = _open_closed()
    _print_anything(sys.stdout)
    _print_anything(sys.stderr)
    warnings.showwarning = _show_warning
    try:
        code = _outcome(command)
        sys.stdout.flush()
        if nobody_reads and code == OK:
            code = FAILED  # as for a reader that left
    except BrokenPipeError:
        _drop_output()
        code = FAILED
    except OSError as exc:  # no space left for the output, say
        _drop_output()
        _say(f"error: cannot write the output: {exc.strerror}")
        code = FAILED
    if code == INTERRUPTED:
        _say("interrupted")
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # a compiled kernel cannot be stopped, and a plain exit would wait for it
    return code


def _outcome(command: Callable[[], Any]) -> int:
    try:
        code = command()
        return code if isinstance(code, int) else OK
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError:
        raise
    except EplbError as exc:
        _say(f"error: {exc}")
        return BAD_INPUT
    except MemoryError:
        _say("error: out of memory; plan fewer layers or windows at a time")
        return BAD_INPUT
    except Exception as exc:
        if isinstance(exc, CLICK_ERROR):
            _say(f"error: {exc.format_message()} See `{_command_of(exc)} --help`.")  # type: ignore[attr-defined]
            return BAD_INPUT
        traceback.print_exc()
        _say("This is a bug in eplb: please report it, with what `eplb versions` prints.")
        return FAILED


def _command_of(exc: Exception) -> str:
    """Return what was called, such as "eplb plan"."""
    return str(getattr(getattr(exc, "ctx", None), "command_path", "eplb"))


def _say(message: str) -> None:
    print(one_line(message), file=sys.stderr)


def _open_closed() -> bool:
    """Open streams that were closed before the start, which are None, on nothing; return whether stdout was."""
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - it stays open to the end
    return "stdout" in closed


def _print_anything(stream: TextIO) -> None:
    """Print what the encoding lacks as escapes: a model's name must not end a command."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"warning: {message}")


def _drop_output() -> None:
    """Send the rest of stdout nowhere, so that the interpreter's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
