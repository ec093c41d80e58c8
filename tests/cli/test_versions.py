"""`eplb versions`."""

import json
import subprocess
import sys

import eplb
from eplb.cli.versions import versions


def test_holds_what_a_report_needs(invoke):
    """Every line of it, for people and for programs."""
    found = json.loads(invoke("versions", "--json").stdout)
    assert found["eplb"] == eplb.__version__
    assert {"python", "numpy", "numba", "llvmlite", "torch", "typer", "rich", "platform", "processor"} <= found.keys()
    text = invoke("versions").stdout
    assert all(name in text for name in found)


def test_a_missing_package_is_said(monkeypatch, invoke):
    """It is no error: PyTorch is an extra."""
    monkeypatch.setattr("eplb.cli.versions.PACKAGES", ("numpy", "no-such-package"))
    assert versions()["no-such-package"] is None
    assert "not installed" in invoke("versions").stdout


def test_a_bad_setting_is_shown(monkeypatch):
    """The command that helps to find what is wrong must not fail on it."""
    monkeypatch.setenv("EPLB_NUM_THREADS", "none")
    assert "EPLB_NUM_THREADS" in str(versions()["planner threads"])


def test_does_not_import_torch():
    """Which would take seconds."""
    code = "import sys; from eplb.cli.versions import versions; versions(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
