"""Loads on disk, the command in this process, and the command as a program."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from eplb.cli.app import app
from eplb.trace import LoadTrace


@pytest.fixture
def trace() -> LoadTrace:
    """Three windows, two layers, eight experts, far from balance."""
    loads = np.random.default_rng(0).integers(1, 1000, (3, 2, 8))
    return LoadTrace(loads=loads, layer_ids=[4, 9], model="model")


@pytest.fixture
def loads_file(tmp_path: Path, trace: LoadTrace) -> Path:
    """The trace, saved."""
    trace.save(tmp_path / "loads.npz")
    return tmp_path / "loads.npz"


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Run the command in this process; what it raises is kept in the result."""
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m eplb` as a program of its own."""

    def run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "eplb", *(str(arg) for arg in args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)

    return run
