"""Progress: only for calls that take long, and never twice."""

import io
import logging
import threading
import time

import pytest
from rich.console import Console

from eplb.cli import progress
from eplb.cli.progress import COMPILING, with_progress
from eplb.compiling_notice import LINE


@pytest.fixture
def terminal(monkeypatch):
    """A terminal that keeps what is printed."""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.05)
    return Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})


@pytest.fixture
def pipe(monkeypatch):
    """A file, as stderr is where no one watches."""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.05)
    return Console(file=io.StringIO(), width=80)


def test_a_short_call_shows_nothing(terminal):
    """Less than the patience is no progress worth a bar."""
    assert with_progress("planning", lambda: 7, terminal) == 7
    assert terminal.file.getvalue() == ""


def test_a_long_call_shows_a_bar(terminal):
    """What it does and the time elapsed."""
    with_progress("planning 3 layers", lambda: time.sleep(0.4), terminal)
    shown = terminal.file.getvalue()
    assert "planning 3 layers" in shown and "0:00:00" in shown


def test_a_terminal_learns_that_it_compiles(terminal, monkeypatch):
    """The bar says so for as long as it lasts."""
    monkeypatch.setattr(progress, "is_compiling", lambda: True)
    with_progress("planning", lambda: time.sleep(0.5), terminal)
    assert COMPILING in terminal.file.getvalue()


def test_a_pipe_learns_once_that_it_compiles(pipe, monkeypatch):
    """One line, no bar."""
    monkeypatch.setattr(progress, "is_compiling", lambda: True)
    with_progress("planning", lambda: time.sleep(0.5), pipe)
    assert pipe.file.getvalue() == COMPILING + "\n"


def test_a_pipe_is_left_alone_otherwise(pipe, monkeypatch):
    """Nothing compiles, nothing is said."""
    monkeypatch.setattr(progress, "is_compiling", lambda: False)
    with_progress("planning", lambda: time.sleep(0.3), pipe)
    assert pipe.file.getvalue() == ""


def test_errors_come_through(terminal):
    """What the call raises is raised."""
    with pytest.raises(ZeroDivisionError):
        with_progress("planning", lambda: 1 / 0, terminal)


def test_the_librarys_own_line_is_not_said_too(caplog):
    """Other lines are, and all are once the call has ended."""
    log = logging.getLogger("eplb")

    def call():
        log.warning(LINE)
        log.warning("eplb: other")
        return threading.current_thread() is not threading.main_thread()

    assert with_progress("planning", call)
    log.warning("eplb: compiling again")
    assert [record.getMessage() for record in caplog.records] == ["eplb: other", "eplb: compiling again"]
