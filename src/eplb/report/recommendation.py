"""`Recommendation`: what a report says is to be done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberTable:
    """Numbers that a recommendation rests on.

    Parameters
    ----------
    caption : str
        What they are.
    head : tuple of str
        Names of the columns.
    rows : tuple of tuples of str
        Cells; the first of a row names it.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What the report recommends.

    Parameters
    ----------
    verdict : {"go", "no-go", "open"}
        Whether to balance.
    headline : str
        The recommendation in one sentence.
    details : tuple of str, default none
        What it rests on, a paragraph each.
    settings : tuple of (name, value), default none
        What to set.
    table : NumberTable, optional
        The numbers behind it.
    commands : tuple of str, default none
        Lines for a shell or a file.
    """

    verdict: str
    headline: str
    details: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    table: NumberTable | None = None
    commands: tuple[str, ...] = ()
