"""The benchmark of transfers, on a tiny shape."""

import json

import pytest


@pytest.fixture
def results(imported, tmp_path, capsys):
    """Return the rows and the tables of one round."""
    out = tmp_path / "out.md"
    imported("transfers").main(["--shape", "tiny", "--share", "0.5", "--rounds", "1", "--out", str(out)])
    return json.loads(out.with_suffix(".json").read_text())["rows"], capsys.readouterr().out


def test_planning_is_timed_beside_sorting(results):
    """Each pair of placements moves something, in some time and memory."""
    rows, text = results
    assert len(rows) == 3
    assert all(row["transfers"] > 0 and row["median_ms"] > 0 and row["ratio"] > 0 for row in rows)
    assert "|  | transfers | of the slots | median ms | x argsort | peak MB |" in text


def test_chosen_sources_are_no_worse_than_the_lowest_holders(results):
    """The first goal cannot be worse, and one node has no sends between nodes."""
    rows, _ = results
    for row in rows:
        ours, lowest = row["ours"], row["lowest"]
        assert ours["largest_far_sends"] == lowest["largest_far_sends"] == ours["far"] == 0
        assert 0 < ours["largest_sends"] <= lowest["largest_sends"] and 0 < ours["rounds"] <= lowest["rounds"]
