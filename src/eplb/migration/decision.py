"""The second phase of a commit: one decision for all ranks, and a step that all pass together."""

from __future__ import annotations

from eplb.errors import MigrationError, MigrationInDoubt
from eplb.migration.control import Control, Patience, StoreLost
from eplb.migration.meeting import Meeting, Word


class Decisions:
    """What the ranks of a group decide in one migration.

    Parameters
    ----------
    control : Control
    number : int
        Of the migration.
    rank : int
        Of the group.
    members : list of int
        What messages call each rank of the group.
    """

    def __init__(self, control: Control, number: int, rank: int, members: list[int]) -> None:
        self._control, self._number, self._rank, self._members = control, number, rank, members

    def key(self, commit: int, what: str) -> str:
        """Return a key of a commit."""
        return f"{self._number}/{commit}/{what}"

    def begin(self, commit: int) -> None:
        """Leave word of where this rank is, so that the next migration clears away what is left."""
        self._control.note(self._at(self._rank), f"{self._number}/{commit}")

    def decide(self, commit: int, layer: int, vote: Word, patience: Patience) -> None:
        """Vote, and return if all ranks commit.

        Raises
        ------
        MigrationError
            If they do not; the layer is as it was on every rank.
        MigrationInDoubt
            If this rank voted to commit and cannot learn what came of it.
        """
        try:
            outcome = self._meeting(commit, "vote").hold(vote, self._judged, patience.votes, patience.end)
        except StoreLost as lost:
            if not vote.ok:  # without this vote there is no commit
                raise self.failure(vote, layer) from lost
            raise MigrationInDoubt(
                f"layer {layer}: rank {self._members[self._rank]} voted, and cannot learn whether the layer was "
                f"committed: the control store is lost ({lost}); do not serve from this rank",
                ranks=(self._members[self._rank],),
                layer=layer,
                phase="decide",
            ) from lost
        if not outcome.ok:
            raise self.failure(outcome, layer)

    def pass_together(self, commit: int, patience: Patience) -> Word:
        """Return whether all ranks have read the decision; it stands in any case."""
        try:
            meeting = self._meeting(commit, "pass")
            return meeting.hold(Word(True), self._passed, patience.passing, patience.end)
        except StoreLost as lost:
            return Word(False, f"the control store is lost ({lost})", "commit")

    def forget(self, commit: int) -> None:
        """Remove the keys of a commit that all ranks have passed, and those by which they passed the one before."""
        self._meeting(commit, "vote").forget()
        self._control.delete([self.key(commit, f"sums/{self._rank}")])
        self._meeting(commit - 1, "pass").forget()

    def clear(self, patience: Patience) -> None:
        """Remove what the migration before this one left."""
        at = self._at(self._rank)
        left = self._control.get([at], patience.end)[0] if self._control.has(at, patience.end) else None
        if left is not None:
            for what in ("vote", "pass"):
                Meeting(self._control, f"{left}/{what}", self._rank, len(self._members)).forget()
            self._control.delete([f"{left}/sums/{self._rank}", at])
        Meeting(self._control, f"{self._number - 1}/agree", self._rank, len(self._members)).forget()

    def failure(self, word: Word, layer: int | None) -> MigrationError:
        """Return the error that says what a word does."""
        ranks = tuple(self._members[rank] for rank in word.ranks)
        where = "" if layer is None else f"layer {layer}, "
        state = "the layer is the new one" if word.phase == "commit" else "the layer is as it was"
        text = f"{where}{word.phase}: {word.text}" + ("" if layer is None else f"; {state}")
        return MigrationError(text, ranks=ranks, layer=layer, phase=word.phase)

    def _at(self, rank: int) -> str:
        return f"at/{rank}"

    def _meeting(self, commit: int, what: str) -> Meeting:
        return Meeting(self._control, self.key(commit, what), self._rank, len(self._members))

    def _judged(self, votes: dict[int, Word], missing: list[int]) -> Word:
        """Commit if all voted for it; else name who is silent, and of them rather those that others complain of."""
        complaints = [vote for vote in votes.values() if not vote.ok]
        if not complaints and not missing:
            return Word(True)
        blamed = tuple(dict.fromkeys(rank for vote in complaints for rank in vote.ranks))
        silent = [rank for rank in missing if rank in blamed] or missing
        told = [f"{self._named(silent)} gave no vote in time"] if silent else []
        about = [vote for vote in complaints if not silent or set(vote.ranks) & set(silent)]
        phase = about[0].phase if about else "decide"
        return Word(False, "; ".join([*told, *(vote.text for vote in about)]), phase, tuple(silent) or blamed)

    def _passed(self, _: dict[int, Word], missing: list[int]) -> Word:
        if not missing:
            return Word(True)
        return Word(False, f"{self._named(missing)} did not pass after the decision", "commit", tuple(missing))

    def _named(self, ranks: list[int]) -> str:
        return ", ".join(f"rank {self._members[rank]}" for rank in ranks)
