"""Progress: only for calls that take long, and never twice."""

import io
import logging
import threading
import time

import pytest
from rich.console import Console

from eplb.cli import progress
from eplb.cli.progress import COMPILING, Count, with_count, with_progress
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


def test_a_counted_call_shows_rate_and_time_left(terminal):
    """What it is at, how far it is, how fast, and how long it will take."""
    count = Count(what="replaying static", total=40, unit="windows")

    def call():
        count.done = 4
        time.sleep(0.4)
        count.begin("replaying oracle")
        count.done = 30
        time.sleep(0.4)

    with_count(count, call, terminal)
    shown = terminal.file.getvalue()
    assert "replaying static" in shown and "replaying oracle" in shown
    assert "30/40 windows" in shown and "windows/s" in shown and "left" in shown


def test_a_counted_call_leaves_a_pipe_alone(pipe):
    """No one watches."""
    with_count(Count(what="replaying", total=4, unit="windows"), lambda: time.sleep(0.3), pipe)
    assert pipe.file.getvalue() == ""


def test_the_pace_is_counts_by_time():
    """Nothing is divided by nothing, and what is not known is not said."""
    assert Count(what="a", total=40, unit="windows").pace(2.0) == "0/40 windows"
    assert Count(what="a", total=4000, unit="windows", done=1000).pace(10.0) == (
        "1,000/4,000 windows, 100 windows/s, 0:00:30 left"
    )
    assert Count(what="a", total=4, unit="windows", done=4).pace(0.0) == "4/4 windows"
    assert Count(what="a", done=3).pace(1.0) == ""


def test_the_pace_is_that_of_what_it_is_at():
    """What was faster before says nothing about how long the rest takes."""
    count = Count(what="static", total=40, unit="windows", done=20)
    count.begin("oracle")
    assert count.pace(3.0) == "20/40 windows"
    count.done = 22
    assert count.pace(4.0) == "22/40 windows, 0.5 windows/s, 0:00:36 left"
