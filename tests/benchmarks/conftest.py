"""Importing the benchmarks, which are scripts and no package."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture
def imported(monkeypatch):
    """Return a function that imports a script by name; afterwards its modules are forgotten."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("EPLB_NUM_THREADS", "1")  # scripts set it; this puts it back
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(BENCHMARKS):
            sys.modules.pop(name)
