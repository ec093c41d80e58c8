"""Messages between ranks: batches of isend and irecv, with time-outs."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from eplb.migration.control import LEAST_WAIT_S

POLL_S = 0.0005


class Message(NamedTuple):
    """Bytes to send or to fill."""

    peer: int
    """Rank in the group."""
    data: Any
    """Contiguous tensor of uint8 [bytes]."""
    is_send: bool
    row: int = -1
    """Row of staging that is complete with this message; -1 for none."""


class Pending(NamedTuple):
    """Messages on their way, which end together."""

    works: Sequence[Any]
    messages: Sequence[Message]


class TransferFailed(Exception):  # noqa: N818 - it names a state
    """Messages did not come through."""

    def __init__(self, text: str, peers: tuple[int, ...]) -> None:
        super().__init__(text)
        self.peers = peers


class Transport:
    """The messages of one data group.

    Parameters
    ----------
    group : ProcessGroup, optional
        gloo for tensors on the CPU, NCCL for those on GPUs. Default: the world.
    device : torch.device
        Where the tensors are.
    """

    def __init__(self, group: Any, device: Any) -> None:
        self._group, self._device = group, device

    def prepare(self, until: float) -> None:
        """Let all ranks meet once, where the first messages must not be those of a few: NCCL asks for it."""
        import torch
        import torch.distributed as dist

        if self._device.type != "cpu":
            everybody = tuple(range(dist.get_world_size(self._group)))
            zero = torch.zeros(1, device=self._device)
            self._await(dist.all_reduce(zero, group=self._group, async_op=True), everybody, until)

    def post(self, messages: Sequence[Message], tag: int) -> list[Pending]:
        """Start all messages; the order of those between two ranks is the same on both.

        Raises
        ------
        TransferFailed
            If a connection is known to be broken.
        """
        if self._device.type == "cpu":  # one by one: then it is known which one fails
            return [self._posted([message], tag) for message in messages]
        return [self._posted(messages, tag)] if messages else []

    def _posted(self, messages: Sequence[Message], tag: int) -> Pending:
        import torch.distributed as dist

        ops = [
            dist.P2POp(
                *(dist.isend if message.is_send else dist.irecv, message.data),
                *(self._global(message.peer), self._group, tag),
            )
            for message in messages
        ]
        try:
            return Pending(dist.batch_isend_irecv(ops), messages)
        except RuntimeError as exc:
            raise TransferFailed(_first_line(exc), _peers(messages)) from exc

    def wait(self, pending: Pending, until: float) -> None:
        """Wait for messages.

        Raises
        ------
        TransferFailed
            If they have not come through by `until`, or a connection broke.
        """
        for work in pending.works:
            self._await(work, _peers(pending.messages), until)

    def _await(self, work: Any, peers: tuple[int, ...], until: float) -> None:
        try:
            work.wait(timedelta(seconds=max(LEAST_WAIT_S, until - time.monotonic())))
        except RuntimeError as exc:
            raise TransferFailed(_first_line(exc), peers) from exc
        self.drain(peers, until)

    def drain(self, peers: tuple[int, ...], until: float) -> None:
        """Wait until the device has done what it was given; asking it for a value would wait without an end."""
        import torch

        if self._device.type == "cpu":
            return
        event = getattr(torch, self._device.type).Event()
        event.record()
        while not event.query():
            if time.monotonic() > until:
                raise TransferFailed("the device did not end in time; abort the group", peers)
            time.sleep(POLL_S)

    def _global(self, peer: int) -> int:
        import torch.distributed as dist

        return peer if self._group is None else int(dist.get_global_rank(self._group, peer))


def _peers(messages: Sequence[Message]) -> tuple[int, ...]:
    return tuple(sorted({message.peer for message in messages}))


def _first_line(error: BaseException) -> str:
    """Return what an error says, without the file of the library that it comes from."""
    return re.sub(r"^\[\S+\] ", "", str(error).strip().splitlines()[0])
