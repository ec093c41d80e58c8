"""`eplb demo`."""

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
    return tmp_path


def test_shows_the_planned_and_the_unseen_half(invoke, bundled):
    """A plan is judged on loads that it was not made for."""
    result = invoke("demo")
    assert result.exit_code == 0, result.exception
    for part in ("expected in a window", "6 later windows, unseen, on average", "before", "eplb plan FILE"):
        assert part in result.stdout


def test_writes_only_when_asked(invoke, bundled, tmp_path):
    """And then what can be read back."""
    invoke("demo")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert invoke("demo", "--out", tmp_path / "placement.json").exit_code == 0
    assert eplb.Placement.load(tmp_path / "placement.json").num_experts == 32


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
