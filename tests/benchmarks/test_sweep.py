"""The benchmark of sweeps: what it measures, on a few settings."""

import json


def test_whole_sweeps_are_measured(imported, tmp_path, capsys):
    """Each number of workers as often as asked for, against the first; the tables are compared."""
    benchmark = imported("sweep")
    benchmark.main(["--every", "250", "--rounds", "2", "--workers", "1", "2", "--out", str(tmp_path / "sweep.md")])
    rows = json.loads((tmp_path / "sweep.json").read_text())["rows"]
    assert [(row["workers"], row["runs"]) for row in rows] == [(1, 2), (2, 2)]
    assert rows[0]["speedup"] == 1 and all(row["processor_s"] > 0 for row in rows)
    assert "2 settings of 8 ranks" in capsys.readouterr().out


def test_the_grid_has_500_settings(imported):
    """As many as the page says."""
    benchmark = imported("sweep")
    assert len(benchmark.grid(benchmark.CHOICES)) == 500
