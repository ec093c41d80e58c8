"""Measuring the report."""

import json
import shutil

import pytest


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_size_and_opening_are_measured(imported, tmp_path):
    """On a small shape, once."""
    pytest.importorskip("playwright")
    out = tmp_path / "out.md"
    imported("report").main(["--shape", "tiny", "--windows", "20", "--rounds", "1", "--out", str(out)])
    (row,) = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert row["bytes"] > row["bytes_without_plotly"] > 0
    assert len(row["desktop_ms"]["last chart"]) == 1
