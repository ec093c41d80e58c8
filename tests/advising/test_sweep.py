"""`sweep`: the same table whoever makes it, and what it refuses."""

import csv
import os
import sys

import pytest

import eplb
from eplb.advising import Setting, grid, run_trial, sweep
from eplb.advising.rows import columns_of
from tests.advising.doubles import CHOICES, SMALL, CountingCost, random_trace

FEW = grid({"num_ranks": 4, "slots_per_rank": [1, 3], "policy": ["contiguous", "static"]})


class Renamed:
    """A meter that calls a figure as a column of the table is called."""

    def __call__(self, scored):
        pass

    def totals(self):
        return {"moves": 1.0}


class Clashing(CountingCost):
    """A cost model with such meters."""

    def meter(self, topology):
        return Renamed()


class Broken(CountingCost):
    """A cost model with a bug."""

    def meter(self, topology):
        raise ZeroDivisionError("a bug")


class Deadly(CountingCost):
    """A cost model that ends its process, as a machine without memory does."""

    def meter(self, topology):
        os._exit(9)


@pytest.fixture(scope="module")
def traces():
    """Two traces of one shape."""
    return {"a": random_trace(), "b": random_trace(seed=1)}


@pytest.fixture(scope="module")
def table(traces, tmp_path_factory):
    """The table that this process writes alone, as bytes."""
    out = tmp_path_factory.mktemp("sweep") / "grid.csv"
    sweep(traces, grid(CHOICES), out, workers=0)
    return out.read_bytes()


def test_rows_are_what_trials_give(traces, tmp_path):
    """One a trace and setting, with the numbers of `run_trial`; by trace, then by setting."""
    found = sweep(traces, FEW, tmp_path / "grid.csv", workers=0, cost=CountingCost(), first=3, last=9)
    assert [(row["trace"], row["slots_per_rank"], row["policy"]) for row in found.rows] == [
        (name, slots, policy) for name in "ab" for slots in (1, 3) for policy in ("contiguous", "static")
    ]
    for tried in found.trials:
        if tried.setting.slots_per_rank == 3:
            assert tried.outcome == run_trial(traces[tried.trace], tried.setting, cost=CountingCost(), first=3, last=9)
    assert (found.rows[2]["windows"], found.rows[2]["first_window"]) == (6.0, 3.0)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_write_the_same_bytes(traces, table, tmp_path, workers):
    """Whoever is first, and in whatever order settings are given."""
    sweep(traces, grid(CHOICES)[::-1], tmp_path / "grid.csv", workers=workers)
    assert (tmp_path / "grid.csv").read_bytes() == table


def test_a_table_holds_all_that_is_known(traces, table):
    """As text that reads back to the very same numbers."""
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert len(rows) == 2 * len(grid(CHOICES))
    row = next(row for row in rows if not row["error"])
    values = {"num_ranks": int(row["num_ranks"]), "slots_per_rank": int(row["slots_per_rank"])}
    setting = Setting(
        **values,
        policy=row["policy"],
        split=row["split"],
        interval=int(row["interval"]),
        threshold=float(row["threshold"]),
    )
    outcome = run_trial(traces[row["trace"]], setting)
    assert row["key"] == setting.key
    assert float(row["balancedness"]) == outcome.balancedness and int(row["moves"]) == outcome.moves


def test_what_a_trace_does_not_allow_is_a_row(table, traces, tmp_path):
    """With the reason, and no numbers; the other rows are there."""
    found = sweep(traces, FEW, tmp_path / "grid.csv", workers=0)
    failed = [row for row in found.rows if row["error"]]
    assert found.num_failed == len(failed) == 4
    assert all("8 experts do not fit 4 usable slots" in row["error"] and row["balancedness"] is None for row in failed)


def test_parquet_and_csv_hold_the_same(traces, tmp_path):
    """Names, order and values; whole numbers stay whole."""
    parquet = pytest.importorskip("pyarrow.parquet")
    found = sweep(traces, FEW, tmp_path / "grid.parquet", workers=0)
    sweep(traces, FEW, tmp_path / "grid.csv", workers=0)
    rows = parquet.read_table(tmp_path / "grid.parquet").to_pylist()
    assert rows == found.rows
    with (tmp_path / "grid.csv").open(newline="") as stream:
        texts = list(csv.DictReader(stream))
    assert texts == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    assert list(texts[0]) == list(columns_of(found.trials))


def test_a_seed_of_64_bits_fits_both_files(traces, tmp_path):
    """It is the only number that large."""
    parquet = pytest.importorskip("pyarrow.parquet")
    settings = [Setting(num_ranks=4, slots_per_rank=3, policy="contiguous", seed=2**64 - 1)]
    sweep(traces, settings, tmp_path / "grid.parquet", workers=0)
    assert parquet.read_table(tmp_path / "grid.parquet")["seed"].to_pylist() == [2**64 - 1] * 2


def test_progress_counts_every_trial(traces, tmp_path):
    """From none to all, one by one."""
    seen = []
    sweep(traces, FEW, tmp_path / "grid.csv", workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(9)]


def test_nothing_else_is_left(traces, tmp_path):
    """Only the table; one of an earlier sweep is replaced."""
    for settings in (FEW, FEW[:1]):
        sweep(traces, settings, tmp_path / "grid.csv", workers=0)
        assert [path.name for path in tmp_path.iterdir()] == ["grid.csv"]
    assert len((tmp_path / "grid.csv").read_text().splitlines()) == 3


def test_traces_come_from_files_and_stores(traces, tmp_path):
    """Whatever holds the same loads gives the same rows."""
    traces["a"].save(tmp_path / "a.npz")
    traces["a"].save(tmp_path / "a.zarr")
    given = [traces["a"], tmp_path / "a.npz", str(tmp_path / "a.npz"), eplb.TraceStore.open(tmp_path / "a.zarr")]
    found = [sweep({"a": trace}, FEW, tmp_path / "grid.csv", workers=0).trials for trace in given]
    assert found == [found[0]] * 4


# ---- what is refused


@pytest.mark.parametrize(
    ("module", "options", "command"),
    [
        ("pyarrow", {"out": "grid.parquet"}, 'pip install "eplb[sweep]", or write to a .csv file'),
        ("ray", {"ray_address": "auto"}, 'pip install "eplb[ray]"'),
    ],
)
def test_a_missing_package_is_named_with_its_command(module, options, command, tmp_path, monkeypatch):
    """Before anything is tried."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(eplb.errors.MissingDependencyError) as caught:
        sweep(**{"traces": {"a": random_trace()}, "settings": FEW, "out": "grid.csv", **options})
    assert str(caught.value).endswith(command)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"traces": {}}, "traces: expected at least one"),
        ({"traces": {"": random_trace()}}, "traces: expected names that are texts, got ''"),
        ({"traces": {"\ud800": random_trace()}}, "traces: expected names that are texts"),
        ({"traces": {"a": 3}}, "trace a: expected an eplb.LoadTrace"),
        ({"traces": {"a": "missing.npz"}}, "missing.npz: no such file"),
        ({"settings": []}, "settings: expected a list of at least one"),
        ({"settings": [SMALL, SMALL]}, "settings: .* comes twice"),
        ({"settings": [SMALL.to_dict()]}, "settings: expected eplb.advising.Setting, got dict"),
        ({"workers": -1}, "workers: expected an integer of 0 to 1024, got -1"),
        ({"workers": 1.5}, "workers: expected an integer"),
        ({"ray_address": 3}, "ray_address: expected a text"),
        ({"ray_address": "auto", "workers": 2}, "workers: a Ray cluster has its own"),
        ({"out": "grid.txt"}, r"expected a name that ends in .parquet or .csv"),
        ({"out": "there/is/none/grid.csv"}, "there is no folder"),
        ({"cost": 3}, "cost: expected an object with a method meter"),
        ({"first": 0}, "first: expected an integer >= 1, got 0"),
        ({"last": 2.5}, "last: expected an integer >= 1"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(options, message, tmp_path, monkeypatch):
    """And nothing is written."""
    monkeypatch.chdir(tmp_path)
    given = {"traces": {"a": random_trace()}, "settings": FEW, "out": "grid.csv", **options}
    with pytest.raises(eplb.EplbError, match=message):
        sweep(**given)
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_million_trials_are_refused(tmp_path):
    """Settings times traces."""
    settings = [Setting(num_ranks=1, slots_per_rank=1, seed=seed) for seed in range(2000)]
    traces = dict.fromkeys((f"{number}" for number in range(501)), random_trace())
    with pytest.raises(eplb.EplbError, match="grid: 1,002,000 trials, more than 1,000,000"):
        sweep(traces, settings, tmp_path / "grid.csv")


@pytest.mark.parametrize("name", ["grid.csv", "grid.parquet"])
def test_a_file_of_something_else_is_not_replaced(name, tmp_path):
    """It is somebody's work."""
    (tmp_path / name).write_text("mine,yours\n1,2\n")
    with pytest.raises(eplb.EplbError, match="exists and is no table of a sweep"):
        sweep({"a": random_trace()}, FEW, tmp_path / name)
    assert (tmp_path / name).read_text() == "mine,yours\n1,2\n"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """Before anything is tried."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as one who may write anywhere
    with pytest.raises(eplb.EplbError, match="cannot be written; choose another"):
        sweep({"a": random_trace()}, FEW, tmp_path / "grid.csv")


def test_a_cost_with_the_name_of_a_column_is_refused(tmp_path):
    """It would hide the other one."""
    with pytest.raises(eplb.EplbError, match="cost: 'moves' is the name of another column"):
        sweep({"a": random_trace()}, FEW, tmp_path / "grid.csv", workers=0, cost=Clashing())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_ends_the_sweep(tmp_path, workers):
    """With its own error, whichever process it happened in."""
    with pytest.raises(ZeroDivisionError, match="a bug"):
        sweep({"a": random_trace()}, FEW, tmp_path / "grid.csv", workers=workers, cost=Broken())


def test_a_worker_that_is_killed_ends_the_sweep(tmp_path):
    """It is said, with what to do; what was found is kept."""
    with pytest.raises(eplb.EplbError, match="workers: a process ended before its time"):
        sweep({"a": random_trace()}, FEW, tmp_path / "grid.csv", workers=1, cost=Deadly())
    assert [path.name for path in tmp_path.iterdir()] == ["grid.csv.partial"]
