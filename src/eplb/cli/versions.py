"""`eplb versions`: what a bug report needs."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path

from eplb import __version__
from eplb.cli.console import output
from eplb.cli.options import JsonOutput
from eplb.cli.tables import facts
from eplb.errors import EplbError

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "typer", "rich")


def versions_command(json_output: JsonOutput = False) -> None:
    """Print what a bug report needs: versions, the machine, and where compiled code is kept."""
    found = versions()
    if json_output:
        print(json.dumps(found))
        return
    output().print(facts((name, "not installed" if value is None else str(value)) for name, value in found.items()))


def versions() -> dict[str, str | int | None]:
    """Return versions of eplb and of what it uses, the machine, and where compiled code is kept."""
    return {
        "eplb": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _installed(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "usable processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "planner threads": _planner_threads(),
        "compiled code": _cache_folder(),
    }


def _installed(package: str) -> str | None:
    """Return the version without importing the package: PyTorch takes seconds."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _planner_threads() -> int | str:
    from eplb.kernels.threads import num_threads

    try:
        return num_threads()
    except EplbError as exc:
        return str(exc)


def _cache_folder() -> str:
    try:
        from eplb.kernels.compiling import cache_folder
    except ImportError as exc:  # a report of a broken numba is what this command is for
        return f"unknown: {exc}"
    return str(cache_folder() or "nowhere: every process compiles anew")
