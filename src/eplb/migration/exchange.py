"""The first phase of a commit: experts cross into staging, and what arrived is compared with what was sent."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from eplb.migration.checksums import checksum
from eplb.migration.control import Control, Patience
from eplb.migration.meeting import Word
from eplb.migration.shares import Crossing, Share
from eplb.migration.staging import ExpertRows
from eplb.migration.transport import Message, TransferFailed, Transport


class Exchange:
    """Moves the experts of commits between this rank and its peers.

    Parameters
    ----------
    transport : Transport
        Carries the bytes.
    control : Control
        Carries the checksums, so that they do not come the way of what they check.
    members : sequence of int
        The rank of the topology that each rank of the group is.
    rank : int
        Of the group.
    """

    def __init__(self, transport: Transport, control: Control, members: Sequence[int], rank: int) -> None:
        self._transport, self._control, self._rank, self._members = transport, control, rank, members
        self._group_rank = {member: number for number, member in enumerate(members)}
        self.seconds = {"transfer": 0.0, "check": 0.0}

    def run(self, share: Share, rows: ExpertRows, staging: Any, key: str, tag: int, patience: Patience) -> Word:
        """Fill staging and return the vote of this rank: whether all of it is what was sent.

        Raises
        ------
        StoreLost
            If the store does not answer.
        """
        start, checking = time.perf_counter(), self.seconds["check"]
        try:
            pending = self._transport.post(self._messages(share, rows, staging), tag)
            self._publish(share.sends, rows, key, patience)
            sums = self._arrivals(pending, rows, staging, patience)
        except TransferFailed as failure:
            return Word(False, f"{self._names(failure.peers)}: {failure}", "transfer", failure.peers)
        except (RuntimeError, MemoryError) as exc:
            return Word(False, f"{self._names(())}: {exc}", "transfer", (self._rank,))
        finally:
            checking = self.seconds["check"] - checking
            self.seconds["transfer"] += time.perf_counter() - start - checking
        return self._compared(share.receives, sums, key, patience)

    def _messages(self, share: Share, rows: ExpertRows, staging: Any) -> list[Message]:
        messages = []
        for crossing in share.crossings:
            peer = self._group_rank[crossing.peer]
            parts = rows.slot(crossing.place) if crossing.is_send else rows.staged(staging, crossing.place)
            last = len(parts) - 1
            messages += [
                Message(peer, part, crossing.is_send, -1 if crossing.is_send or number < last else crossing.place)
                for number, part in enumerate(parts)
            ]
        return messages

    def _publish(self, sends: list[Crossing], rows: ExpertRows, key: str, patience: Patience) -> None:
        """Tell the checksums of what this rank sends, while it is on its way."""
        start = time.perf_counter()
        sums = {crossing.expert: crossing.place for crossing in sends}
        found = [checksum(rows.slot(slot)) for slot in sums.values()]
        self._transport.drain((), patience.transfer)
        table = {expert: int(value) for expert, value in zip(sums, found, strict=True)}
        if table:
            self._control.set(f"{key}/{self._rank}", json.dumps(table), patience.end)
        self.seconds["check"] += time.perf_counter() - start

    def _arrivals(self, pending: list[Any], rows: ExpertRows, staging: Any, patience: Patience) -> list[int]:
        """Wait for all messages; return the checksum of each row of staging, taken while others arrive."""
        found: dict[int, Any] = {}
        for messages in sorted(pending, key=lambda p: p.messages[0].is_send):
            self._transport.wait(messages, patience.transfer)
            start = time.perf_counter()
            for message in messages.messages:
                if message.row >= 0:
                    found[message.row] = checksum(rows.staged(staging, message.row))
            self.seconds["check"] += time.perf_counter() - start
        self._transport.drain((), patience.transfer)
        return [int(found[row]) for row in sorted(found)]

    def _compared(self, receives: list[Crossing], sums: list[int], key: str, patience: Patience) -> Word:
        start = time.perf_counter()
        sources = sorted({crossing.peer for crossing in receives})
        tables = self._control.together(lambda: self._published(sources, key, patience), patience.end)
        self.seconds["check"] += time.perf_counter() - start
        me = self._members[self._rank]
        silent = [source for source in sources if source not in tables]
        if silent:
            return Word(False, f"ranks {silent} sent no checksums to rank {me}", "check", self._in_group(silent))
        for crossing, found in zip(receives, sums, strict=True):
            if tables[crossing.peer][str(crossing.expert)] != found:
                text = f"expert {crossing.expert} from rank {crossing.peer} arrived damaged at rank {me}"
                return Word(False, text, "check", self._in_group([crossing.peer, me]))
        return Word(True)

    def _published(self, sources: list[int], key: str, patience: Patience) -> dict[int, dict[str, int]]:
        """Return the checksums of those sources that tell them in time."""
        keys = {source: f"{key}/{self._group_rank[source]}" for source in sources}
        if keys and not self._control.await_keys(list(keys.values()), patience.transfer, patience.end):
            keys = {source: k for source, k in keys.items() if self._control.has(k, patience.end)}
        return dict(zip(keys, map(json.loads, self._control.get(list(keys.values()), patience.end)), strict=True))

    def _in_group(self, ranks: list[int]) -> tuple[int, ...]:
        return tuple(self._group_rank[rank] for rank in ranks)

    def _names(self, peers: tuple[int, ...]) -> str:
        me = self._members[self._rank]
        if not peers:
            return f"rank {me}"
        return f"between rank {me} and {' '.join(f'rank {self._members[peer]}' for peer in peers)}"
