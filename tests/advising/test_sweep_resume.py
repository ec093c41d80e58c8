"""A sweep that was killed goes on; what is not its own journal is left alone."""

import json
import random

import pytest

import eplb
from eplb.advising import grid, sweep
from eplb.advising.journal import Journal, journal_path
from eplb.advising.tried import Tried
from tests.advising import programs
from tests.advising.doubles import CHOICES, SMALL, CountingCost, random_trace

TRACES = programs.traces()
FEW = grid({"num_ranks": 4, "slots_per_rank": [1, 3], "policy": ["contiguous", "static"]})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """What the program of `programs` writes when nobody kills it."""
    out = tmp_path_factory.mktemp("whole") / "grid.csv"
    sweep(TRACES, grid(CHOICES), out, workers=0)
    return out.read_bytes()


@pytest.fixture
def interrupted(tmp_path):
    """Return a function that runs a sweep of `FEW` and stops it after so many trials; and where it writes."""
    out = tmp_path / "grid.csv"

    def run(after, **options):
        def stop(done, total):
            if done == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sweep(TRACES, FEW, out, workers=0, progress=stop, **options)

    return run, out


def whole(tmp_path):
    """Return the table of a sweep of `FEW` that nobody stops."""
    sweep(TRACES, FEW, tmp_path / "whole.csv", workers=0)
    return (tmp_path / "whole.csv").read_bytes()


# ---- kills


@pytest.mark.parametrize("kill", [programs.kill_all, programs.kill_first])
def test_a_killed_sweep_goes_on(kill, table, tmp_path):
    """Killed again and again, at rows that chance picks, it writes what one run writes, and no row is made twice."""
    out, rows, made = tmp_path / "grid.csv", random.Random(0), 0
    journal = journal_path(out)
    for _ in range(3):
        process = programs.start(tmp_path, out)
        programs.wait_for_rows(process, journal, made + rows.randrange(1, 30))
        kill(process)
        assert not out.exists()
        made = max(0, journal.read_bytes().count(b"\n") - 1)
    assert 0 < made < len(table.splitlines()) - 1
    resumed, total = programs.finished(programs.start(tmp_path, out))
    assert resumed == made and total == len(table.splitlines()) - 1
    assert out.read_bytes() == table and not journal.exists()


def test_workers_end_with_the_one_that_started_them(tmp_path):
    """Nothing of a killed sweep runs on."""
    out = tmp_path / "grid.csv"
    process = programs.start(tmp_path, out)
    programs.wait_for_rows(process, journal_path(out), 2)
    programs.kill_first(process)
    programs.wait_for_end(process.pid)
    assert programs.members(process.pid) == []


# ---- what a journal may hold


@pytest.mark.parametrize("after", [0, 1, 5, 8])
def test_an_interrupted_sweep_goes_on(interrupted, tmp_path, after):
    """After no row, some, or all of them."""
    run, out = interrupted
    run(after)
    seen = []
    found = sweep(TRACES, FEW, out, workers=0, progress=lambda done, total: seen.append(done))
    assert found.num_resumed == after and seen == list(range(after, 9))
    assert out.read_bytes() == whole(tmp_path)


@pytest.mark.parametrize("torn", [1, 40, -1])
def test_a_torn_last_line_is_dropped(interrupted, tmp_path, torn):
    """Its trial is made again; the rest is kept."""
    run, out = interrupted
    run(5)
    journal = journal_path(out)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:torn])
    assert sweep(TRACES, FEW, out, workers=0).num_resumed == 4
    assert out.read_bytes() == whole(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_torn_head_is_no_journal_yet(interrupted, tmp_path, size):
    """The sweep starts as if there were none."""
    run, out = interrupted
    run(5)
    journal = journal_path(out)
    journal.write_bytes(journal.read_bytes()[:size])
    assert sweep(TRACES, FEW, out, workers=0).num_resumed == 0
    assert out.read_bytes() == whole(tmp_path)


def test_a_sweep_goes_on_with_workers_and_another_order(interrupted, tmp_path):
    """What rows depend on is the same."""
    run, out = interrupted
    run(3)
    traces = dict(reversed(TRACES.items()))
    assert sweep(traces, FEW[::-1], out, workers=1).num_resumed == 3
    assert out.read_bytes() == whole(tmp_path)


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("settings", {"settings": FEW[1:]}),
        ("traces", {"traces": {**TRACES, "b": random_trace(seed=2)}}),
        ("traces", {"traces": {"a": TRACES["a"]}}),
        ("first", {"first": 3}),
        ("cost", {"cost": CountingCost()}),
    ],
)
def test_the_journal_of_another_sweep_is_refused(interrupted, what, other):
    """With what differs and what to do; it stays as it is."""
    run, out = interrupted
    run(2)
    before = journal_path(out).read_bytes()
    with pytest.raises(eplb.EplbError, match=rf"holds 2 rows of another sweep \({what} differ\); give that"):
        sweep(**{"traces": TRACES, "settings": FEW, "out": out, "workers": 0, **other})
    assert journal_path(out).read_bytes() == before


def test_the_journal_of_another_version_is_refused(interrupted):
    """Its rows may be others."""
    run, out = interrupted
    run(2)
    journal = journal_path(out)
    journal.write_bytes(journal.read_bytes().replace(eplb.__version__.encode(), b"0.0.1", 1))
    with pytest.raises(eplb.EplbError, match=r"another sweep \(eplb differ\)"):
        sweep(TRACES, FEW, out, workers=0)


@pytest.mark.parametrize("text", ["mine", "mine\n", '{"kind": "other"}\n', "[]\n", "\n", "\0\0\0"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, text):
    """It only has the name of one."""
    journal = tmp_path / "grid.csv.partial"
    journal.write_text(text)
    with pytest.raises(eplb.EplbError, match=r"is no journal of a sweep|line 1 is damaged"):
        sweep(TRACES, FEW, tmp_path / "grid.csv", workers=0)
    assert journal.read_text() == text


@pytest.mark.parametrize("line", [b"\0\0\0\0", b"{}", b'{"trace": "a"}', b"3", b"\xff"])
def test_a_damaged_line_is_named(interrupted, line):
    """A kill tears the last line alone."""
    run, out = interrupted
    run(3)
    journal = journal_path(out)
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*lines[:2], line, *lines[3:]]) + b"\n")
    with pytest.raises(eplb.EplbError, match="line 3 is damaged; remove the file to start over"):
        sweep(TRACES, FEW, out, workers=0)


def test_two_sweeps_at_once_are_told_apart(tmp_path):
    """The second one does not write into the journal of the first."""
    journal = Journal(tmp_path / "grid.csv.partial", {"settings": "x"})
    with pytest.raises(eplb.EplbError, match="another sweep writes here"):
        Journal(tmp_path / "grid.csv.partial", {"settings": "x"})
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_keeps_every_number(tmp_path):
    """To the last bit."""
    found = sweep(TRACES, [SMALL], tmp_path / "grid.csv", workers=0, cost=CountingCost(factor=1 / 3))
    for tried in found.trials:
        assert Tried.from_dict(json.loads(json.dumps(tried.to_dict()))) == tried


def test_what_is_no_file_is_left_alone(tmp_path):
    """A folder, say, or a device that never ends."""
    for path in (tmp_path, type(tmp_path)("/dev/full")):
        with pytest.raises(eplb.EplbError, match="is no journal of a sweep"):
            Journal(path, {"settings": "x"})


def test_a_full_disk_loses_no_row_that_was_written(tmp_path):
    """The sweep ends with an error, and goes on when there is space again."""
    out = tmp_path / "grid.csv"
    error = programs.error_of(tmp_path, out, most_bytes=5_000)
    assert "FileFormatError" in error and "cannot write here" in error
    journal = journal_path(out)
    assert journal.stat().st_size == 5_000  # the last row is torn
    kept = journal.read_bytes().count(b"\n") - 1
    assert 0 < kept == sweep(programs.traces(), grid(CHOICES), out, workers=0).num_resumed
