"""What a measurement was made with: versions, processor, and how busy the machine was."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

BUSY_SHARE = 0.25
PACKAGES = ("eplb", "numpy", "numba", "llvmlite", "torch")


def machine(note: str = "") -> dict[str, Any]:
    """Return date, versions, processor and load of this machine, as plain JSON values; call it before measuring.

    Parameters
    ----------
    note : str, default ""
        Anything a reader should know, kept as it is.
    """
    load = os.getloadavg()[0]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "cpu": _cpu_model(),
        "processors": processors,
        "system": f"{platform.system()} {platform.machine()}",
        "load_average_before": round(load, 2),
        "busy": load > BUSY_SHARE * processors,
        "note": note,
    }


def heading(facts: dict[str, Any]) -> str:
    """Return `facts` as the first paragraph of a results file."""
    names = ("eplb", "python", "numpy", "numba", "torch")
    versions = ", ".join(f"{name} {facts[name]}" for name in names if facts[name])
    busy = "shared with other work: trust ratios, not milliseconds" if facts["busy"] else "otherwise idle"
    lines = [
        f"{facts['date']}. {versions}.",
        f"{facts['cpu']}, {facts['processors']} processors, {facts['system']}.",
        f"Load average before the run {facts['load_average_before']}: the machine was {busy}.",
    ]
    return "\n".join([*lines, facts["note"]] if facts["note"] else lines)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
