"""`eplb sweep` in this process: what it prints, what it writes, and what it refuses."""

import csv
import dataclasses
import json

import numpy as np
import pytest

import eplb
from eplb.advising import Setting, grid, sweep
from eplb.advising.journal import journal_path
from eplb.cli.sweep_grid import OPTIONS, settings_from
from eplb.cli.sweep_tables import best_of

GRID = ("--ranks", 4, "--slots-per-rank", "3:4", "--policy", "contiguous,static,eplb", "--interval", "1,4")


@pytest.fixture
def trace():
    """Twelve windows, two layers, eight experts, far from balance."""
    loads = np.random.default_rng(0).integers(1, 1000, (12, 2, 8))
    return eplb.LoadTrace(loads=loads, layer_ids=[4, 9], model="model", window="a second")


@pytest.fixture
def swept(invoke, tmp_path):
    """Return a function that runs `eplb sweep` in this process, without workers, and returns what it prints."""

    def run(*args):
        result = invoke("sweep", *args, "--workers", 0, "--out", tmp_path / "grid.csv")
        assert result.exit_code == 0, result.exception
        return result.stdout

    return run


def rows(folder):
    """Return the rows of the table in `folder`."""
    with (folder / "grid.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def refused(invoke, *args):
    """Return the message with which `eplb sweep` ends before it prints anything."""
    result = invoke("sweep", *args)
    assert isinstance(result.exception, eplb.EplbError), result.exception
    assert not result.stdout
    return str(result.exception)


def given(**texts):
    """Return the texts of all options, of which only these are given."""
    return {**dict.fromkeys([*OPTIONS, "redundant"]), **texts}


# ---- what it does


def test_every_combination_is_a_row(swept, loads_file, tmp_path):
    """Two numbers of slots, three policies and two intervals."""
    text = swept(loads_file, *GRID)
    assert "12 settings x 1 trace: 12 trials" in text and "12 rows" in text
    found = {(row["slots_per_rank"], row["policy"], row["interval"]) for row in rows(tmp_path)}
    assert len(found) == len(rows(tmp_path)) == 12
    assert {row["trace"] for row in rows(tmp_path)} == {str(loads_file)}


def test_the_best_rows_are_shown(swept, loads_file, tmp_path):
    """Best first, with what differs between settings."""
    lines = swept(loads_file, *GRID).splitlines()
    (top,) = [number for number, line in enumerate(lines) if line.startswith("slots")]
    assert lines[top].split()[:4] == ["slots", "policy", "interval", "mean"]
    shown = [float(line.split()[3]) for line in lines[top + 1 : top + 6]]
    best = sorted((float(row["balancedness"]) for row in rows(tmp_path)), reverse=True)[:5]
    assert shown == [pytest.approx(value, abs=5e-5) for value in best]


def test_several_traces_make_several_tables(swept, loads_file, trace, tmp_path):
    """Each has its own rows and its own best ones."""
    trace.part(0, 11).save(tmp_path / "other.npz")
    text = swept(loads_file, tmp_path / "other.npz", *GRID)
    assert "12 settings x 2 traces: 24 trials" in text
    assert text.count("best of") == 2 and len(rows(tmp_path)) == 24


def test_a_setting_that_does_not_fit_is_said(swept, loads_file, tmp_path):
    """In the summary, and in its row."""
    text = swept(loads_file, "--ranks", "2,4", "--slots-per-rank", 3)
    assert "no outcome" in text and "8 experts do not fit 6 usable slots" in text
    assert [bool(row["error"]) for row in rows(tmp_path)] == [True, False]


def test_step_times_become_columns(swept, loads_file, tmp_path):
    """Of the hardware and the model that are named; the fastest setting comes first."""
    cost = ("--hardware", "h100", "--model", "gpt-oss-20b", "--steps-per-window", 32)
    text = swept(loads_file, *GRID, *cost)
    assert "step, us" in text
    assert all(float(row["step_us"]) > 0 for row in rows(tmp_path))


def test_windows_are_the_steps_that_the_trace_says(swept, invoke, loads_file, trace, tmp_path):
    """As for an advice, with the same note; traces that differ need the option."""
    told = dataclasses.replace(trace, window="32 decode steps x 9 requests")
    told.save(tmp_path / "told.npz")
    cost = ("--ranks", 4, "--slots-per-rank", 3, "--hardware", "h100", "--model", "gpt-oss-20b")
    assert "a window is 32 forward passes, as the trace says" in swept(tmp_path / "told.npz", *cost)
    unsaid = rows(tmp_path)
    assert "note" not in swept(tmp_path / "told.npz", *cost, "--steps-per-window", 32)
    assert rows(tmp_path) == unsaid
    says = refused(invoke, tmp_path / "told.npz", loads_file, *cost, "--out", tmp_path / "two.csv")
    assert f"got 32 in {tmp_path / 'told.npz'}, 1 in {loads_file}" in says


def test_no_outcome_at_all_is_an_error(invoke, loads_file, tmp_path):
    """Said after the table is written, which has the reasons."""
    args = (loads_file, "--ranks", 2, "--slots-per-rank", 3, "--workers", 0, "--out", tmp_path / "grid.csv")
    for more in ((), ("--json",)):
        result = invoke("sweep", *args, *more)
        assert isinstance(result.exception, eplb.EplbError), result.exception
        assert "got none of 1 trial; the first: 8 experts do not fit 6 usable slots" in str(result.exception)
        assert result.stdout and rows(tmp_path)[0]["error"]


def test_redundant_experts_are_counted_from_the_trace(swept, loads_file, tmp_path):
    """Eight experts and none, four or eight more, on four ranks."""
    swept(loads_file, "--ranks", "2,4", "--redundant", "0:8:4")
    assert {(row["num_ranks"], row["slots_per_rank"]) for row in rows(tmp_path)} == {
        *(("2", slots) for slots in "468"),
        *(("4", slots) for slots in "234"),
    }


def test_a_grid_comes_from_a_file(swept, loads_file, tmp_path):
    """In place of the options."""
    (tmp_path / "grid.json").write_text('{"num_ranks": 4, "slots_per_rank": [3, 4], "policy": "static"}')
    swept(loads_file, "--grid", tmp_path / "grid.json")
    assert [row["slots_per_rank"] for row in rows(tmp_path)] == ["3", "4"]


def test_json_is_one_object(swept, loads_file, tmp_path):
    """With the best rows of each trace."""
    found = json.loads(swept(loads_file, *GRID, "--json"))
    assert (found["num_rows"], found["num_failed"], found["num_resumed"]) == (12, 0, 0)
    best = found["best"][str(loads_file)]
    assert len(best) == 5 and best[0]["outcome"]["balancedness"] >= best[4]["outcome"]["balancedness"]


def test_a_resumed_sweep_says_so(swept, loads_file, trace, tmp_path):
    """Before it starts, and at the end with how many trials it found."""
    settings = settings_from(given(ranks="4", slots_per_rank="3:4", policy="contiguous,static,eplb"), None, [8])

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep({str(loads_file): trace}, settings, tmp_path / "grid.csv", workers=0, first=8, progress=stop)
    text = swept(loads_file, *GRID[:-2])
    assert "are not made again" in text and "2 of the trials had been made before" in text
    assert len(rows(tmp_path)) == 6 and not journal_path(tmp_path / "grid.csv").exists()


def test_workers_write_the_same_table(invoke, swept, loads_file, tmp_path):
    """As the program runs them."""
    swept(loads_file, *GRID)
    result = invoke("sweep", loads_file, *GRID, "--workers", 2, "--out", tmp_path / "two.csv")
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "grid.csv").read_bytes()


def test_policies_that_see_the_future_are_not_the_best(swept, loads_file, tmp_path):
    """They are rows, and nobody can run them."""
    text = swept(loads_file, "--ranks", 4, "--slots-per-rank", 3, "--policy", "oracle,static")
    assert [row["policy"] for row in rows(tmp_path)] == ["oracle", "static"]
    assert "static" in text and "oracle" not in text


def test_nothing_is_best_where_nothing_came_out():
    """The list is empty then."""
    assert best_of([]) == []


# ---- from texts to settings


def test_lists_and_ranges_are_read():
    """With both ends; steps of tenths are exact."""
    texts = given(ranks="4,8:16:4", slots_per_rank="9", threshold="0:0.3:0.1", policy="eplb, static")
    settings = settings_from(texts, None, [8])
    choices = {"num_ranks": [4, 8, 12, 16], "slots_per_rank": 9, "threshold": [0, 0.1, 0.2, 0.3]}
    assert set(settings) == set(grid({**choices, "policy": ["eplb", "static"]}))


def test_what_is_not_given_has_its_default():
    """That of `Setting`."""
    assert settings_from(given(ranks="4", slots_per_rank="3"), None, [8]) == [Setting(num_ranks=4, slots_per_rank=3)]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({}, "--ranks: expected one number or several"),
        ({"ranks": "4"}, "--slots-per-rank, --redundant: expected one of them"),
        ({"ranks": "4", "slots_per_rank": "3", "redundant": "4"}, "expected one of them"),
        ({"ranks": "four", "slots_per_rank": "3"}, "--ranks: expected integers with commas between, .* got 'four'"),
        ({"ranks": "4.5", "slots_per_rank": "3"}, "--ranks: expected integers"),
        ({"ranks": "8:4", "slots_per_rank": "3"}, "--ranks: expected integers"),
        ({"ranks": "4:8:0", "slots_per_rank": "3"}, "--ranks: expected integers"),
        ({"ranks": "1:2:3:4", "slots_per_rank": "3"}, "--ranks: expected integers"),
        ({"ranks": "1:1e9", "slots_per_rank": "3"}, "--ranks: expected integers"),
        ({"ranks": "nan", "slots_per_rank": "3"}, "--ranks: expected integers"),
        ({"ranks": "4,", "slots_per_rank": "3"}, "--ranks: expected integers"),
        ({"ranks": "4,4", "slots_per_rank": "3"}, "--ranks: 4 comes twice"),
        ({"ranks": "4", "slots_per_rank": "3", "threshold": "x"}, "--threshold: expected numbers"),
        ({"ranks": "4", "slots_per_rank": "3", "policy": "best"}, "policy: expected one of contiguous"),
        ({"ranks": "4", "slots_per_rank": "3", "nodes": "8"}, "num_nodes: expected at most one a rank"),
        (
            {"ranks": "4", "redundant": "3"},
            "8 experts and 3 redundant ones cannot be spread evenly over 4 ranks; 0 can",
        ),
        ({"ranks": "16", "redundant": "3"}, "over 16 ranks; 8 can"),
        ({"ranks": "4", "redundant": "-4"}, "--redundant, --ranks: expected numbers >= 0"),
        ({"ranks": "1:2000", "slots_per_rank": "1:2000"}, "grid: 4,000,000 settings, more than 1,000,000"),
    ],
)
def test_what_is_no_grid_is_refused(texts, message):
    """With the option and what came."""
    with pytest.raises(eplb.EplbError, match=message):
        settings_from(given(**texts), None, [8])


def test_redundant_experts_need_traces_alike():
    """Else a number of them means different machines."""
    with pytest.raises(eplb.EplbError, match="--redundant: the traces have 8 to 16 experts; give --slots-per-rank"):
        settings_from(given(ranks="4", redundant="4"), None, [8, 16])


# ---- what it refuses


def test_bad_calls_are_refused(invoke, loads_file, tmp_path):
    """Before anything is tried or printed."""
    small, out = ("--ranks", 4, "--slots-per-rank", 3), ("--out", tmp_path / "grid.csv")
    assert "comes twice" in refused(invoke, loads_file, loads_file, *small, *out)
    assert "no such file" in refused(invoke, tmp_path / "none.npz", *small, *out)
    assert "ends in .parquet or .csv" in refused(invoke, loads_file, *small, "--out", tmp_path / "grid.txt")
    assert "leave --ranks out" in refused(invoke, loads_file, *small, *out, "--grid", tmp_path / "grid.json")
    assert "step times need both" in refused(invoke, loads_file, *small, *out, "--hardware", "h100")
    assert "workers: expected an integer of 0 to" in refused(invoke, loads_file, *small, *out, "--workers", -1)
    journal_path(tmp_path / "other.csv").write_text("no journal\n")
    assert "is damaged" in refused(invoke, loads_file, *small, "--out", tmp_path / "other.csv")
    assert "add --hardware" in refused(invoke, loads_file, *small, *out, "--steps-per-window", 3)
    assert not (tmp_path / "grid.csv").exists()
