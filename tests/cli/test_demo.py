"""`eplb demo`."""

import sys

import numpy as np
import pytest

import eplb
from eplb.cli import demo
from eplb.cli.summary import balancedness_by_window


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """A stand-in for the package's data: twelve windows, two layers, 32 experts."""
    (tmp_path / "data").mkdir()
    loads = np.random.default_rng(0).lognormal(3, 1, (1, 2, 32)) * np.random.default_rng(1).uniform(0.5, 2, (12, 2, 32))
    eplb.LoadTrace(loads=loads).save(tmp_path / "data" / "tiny_moe.npz")
    monkeypatch.setattr(demo, "files", lambda package: tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_shows_the_planned_and_the_unseen_half(invoke, bundled):
    """A plan is judged on loads that it was not made for."""
    result = invoke("demo")
    assert result.exit_code == 0, result.exception
    for part in ("expected in a window", "6 later windows, unseen, on average", "before", "eplb plan FILE"):
        assert part in result.stdout


def test_ends_with_a_report_and_says_where(invoke, bundled):
    """Of all windows, in the folder where it runs; a second demo replaces it."""
    pytest.importorskip("plotly")
    for _ in range(2):
        result = invoke("demo")
        assert result.exit_code == 0, result.exception
        assert str(bundled / "here" / "eplb-demo-report.html") in result.stdout.replace("\n", "").replace(" ", "")
    assert [path.name for path in (bundled / "here").iterdir()] == ["eplb-demo-report.html"]


def test_writes_where_it_is_told(invoke, bundled, tmp_path):
    """The placement and the report."""
    pytest.importorskip("plotly")
    result = invoke("demo", "--out", tmp_path / "placement.json", "--report", tmp_path / "a.html")
    assert result.exit_code == 0, result.exception
    assert eplb.Placement.load(tmp_path / "placement.json").num_experts == 32
    assert "<title>bundled: expert load report" in (tmp_path / "a.html").read_text()
    assert not list((bundled / "here").iterdir())


def test_without_plotly_it_says_how_to_get_it(invoke, bundled, monkeypatch):
    """And shows the rest; only a report that was asked for is missed."""
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    result = invoke("demo")
    assert result.exit_code == 0 and 'pip install "eplb[report]"' in " ".join(result.stdout.split())
    assert isinstance(invoke("demo", "--report", "a.html").exception, eplb.MissingDependencyError)
    assert not list((bundled / "here").iterdir())


def test_somebody_elses_file_is_left_alone(invoke, bundled):
    """The demo goes on without its report."""
    (bundled / "here" / "eplb-demo-report.html").write_text("mine")
    result = invoke("demo")
    assert result.exit_code == 0 and "no report of eplb" in " ".join(result.stdout.split())
    assert (bundled / "here" / "eplb-demo-report.html").read_text() == "mine"


def test_missing_data_is_named(invoke, bundled):
    """A broken installation is said as such."""
    (bundled / "data" / "tiny_moe.npz").unlink()
    result = invoke("demo")
    assert isinstance(result.exception, eplb.FileFormatError)
    assert "reinstall" in str(result.exception)


def test_the_bundled_loads_gain():
    """The loads that come with the package are worth a plan, on the unseen half too."""
    trace = demo.bundled_trace()
    half = trace.num_windows // 2
    placement = eplb.plan(trace.loads[:half], demo.TOPOLOGY).placement
    before, after = balancedness_by_window(placement, trace.part(half, trace.num_windows))
    assert after.mean() > before.mean() + 0.05
