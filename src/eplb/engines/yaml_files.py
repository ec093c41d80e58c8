"""YAML of plain values: nothing is constructed but lists, mappings, texts and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eplb.errors import FileFormatError, MissingDependencyError
from eplb.files import existing_file, read_text

MAX_YAML_BYTES = 2 << 20  # parsed, a value of two bytes takes half a kilobyte


def read_yaml(path: Path) -> Any:
    """Return the value in a YAML file of at most 2 MiB.

    Raises
    ------
    FileFormatError
        If it is no YAML of plain values, has a name twice in a mapping, or is too large.
    MissingDependencyError
        If PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError(f'{path}: PyYAML is needed for it; pip install "eplb[engines]"') from None
    existing_file(path, MAX_YAML_BYTES)
    text = read_text(path)
    try:
        return yaml.load(text, Loader=_loader(yaml))  # a SafeLoader: plain values alone
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        lines = " ".join(str(exc).split())[:200]
        raise FileFormatError(f"{path}: not valid YAML of plain values (truncated?): {lines}") from None


def _loader(yaml: Any) -> Any:
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        """Refuses what the safe loader lets pass: a name that comes twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            found = super().construct_mapping(node, deep=deep)
            if len(found) < len(node.value):
                raise ValueError("a name comes twice in one mapping")
            return found

    return Loader
