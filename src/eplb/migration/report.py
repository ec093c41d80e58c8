"""What a migration did."""

from __future__ import annotations

from dataclasses import dataclass

PHASES = ("agree", "transfer", "check", "decide", "apply")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit, from the point of view of this rank."""

    layer: int
    """The layer, by its place in the placement."""
    number: int
    """Of the migration, from 0."""
    num_sent: int
    """Experts that left this rank."""
    num_received: int
    """Experts that came."""
    bytes_sent: int
    bytes_received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """All commits so far, from the point of view of this rank."""

    commits: tuple[Commit, ...]
    staging_bytes: int
    """Size of the staging buffer."""
    seconds: dict[str, float]
    """Time spent by phase: "agree", "transfer", "check", "decide", "apply"."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of weights that left this rank."""
        return sum(commit.bytes_sent for commit in self.commits)

    @property
    def bytes_received(self) -> int:
        """Bytes of weights that came."""
        return sum(commit.bytes_received for commit in self.commits)
