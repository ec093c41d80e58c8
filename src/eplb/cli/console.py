"""Where a command prints, and what may be printed there."""

from __future__ import annotations

from rich.console import Console


def output() -> Console:
    """Return the console on stdout; text is printed as it is, never read as markup."""
    return Console(highlight=False, markup=False, emoji=False)


def one_line(text: str) -> str:
    """Return `text` on one line and without control characters, which foreign names may hold."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text.strip())
