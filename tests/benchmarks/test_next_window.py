"""Planning for the next window, timed on a tiny shape."""

import json

import numpy as np
import pytest

KINDS = ("drift 2%", "drift 10%", "noise 1%")
PLANS = (
    "the last window alone",
    "from scratch",
    "incremental, 10% budget",
    "incremental, no limit",
    "incremental, no limit, moves free",
    "weighted, from scratch",
    "weighted, 10% budget",
    "weighted, no limit",
    "left as it was",
    "weighted, left as it was",
)
FROM_ANOTHER = ("10% budget", "no limit", "moves free")


@pytest.fixture
def results(imported, tmp_path, capsys):
    """Return the rows by loads and plan, and the tables, of one round of the tiny shape."""
    out = tmp_path / "out.md"
    imported("next_window").main(["--shapes", "tiny", "--rounds", "1", "--threads", "1", "2", "--out", str(out)])
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    return {(row["loads"], row["what"]): row for row in rows}, capsys.readouterr().out


def test_every_plan_has_a_row_with_ratios(results):
    """Times are for each number of threads, and ratios are to argsort and to one window with as many."""
    rows, text = results
    assert rows.keys() == {("", "numpy.argsort")} | {(kind, plan) for kind in KINDS for plan in PLANS}
    for i in (0, 1):
        one = rows["noise 1%", "the last window alone"]["by_threads"][i]
        scratch = rows["noise 1%", "from scratch"]["by_threads"][i]
        assert (one["x_one_window"], scratch["threads"]) == (1, i + 1)
        assert scratch["x_one_window"] == pytest.approx(scratch["median_ms"] / one["median_ms"])
    assert "| loads | plan | median ms | x numpy.argsort | x one window | moves | of all slots | next window |" in text


def test_moves_are_told_of_plans_that_start_from_another(results):
    """Within the budget, where there is one."""
    rows, _ = results
    assert all(("moves" in row) == what.endswith(FROM_ANOTHER) for (_, what), row in rows.items())
    for kind in KINDS:
        assert all(rows[kind, f"{plan}, 10% budget"]["moved_share"] <= 0.1 for plan in ("incremental", "weighted"))


def test_plans_are_scored_by_both_splits(results):
    """The best weights are never worse than even shares; times of weighted plans are ratios as those of others."""
    rows, text = results
    plans = [row for (_, what), row in rows.items() if what != "numpy.argsort"]
    assert all(row["balancedness"] <= row["weighted_balancedness"] + 1e-12 for row in plans)
    one, weighted = (rows["drift 2%", what]["by_threads"][0] for what in (PLANS[0], "weighted, from scratch"))
    assert weighted["x_one_window"] == pytest.approx(weighted["median_ms"] / one["median_ms"])
    assert "| next window | next window, weighted split |" in text


def test_windows_are_seeded(imported):
    """The same seed gives the same windows, and they drift by about what their name says."""
    windows_for = imported("drifting").windows_for
    shape = imported("shapes").SHAPES["v3-global"]
    windows = windows_for(shape, "noise 1%", 3)
    assert np.array_equal(windows, windows_for(shape, "noise 1%", 3))
    assert np.log(windows[1:] / windows[:-1]).std() == pytest.approx(0.01 * 2**0.5, rel=0.05)
