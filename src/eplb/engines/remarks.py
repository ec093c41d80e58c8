"""What there is to say about a conversion: facts, and what was lost or left out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from eplb.trace import LoadTrace


@dataclass(slots=True)
class Remarks:
    """Facts (`notes`) and losses (`warnings`) of a conversion, in the order in which they were found."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a fact."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Add a loss, or a doubt."""
        self.warnings.append(text)

    def warn_of_fields(self, trace: LoadTrace, format_title: str, kept: Collection[str] = ()) -> None:
        """Warn of what is known of a trace and has no place in a format, which keeps some fields."""
        known = {
            "model": bool(trace.model),
            "window": bool(trace.window),
            "phase": trace.phase != "mixed",
            "tokens": trace.tokens is not None,
            "labels": trace.labels is not None,
        }
        if lost := [name for name, is_known in known.items() if is_known and name not in kept]:
            self.warn(
                f"{format_title} has no place for {', '.join(lost)}, which {'is' if len(lost) == 1 else 'are'} lost"
            )
