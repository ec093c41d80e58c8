"""From exceptions to exit codes."""

import warnings

import pytest

from eplb.cli import run
from eplb.cli.exits import exit_code_of
from eplb.errors import LoadsError


def raising(exc):
    """Return a command that raises `exc`."""

    def command():
        raise exc

    return command


@pytest.fixture(autouse=True)
def own_warnings():
    """Put back how warnings are shown."""
    with warnings.catch_warnings():
        yield


def test_an_error_on_purpose_is_one_line(capsys):
    """However many lines its message has."""
    assert exit_code_of(raising(LoadsError("bad\nloads"))) == 2
    assert capsys.readouterr().err == "error: bad loads\n"


def test_a_bug_asks_for_a_report(capsys):
    """A bug keeps its traceback, since that is what has to be reported."""
    assert exit_code_of(raising(KeyError("x"))) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "eplb versions" in err.splitlines()[-1]


def test_lack_of_memory_is_an_error_of_the_input(capsys):
    """Which can be made smaller."""
    assert exit_code_of(raising(MemoryError())) == 2
    assert "fewer layers" in capsys.readouterr().err


def test_warnings_are_one_line(capsys):
    """Without the place in the source."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert exit_code_of(lambda: warnings.warn("look", stacklevel=1)) == 0
    assert capsys.readouterr().err == "warning: look\n"


def test_run_returns_the_code(monkeypatch, capsys):
    """The script passes it to the shell."""
    monkeypatch.setattr("sys.argv", ["eplb", "plan", "no-such-file.npz", "--ranks", "2", "--slots-per-rank", "2"])
    assert run() == 2
    assert capsys.readouterr().err == "error: no-such-file.npz: no such file\n"
