"""The side-by-side runner as a user starts it, on a tiny shape with toy peers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "side_by_side.py"
TOY_PEERS = """
import torch

def in_turn(weight, num_replicas, num_groups, num_nodes, num_gpus):
    layers, experts = weight.shape
    return (torch.arange(num_replicas) % experts).repeat(layers, 1), None, None

def cold_experts_dropped(weight, num_replicas, num_groups, num_nodes, num_gpus):
    return torch.zeros(len(weight), num_replicas, dtype=torch.int64), None, None

def adds_one(weight, *sizes):
    weight += 1
    return in_turn(weight, *sizes)

def raises(weight, *sizes):
    raise ZeroDivisionError("no nodes")
"""
PEERS = ("in_turn", "cold_experts_dropped", "adds_one", "raises")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the folder of a run on one load of the tiny shape: toy.py, out.md and out.json."""
    folder = tmp_path_factory.mktemp("side_by_side")
    (folder / "toy.py").write_text(TOY_PEERS)
    peers = [word for name in PEERS for word in ("--peer", f"{name}={folder / 'toy.py'}:{name}")]
    command = [sys.executable, str(SCRIPT), "--shapes", "tiny", "--loads", "zipf", "--rounds", "2", *peers]
    subprocess.run([*command, "--out", str(folder / "out.md")], check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def rows(results):
    """Return the rows of the run by planner."""
    return {row["planner"]: row for row in json.loads((results / "out.json").read_text())["rows"]}


def test_every_planner_has_a_row(rows):
    """Our efforts and policies, the peers and argsort take part."""
    ours = {"eplb fast", "eplb balanced", "rebalance_experts fixup", "rebalance_experts deepseek", "numpy.argsort"}
    assert rows.keys() == ours | set(PEERS)


@pytest.mark.parametrize("planner", ["eplb fast", "eplb balanced", "rebalance_experts fixup", "in_turn"])
def test_a_row_has_every_column(rows, planner):
    """Quality, time, ratio and memory are all there, and a balancedness keeps to its bound."""
    row = rows[planner]
    assert {"balancedness", "below_bound", "duplicates", "split_groups", "median_ms", "ratio", "peak_mb"} <= row.keys()
    assert 0 < row["balancedness"] <= row["bound"] <= 1
    assert row["bound"] - row["balancedness"] == pytest.approx(row["below_bound"])


def test_the_ratio_is_to_our_fast_plan(rows):
    """The ratio is the median time over that of `fast`."""
    assert rows["eplb fast"]["ratio"] == 1
    assert rows["in_turn"]["ratio"] == pytest.approx(rows["in_turn"]["median_ms"] / rows["eplb fast"]["median_ms"])


def test_a_peer_that_raises_is_reported(rows):
    """What the peer raised stands in its row, and the others are measured."""
    assert rows["raises"]["error"] == "ZeroDivisionError: no nodes"
    assert "median_ms" not in rows["raises"]


def test_a_peer_that_drops_experts_gets_no_score(rows):
    """A plan without every expert is unsound, however balanced."""
    assert "14 experts have no slot" in rows["cold_experts_dropped"]["error"]


def test_a_peer_that_changes_its_input_is_named(rows):
    """Loads changed in place are noticed."""
    assert rows["adds_one"]["changed_input"]
    assert not rows["in_turn"]["changed_input"]


def test_the_table_has_the_columns_and_the_versions(results):
    """The Markdown names columns, versions and machine."""
    text = (results / "out.md").read_text()
    header = "| planner | balancedness | below bound | duplicates | median ms | x eplb fast | peak MB | remarks |"
    assert header in text
    assert all(word in text for word in ("numpy ", "numba ", "processors", "Load average", "raised ZeroDivisionError"))


def test_a_peer_that_is_not_there_is_refused():
    """A wrong --peer ends the run with what was expected."""
    command = [sys.executable, str(SCRIPT), "--shapes", "tiny", "--peer", "toy=nowhere.py:plan"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "expected a Python file" in done.stderr
