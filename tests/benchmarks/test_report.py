"""Measuring the report."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "report.py"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a Chromium; apt-get install chromium")
def test_size_and_opening_are_measured(tmp_path):
    """On a small shape, once; in a process of its own, as playwright runs once in one."""
    pytest.importorskip("playwright")
    out = tmp_path / "out.md"
    options = ["--shape", "tiny", "--windows", "20", "--rounds", "1", "--out", str(out)]
    subprocess.run([sys.executable, str(SCRIPT), *options], check=True, capture_output=True)
    (row,) = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert row["bytes"] > row["bytes_without_plotly"] > 0
    assert len(row["desktop_ms"]["last chart"]) == 1
