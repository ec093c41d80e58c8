"""Moves as text: in bytes where the size of an expert is known, else in slots."""

from __future__ import annotations

from eplb.report.findings import Findings

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def bytes_text(num_bytes: float) -> str:
    """Return `num_bytes` in the unit that suits it.

    Examples
    --------
    >>> bytes_text(0), bytes_text(999), bytes_text(44_040_192), bytes_text(1.5e9)
    ('0 B', '999 B', '44 MB', '1.5 GB')
    """
    for unit in UNITS:
        if abs(num_bytes) < 999.5 or unit == UNITS[-1]:
            break
        num_bytes /= 1000
    return f"{num_bytes:.3g} {unit}" if num_bytes >= 9.95 or num_bytes == int(num_bytes) else f"{num_bytes:.2g} {unit}"


def moved_text(findings: Findings, moves: float) -> str:
    """Return `moves` as a share of the slots, and in bytes where they are known."""
    share = f"{moves / findings.num_slots:.1%} of the slots"
    if findings.expert_bytes is None:
        return share
    return f"{share} ({bytes_text(moves * findings.expert_bytes)})"
