"""The examples are scripts, not packages: they are imported from their folder for the length of a test module."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny_moe() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of examples/tiny_moe by its name."""
    folder = ROOT / "examples" / "tiny_moe"
    names = {path.stem for path in folder.glob("*.py")}
    hidden = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    sys.path.insert(0, str(folder))
    yield importlib.import_module
    sys.path.remove(str(folder))
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(hidden)
