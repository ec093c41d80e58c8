"""Making a commit real: copies inside the rank, in the order that was worked out."""

from __future__ import annotations

from typing import Any

from eplb.migration.copying import LocalCopies
from eplb.migration.staging import ExpertRows


def apply_copies(copies: LocalCopies, rows: ExpertRows, staging: Any) -> None:
    """Copy experts between the slots of `rows` and the rows of `staging`, one after another."""

    def parts(place: int) -> list[Any]:
        return rows.slot(place) if place < rows.num_slots else rows.staged(staging, place - rows.num_slots)

    for source, target in copies.steps:
        for its, mine in zip(parts(source), parts(target), strict=True):
            mine.copy_(its)
