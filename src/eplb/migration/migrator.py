"""`Migrator`, `migrate`: from one placement to the next, in place, commit by commit.

Legend: L layers, P slots.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eplb.errors import InputError, MigrationError, MigrationInDoubt, OptionError
from eplb.migration.agreement import agree, facts_of, number_of
from eplb.migration.applying import apply_copies
from eplb.migration.checking import check_placements, check_timeout, check_weights, members_of
from eplb.migration.control import Control, Patience, StoreLost, prefix_of, store_of
from eplb.migration.decision import Decisions
from eplb.migration.exchange import Exchange
from eplb.migration.itinerary import Itinerary
from eplb.migration.meeting import Word
from eplb.migration.report import PHASES, Commit, MigrationReport
from eplb.migration.tables import checked_tables
from eplb.migration.transport import TransferFailed, Transport
from eplb.migration.worker import Worker
from eplb.placement import Placement

NUM_TAGS = 2**31 - 1


class Migrator:
    """A migration that is made commit by commit: ``for commit in migrator: ...``.

    All ranks of the group make it, at the same place of their program, and take its commits in step. Between commits
    every expert has a slot, and `placement` says which: a serving loop may run forwards there.

    Parameters
    ----------
    weights : sequence of L sequences of tensors [slots of this rank, ...]
        The parameters of each layer's experts, a row a slot, of any dtype; contiguous, all on one device. They are
        changed in place.
    old, new : Placement
        What the weights hold, and what they are to hold. Of the same layers, experts, ranks, slots and failed ranks.
    group : torch.distributed.ProcessGroup, optional
        Carries the weights: gloo for tensors on the CPU, NCCL for those on GPUs. A process for each rank of the
        placements, or for each that works. Default: the world.
    control : torch.distributed.Store or ProcessGroup, optional
        Carries checksums, votes and decisions: a store, or a group whose store is taken. Default: that of `group`.
    timeout_s : float, default 30
        How long a commit may take, all waits together; the same for the agreement before the first.
    max_staging_bytes : int, optional
        Most bytes of the staging buffer, at least one expert. With less than a layer's change needs, the layer takes
        several commits. Default: what the largest change of this rank needs.
    tables : table or sequence of tables, default ()
        What follows each commit in place: `LiveTables`, `eplb.dispatch.Dispatcher`, or whatever has their methods
        `check_fits` and `update_layer`.
    transport : Transport, optional
        Instead of plain messages over `group`.

    Raises
    ------
    PlacementError
        If the placements do not go together, or not with the tables.
    OptionError
        If weights, group, control or another option cannot be used.
    MigrationError
        If ranks are about to do different things, or another rank has bad input, or is not there. Every rank raises,
        and nothing has moved.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[Any]],
        old: Placement,
        new: Placement,
        *,
        group: Any = None,
        control: Any = None,
        timeout_s: float = 30.0,
        max_staging_bytes: int | None = None,
        tables: Any = (),
        transport: Transport | None = None,
    ) -> None:
        start = time.perf_counter()
        check_timeout(timeout_s)
        self._timeout_s = timeout_s
        self._rank, ranks = _place_in(group)
        store = store_of(control, group)
        self._ended: BaseException | None = None
        self._done: list[Commit] = []
        self._seconds = dict.fromkeys(PHASES, 0.0)
        try:
            self._control = Control(store, prefix_of(ranks), Patience.of(timeout_s).end)
            self._agree(weights, old, new, len(ranks), max_staging_bytes, tables)
            transport = transport or Transport(group, self._route.device)
            transport.prepare(Patience.of(timeout_s).end)
        except (StoreLost, TransferFailed) as exc:
            raise MigrationError(f"agree: {_said(exc)}; nothing has moved", phase="agree") from exc
        self._exchange = Exchange(transport, self._control, self._members, self._rank)
        self._worker = Worker("migration")
        self._seconds["agree"] = time.perf_counter() - start

    def _agree(self, weights: Any, old: Any, new: Any, num_ranks: int, limit: Any, tables: Any) -> None:
        """Check the input of this rank, tell the others, and hear what they say."""
        number = number_of(self._control, self._rank, Patience.of(self._timeout_s).end)
        self._members, problem = list(range(num_ranks)), None
        try:
            check_placements(old, new)
            self._members = members_of(num_ranks, new.topology)
            rank = self._members[self._rank]
            check_weights(weights, old.num_layers, int(old.topology.slot_counts[rank]))
            self._route = Itinerary(weights, old, new, rank, limit)
            self._tables = checked_tables(tables, old, self._route.most_replicas)
            word = Word(True, json.dumps(facts_of(weights, old, new, limit)))
        except (InputError, MemoryError, RuntimeError) as exc:  # the others are told
            problem = exc
            word = Word(False, str(exc), "agree", (self._rank,))
        patience = Patience.of(self._timeout_s)  # only now: a first call may have waited for the compiler
        outcome = agree(self._control, number, self._rank, self._members, word, patience)
        self._decisions = Decisions(self._control, number, self._rank, self._members)
        if problem is not None:
            raise problem
        if not outcome.ok:
            raise self._decisions.failure(outcome, None)
        self._decisions.clear(patience)
        self._first_tag = number * 7919  # an odd prime: late messages of another migration meet no receive of this one
        self._new: Placement = new
        self._placement: Placement = old if len(self._route) else new

    @property
    def placement(self) -> Placement:
        """The placement in force: what the weights of all ranks hold."""
        return self._placement

    @property
    def report(self) -> MigrationReport:
        """What was done so far."""
        seconds = {**self._seconds, **self._exchange.seconds}
        return MigrationReport(
            commits=tuple(self._done),
            staging_bytes=self._route.staging.numel(),
            seconds={p: seconds[p] for p in PHASES},
        )

    def __len__(self) -> int:
        """Return the number of commits, done or not."""
        return len(self._route)

    def __iter__(self) -> Iterator[Commit]:
        return self

    def __next__(self) -> Commit:
        """Make the next commit.

        Raises
        ------
        MigrationError
            If a rank is dead or late, an expert arrived damaged, or the migration ended before. `placement` holds on
            every rank that raises it.
        MigrationInDoubt
            If this rank cannot know what it holds: it must not serve.
        """
        if self._ended is not None:
            kind = MigrationInDoubt if isinstance(self._ended, MigrationInDoubt) else MigrationError
            raise kind(f"this migration has ended: {self._ended}") from self._ended
        if len(self._done) == len(self):
            self._worker.close()
            self._control.close()
            raise StopIteration
        layer = self._route.layer(len(self._done))
        self._ended = MigrationInDoubt(f"layer {layer}: interrupted", layer=layer)
        place = _stream_of(self._route.device)
        return self._worker.call_whole(lambda: self._next(place))

    def _next(self, place: Any) -> Commit:
        import torch

        try:
            with torch.inference_mode(), place:
                self._commit(len(self._done))
        except BaseException as exc:
            self._ended = exc
            raise
        self._ended = None
        return self._done[-1]

    def _commit(self, number: int) -> None:
        """Let experts cross, decide, and make it real."""
        patience, layer = Patience.of(self._timeout_s), self._route.layer(number)
        tag = (self._first_tag + number) % NUM_TAGS
        key = self._decisions.key(number, "sums")
        share, rows = self._route.share(number), self._route.rows(number)
        try:
            self._decisions.begin(number)
            vote = self._exchange.run(share, rows, self._route.staging, key, tag, patience)
        except StoreLost as lost:  # no vote was given
            raise self._decisions.failure(Word(False, _said(lost), "check"), layer) from lost
        start = time.perf_counter()
        self._decisions.decide(number, layer, vote, patience)
        passed = self._decisions.pass_together(number, patience)
        decided = time.perf_counter()
        self._apply(number, layer)
        self._seconds["decide"] += decided - start
        self._seconds["apply"] += time.perf_counter() - decided
        if not passed.ok:
            raise self._decisions.failure(passed, layer)
        self._decisions.forget(number)

    def _apply(self, number: int, layer: int) -> None:
        """Change weights, tables and placement."""
        try:
            apply_copies(self._route.share(number).copies, self._route.rows(number), self._route.staging)
            self._placement = self._advanced(number, layer)
            for table in self._tables:
                table.update_layer(layer, self._placement)
        except Exception as exc:
            text = f"layer {layer}, apply: {exc}; the layer is torn on this rank, which must not serve"
            raise MigrationInDoubt(text, ranks=(self._members[self._rank],), layer=layer, phase="commit") from exc
        self._done.append(self._route.told(number))

    def _advanced(self, number: int, layer: int) -> Placement:
        if number + 1 == len(self):
            return self._new
        slots, counts = self._placement.physical_to_logical.copy(), self._placement.replica_counts.copy()
        slots[layer] = self._route.slots(number)
        counts[layer] = np.bincount(slots[layer][slots[layer] >= 0], minlength=counts.shape[1])
        return Placement.from_planner(slots, self._new.topology, counts, self._new.layer_ids)


def migrate(weights: Sequence[Sequence[Any]], old: Placement, new: Placement, **options: Any) -> MigrationReport:
    """Move the weights of all layers from `old` to `new`, and return what that took on this rank.

    Parameters
    ----------
    weights, old, new, **options
        As of `Migrator`.

    Raises
    ------
    PlacementError, OptionError, MigrationError, MigrationInDoubt
        As `Migrator` and its commits do.

    Examples
    --------
    A group of one rank, whose two slots change places:

    >>> import torch
    >>> import torch.distributed as dist
    >>> from eplb import Placement, Topology
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> topology = Topology(num_ranks=1, slots_per_rank=2)
    >>> old, new = (Placement(physical_to_logical=[row], topology=topology) for row in ([0, 1], [1, 0]))
    >>> weights = [[torch.tensor([[0.0, 0.5], [1.0, 1.5]])]]
    >>> report = migrate(weights, old, new)
    >>> weights[0][0].tolist(), report.bytes_sent
    ([[1.0, 1.5], [0.0, 0.5]], 0)
    >>> dist.destroy_process_group()
    """
    migrator = Migrator(weights, old, new, **options)
    for _ in migrator:
        pass
    return migrator.report


def _place_in(group: Any) -> tuple[int, list[int]]:
    """Return the rank of this process in a group, and the ranks of all its processes in the world."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        raise OptionError("group: torch.distributed is not initialised; call init_process_group first")
    try:
        rank = dist.get_rank(group)
        ranks = dist.get_process_group_ranks(group) if rank >= 0 else []
    except (TypeError, ValueError, AttributeError, RuntimeError) as exc:
        raise OptionError(f"group: expected a ProcessGroup, got {type(group).__name__}; {exc}") from None
    if rank < 0:
        raise OptionError("group: this process is none of its ranks")
    return rank, list(ranks)


def _stream_of(device: Any) -> Any:
    """Return a context in which another thread gives work to the stream that is current here."""
    import torch

    if device.type == "cpu":
        return contextlib.nullcontext()
    accelerator = getattr(torch, device.type)
    return accelerator.stream(accelerator.current_stream(device))


def _said(error: Exception) -> str:
    return f"the control store is lost ({error})" if isinstance(error, StoreLost) else str(error)
