"""The frontier as a user makes it, on a trace of a few windows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "frontier.py"
PEER = """
def raises(weight, *sizes):
    raise ZeroDivisionError("no nodes")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the folder of a run on nine windows of 2 layers x 8 experts: out.md and out.json."""
    folder = tmp_path_factory.mktemp("frontier")
    loads = np.random.default_rng(0).integers(1, 100, (9, 2, 8))
    np.savez(folder / "mixtral_olmoe.npz", loads=loads)
    (folder / "toy.py").write_text(PEER)
    command = [sys.executable, str(SCRIPT), "--traces", str(folder), "--only", "mixtral", "steady"]
    peer = ["--peer", f"raises={folder / 'toy.py'}:raises"]
    subprocess.run([*command, *peer, "--out", str(folder / "out.md")], check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def rows(results):
    return json.loads((results / "out.json").read_text())["rows"]


def test_every_policy_has_a_row_for_each_budget_and_interval(rows):
    """Policies that know no budget have one row, ours has one a budget and one with free moves."""
    budgets = ["2%", "5%", "10%", "20%", "no limit"]
    none = [(name, "knows none") for name in ("contiguous", "static", "deepseek", "raises")]
    ours = [("eplb", budget) for budget in budgets] + [("eplb, moves free", "no limit")]
    for interval in (1, 4):
        found = [(row["policy"], row["budget"]) for row in rows if row["interval"] == interval]
        assert found == [*none, *ours, ("oracle", "knows none")]


def test_budgets_are_kept(rows):
    """No replan of ours moves more than its share of the slots."""
    limited = [row for row in rows if row["policy"] == "eplb" and row["budget"].endswith("%")]
    assert len(limited) == 8
    assert all(row["largest_moved_share"] <= float(row["budget"][:-1]) / 100 for row in limited)


def test_a_peer_that_raises_is_reported(rows, results):
    """What it raised stands in its rows and in the table."""
    errors = [row["error"] for row in rows if row["policy"] == "raises"]
    assert all("ZeroDivisionError: no nodes" in error for error in errors)
    assert "ZeroDivisionError: no nodes" in (results / "out.md").read_text()


def test_the_tables_have_the_columns_and_the_machine(results):
    """A summary and a table for each interval, and what the trace was."""
    text = (results / "out.md").read_text()
    header = "| policy | budget | balancedness | worst window | moved | largest replan | most to a rank | median ms |"
    assert text.count(header) == 2
    assert "## A plan every window: balancedness / moved a window" in text
    assert all(word in text for word in ("processors", "| mixtral | mixtral_olmoe.npz | 9 | 7 | 2 | 8 | 4 x 3 |"))


def test_the_frontier_is_what_nothing_beats(imported):
    """A row that moves more for less is off it; the oracle and what raised do not count."""
    points = [(0.8, 0.0, False), (0.9, 0.1, False), (0.85, 0.2, False), (0.9, 0.1, False), (1.0, 0.0, True)]
    rows = [dict(zip(("balancedness", "moved_share", "sees_future"), point, strict=True)) for point in points]
    rows.append({"error": "raised"})
    on_frontier = imported("frontier").on_frontier
    assert [on_frontier(row, rows) for row in rows] == [True, True, False, True, False, False]
