"""A question that all ranks answer, with one outcome that is written once and read by all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import NamedTuple

from eplb.migration.control import Control

POLL_S = 0.02
GRACE_S = 0.1  # for ranks that others complain of, to complain themselves


class Word(NamedTuple):
    """What a rank answers, and what comes out."""

    ok: bool
    text: str = ""
    phase: str = ""
    ranks: tuple[int, ...] = ()
    """The ranks of the group that are to blame."""

    def packed(self) -> str:
        """Return it as text."""
        return json.dumps(self._asdict())

    @classmethod
    def unpacked(cls, text: str) -> Word:
        """Return what was packed."""
        fields = json.loads(text)
        return cls(**{**fields, "ranks": tuple(fields["ranks"])})


Judge = Callable[[dict[int, Word], list[int]], Word]
"""From the answers by rank, and the ranks that gave none, to the outcome."""


class Meeting:
    """One question.

    Parameters
    ----------
    control : Control
        Where the answers are.
    key : str
        Where in it; a key is used once.
    rank, num_ranks : int
        Of the group.
    """

    def __init__(self, control: Control, key: str, rank: int, num_ranks: int) -> None:
        self._control, self._key, self._rank, self._num_ranks = control, key, rank, num_ranks

    def hold(self, mine: Word, judge: Judge, until: float, end: float) -> Word:
        """Answer, and return the outcome, which is the same on every rank that gets one.

        Who answers last decides. If not all have answered by `until`, or a rank complains, who notices decides.

        Raises
        ------
        StoreLost
            If the store does not answer by `end`. The answer may have been counted.
        """
        return self._control.together(lambda: self._hold(mine, judge, until, end), end)

    def _hold(self, mine: Word, judge: Judge, until: float, end: float) -> Word:
        self._control.set(f"{self._key}/{self._rank}", mine.packed(), end)
        ranks = list(range(self._num_ranks))
        if self._control.add(f"{self._key}/answers", 1, end) < self._num_ranks:
            if self._is_decided(mine, until, end):
                return Word.unpacked(self._control.get([self._outcome], end)[0])
            ranks = [rank for rank in ranks if self._control.has(f"{self._key}/{rank}", end)]
        answers = self._control.get([f"{self._key}/{rank}" for rank in ranks], end)
        words = {rank: Word.unpacked(answer) for rank, answer in zip(ranks, answers, strict=True)}
        missing = [rank for rank in range(self._num_ranks) if rank not in words]
        outcome = judge(words, missing).packed()
        return Word.unpacked(self._control.write_once(self._outcome, outcome, end))

    @property
    def _outcome(self) -> str:
        return f"{self._key}/outcome"

    def _is_decided(self, mine: Word, until: float, end: float) -> bool:
        """Return whether the others decide in time; a rank that complains waits for their answers alone."""
        if mine.ok:
            return self._control.await_keys([self._outcome], until, end)
        self._linger(mine.ranks, until, end)
        return self._control.has(self._outcome, end)

    def _linger(self, blamed: tuple[int, ...], until: float, end: float) -> None:
        """Wait for the answers of the others, so that the outcome names who is silent; for those to blame a moment."""
        grace = time.monotonic() + GRACE_S
        while time.monotonic() < until and not self._control.has(self._outcome, end):
            silent = self._num_ranks - self._control.add(f"{self._key}/answers", 0, end)
            if silent == 0 or (time.monotonic() > grace and silent == self._num_silent(blamed, end)):
                return
            time.sleep(POLL_S)

    def _num_silent(self, ranks: tuple[int, ...], end: float) -> int:
        return sum(not self._control.has(f"{self._key}/{rank}", end) for rank in ranks)

    def forget(self) -> None:
        """Remove the keys, each rank its own and rank 0 those of all; only when all ranks know the outcome."""
        shared = [self._outcome, f"{self._key}/answers"] if self._rank == 0 else []
        self._control.delete([f"{self._key}/{self._rank}", *shared])
