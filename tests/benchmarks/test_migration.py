"""The benchmark of migrations, one small round."""

import json

import pytest


@pytest.mark.slow
def test_every_way_moves_the_same_bytes(imported, tmp_path):
    """With phases and memory for those that keep them."""
    out = tmp_path / "out.md"
    imported("migration").main(["--rounds", "1", "--layers", "1", "--moved", "2", "--out", str(out)])
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["way"] for row in rows] == ["bare", "copied", "migrate", "unchecked", "half"]
    assert all(row["ratio"] > 0 and row["moved_mb"] == rows[0]["moved_mb"] for row in rows)
    assert [row["commits"] for row in rows if "phases" in row] == [1, 1, 2]
    assert all(row["staging_mb"] <= row["limit_mb"] for row in rows if "phases" in row)
    assert "| way | median s | ratio | ratio of medians | processor s |" in out.read_text()
