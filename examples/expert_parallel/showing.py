"""The run as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest

from measuring import Window
from serving import Migration

_HEADER = ("batches", "balancedness", "not migrated", "as at first", "rows of fullest rank", "ms of slowest rank")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that was served."""

    windows: tuple[tuple[Window, ...], ...]
    """Those before the first migration, those after it, and so on."""
    migrations: tuple[Migration, ...]
    num_checked: int
    """Batches that were compared with the reference."""
    different: tuple[int, ...]
    """Those that differ from it in any bit."""

    @property
    def equal(self) -> bool:
        """Whether every batch came out as the reference has it, to the last bit."""
        return self.num_checked > 0 and not self.different

    @property
    def improved(self) -> bool:
        """Whether after each migration the ranks were evener than without it, on the same tokens."""
        after = [windows[0] for windows in self.windows[1:]]
        return bool(after) and all(w.not_migrated is not None and w.balancedness > w.not_migrated for w in after)

    @property
    def passed(self) -> bool:
        """Whether both hold."""
        return self.equal and self.improved

    def to_json(self) -> str:
        """Return everything on one line."""
        return json.dumps({"equal": self.equal, "improved": self.improved, **asdict(self)})

    def to_text(self) -> str:
        """Return a table of the windows, with the migrations between them."""
        lines = [_HEADER_LINE]
        for windows, migration in zip_longest(self.windows, self.migrations):
            lines += map(_window_line, windows)
            lines += [] if migration is None else [_migration_line(migration)]
        return "\n".join([*lines, "", *self._verdict()])

    def _verdict(self) -> Iterator[str]:
        equal = f"{self.num_checked - len(self.different)} of {self.num_checked}"
        after = sum(migration.forwards for migration in self.migrations)
        yield f"equal to one process, bit for bit: {equal} batches, {after} of them right after a commit"
        yield f"every migration evened out the ranks: {'yes' if self.improved else 'no'}"


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cell.rjust(len(title)) for cell, title in zip(cells, _HEADER, strict=True))


_HEADER_LINE = _line(_HEADER)


def _window_line(window: Window) -> str:
    not_migrated = "" if window.not_migrated is None else f"{window.not_migrated:.3f}"
    return _line(
        [
            f"{window.first}-{window.last}",
            f"{window.balancedness:.3f}",
            not_migrated,
            f"{window.as_at_first:.3f}",
            f"{window.largest_rows:,.0f}",
            f"{window.slowest_ms:.1f}",
        ]
    )


def _migration_line(migration: Migration) -> str:
    pace = "" if migration.max_staging_bytes is None else ", one expert at a time"
    return (
        f"  {migration.moves} experts move: {migration.moved_bytes / 1e6:.1f} MB in {migration.commits} commits, each "
        f"followed by a batch; {migration.staging_bytes / 1e6:.1f} MB staged a rank{pace}; "
        f"{1e3 * migration.seconds:.0f} ms"
    )
