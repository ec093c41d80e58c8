"""Before a byte moves: every rank says what it is about to do, and all hear whether it is the same."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from eplb.migration.control import Control, Patience
from eplb.migration.meeting import Meeting, Word
from eplb.placement import Placement

SHOWN = 12  # characters of a value in a message


def facts_of(weights: Any, old: Placement, new: Placement, max_staging_bytes: int | None) -> dict[str, str]:
    """Return what all ranks must have in common, by name."""
    shapes = [[(str(part.dtype), list(part.shape[1:])) for part in layer] for layer in weights]
    return {
        "old placement": old.hash,
        "new placement": new.hash,
        "dtypes and shapes of weights": hashlib.sha256(repr(shapes).encode()).hexdigest(),
        "kind of device": str(weights[0][0].device.type),
        "max_staging_bytes": str(max_staging_bytes),
    }


def number_of(control: Control, rank: int, end: float) -> int:
    """Return the number of this migration; it is kept in the store, so that no key is ever used twice."""
    return control.add(_started(rank), 1, end)


def agree(control: Control, number: int, rank: int, members: list[int], word: Word, patience: Patience) -> Word:
    """Return whether all ranks are about to do the same.

    Parameters
    ----------
    control : Control
    number : int
        Of this migration.
    rank : int
        Of the group.
    members : list of int
        What messages call each rank of the group.
    word : Word
        The facts of this rank, or what is wrong with its input.
    """

    def judged(words: dict[int, Word], missing: list[int]) -> Word:
        if missing:
            return Word(False, _absent(control, number, missing, members, patience), "agree", tuple(missing))
        bad = {rank: word for rank, word in words.items() if not word.ok}
        if bad:
            text = "; ".join(f"rank {members[rank]}: {word.text}" for rank, word in bad.items())
            return Word(False, text, "agree", tuple(bad))
        return _compared({rank: json.loads(word.text) for rank, word in words.items()}, members)

    return Meeting(control, f"{number}/agree", rank, len(members)).hold(word, judged, patience.passing, patience.end)


def _started(rank: int) -> str:
    return f"started/{rank}"


def _absent(control: Control, number: int, missing: list[int], members: list[int], patience: Patience) -> str:
    counts = [control.add(_started(rank), 0, patience.end) for rank in missing]
    told = ", ".join(
        f"rank {members[rank]} ({'late' if count == number else f'at its migration {count}'})"
        for rank, count in zip(missing, counts, strict=True)
    )
    return f"migration {number} began without {told}; every rank must begin every migration, within the time-out"


def _compared(facts: dict[int, dict[str, str]], members: list[int]) -> Word:
    """Name the first fact that differs, and the ranks that are not with the most."""
    for name in facts[0]:
        values = {rank: its.get(name, "none") for rank, its in facts.items()}
        usual = Counter(values.values()).most_common(1)[0][0]
        odd = tuple(rank for rank, value in values.items() if value != usual)
        if odd:
            told = ", ".join(f"{values[rank][:SHOWN]} on rank {members[rank]}" for rank in odd)
            return Word(False, f"{name}: {usual[:SHOWN]} on most ranks, but {told}", "agree", odd)
    return Word(True)
