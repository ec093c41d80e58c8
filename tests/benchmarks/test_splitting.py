"""The benchmark of the exact split, on a tiny shape."""

import json
from importlib import metadata

import pytest

OF_ONE = ("compiled", "eplb.split", "whole tokens, compiled", "whole tokens", "numpy.argsort")
LINPROG = "HiGHS, scipy's linprog"


@pytest.fixture
def run(imported, tmp_path, capsys):
    """Return a function that measures one round and returns the rows and what was printed."""

    def run():
        out = tmp_path / "out.md"
        sizes = ["--shapes", "tiny", "--loads", "zipf", "--rounds", "1", "--threads", "1", "2"]
        imported("splitting").main([*sizes, "--out", str(out)])
        return json.loads(out.with_suffix(".json").read_text())["rows"], capsys.readouterr()

    return run


@pytest.fixture
def without_scipy(monkeypatch):
    """Pretend that no package is installed."""

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)


def test_every_way_is_timed_beside_sorting_and_a_linear_program(run):
    """One layer on one thread, all layers on each number of threads; both solvers find the same largest load."""
    pytest.importorskip("scipy")
    rows, printed = run()
    for planned in ("even", "weighted"):
        own = [row for row in rows if row["planned"] == planned]
        one = {row["what"]: row for row in own if row["layers"] == "one"}
        times = {what: row["median_us"] for what, row in one.items()}
        assert set(OF_ONE) < set(one)
        assert one["compiled"]["x_argsort"] == pytest.approx(times["compiled"] / times["numpy.argsort"])
        assert one["eplb.split"]["highs_over_this"] == pytest.approx(times[LINPROG] / times["eplb.split"])
        assert one["compiled"]["slowest_layer_us"] > 0
        assert one[LINPROG]["largest_difference"] < 1e-9
        assert {row["threads"] for row in own if row["layers"] == "all" and row["what"] == "eplb.split"} == {1, 2}
    assert "| one layer, one thread | us, planned even | us, planned weighted | x numpy.argsort |" in printed.out


def test_without_scipy_the_linear_program_is_skipped_and_that_is_said(run, without_scipy):
    """On the way and in the results; the rest is measured."""
    rows, printed = run()
    assert {row["what"] for row in rows if row["layers"] == "one"} == set(OF_ONE)
    assert "skipped HiGHS" in printed.err
    assert "HiGHS: not measured" in printed.out


def test_the_compiled_split_is_the_one_of_the_package(imported):
    """It fills in the same shares, layer by layer."""
    batch = imported("splitting").batch_for(imported("shapes").SHAPES["tiny"], "zipf", "even", 0)
    calls = imported("splitting_calls").compiled(batch)
    for call in calls:
        call()
    shares = calls[0].args[8][0]
    assert (shares == imported("splitting_calls").eplb.split(batch.placement, batch.tokens)).all()
