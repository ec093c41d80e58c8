"""The loop: serve batches, look at their loads, plan, and migrate while serving goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from checking import Checker
from measuring import Split, Window, loads_of, measure
from model import ExpertParallelModel, Forward
from traffic import Traffic
from weights import expert_bytes

import eplb
from eplb.migration import Migrator


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One change of the placement."""

    moves: int
    commits: int
    forwards: int
    """Batches that were served meanwhile, one after each commit."""
    moved_bytes: int
    """Bytes of weights that crossed ranks, all together."""
    staging_bytes: int
    """Of the rank with the largest staging buffer."""
    max_staging_bytes: int | None
    """The limit, if there was one."""
    seconds: float
    """Of the slowest rank, forwards excluded."""


class Server:
    """One rank of the serving loop; all ranks call the same methods together.

    Parameters
    ----------
    model : ExpertParallelModel
        The model; its weights hold `placement`.
    placement : Placement
        In force at the beginning.
    traffic : Traffic
        Where the tokens come from.
    checker : Checker
        Sees the outputs of every batch.
    """

    def __init__(
        self, model: ExpertParallelModel, placement: eplb.Placement, traffic: Traffic, checker: Checker
    ) -> None:
        self.model, self.checker = model, checker
        self._traffic = traffic
        self._placement = placement
        self._at_first: Split = placement, model.replicas.weights(placement)
        self._before: Split | None = None
        self._recent: list[Forward] = []
        self._number = 0

    def forward(self) -> Forward:
        """Serve one batch, and check it."""
        forward = self.model.forward(self._traffic.batch(self._number, dist.get_rank()), self._number)
        self.checker.check(self._number, forward.outputs_nd)
        self._number += 1
        return forward

    def serve(self, num_batches: int) -> Window:
        """Serve some batches, and return how evenly the ranks were loaded."""
        self._recent = [self.forward() for _ in range(num_batches)]
        return measure(self._number - num_batches, self._recent, self._at_first, self._before)

    def migrate(self, one_at_a_time: bool = False) -> Migration:
        """Plan for the batches that were served last, and go there: after each commit a batch is served.

        With `one_at_a_time` a rank stages one expert at most, so that a layer takes as many commits as that needs.
        """
        old = self._placement
        trace = eplb.LoadTrace(loads=loads_of(self._recent))
        replicas = self.model.replicas
        plan = eplb.plan(trace, old.topology, previous=old, split=replicas.split)
        replicas.expect(old, trace.loads.sum(0))
        self._before = old, replicas.weights(old)
        max_staging_bytes = expert_bytes(self.model.weights) if one_at_a_time else None
        migrator = Migrator(
            self.model.weights, old, plan.placement, tables=replicas, max_staging_bytes=max_staging_bytes
        )
        num_forwards = 0
        for _ in migrator:
            self.forward()
            num_forwards += 1
        self._placement = migrator.placement
        report = migrator.report
        staging_bytes, seconds = _largest([report.staging_bytes, sum(report.seconds.values())])
        return Migration(
            moves=plan.moves,
            commits=len(report.commits),
            forwards=num_forwards,
            moved_bytes=_total(report.bytes_received),
            staging_bytes=int(staging_bytes),
            max_staging_bytes=max_staging_bytes,
            seconds=seconds,
        )


def _largest(values: Sequence[float]) -> list[float]:
    found = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return [float(value) for value in found]


def _total(value: int) -> int:
    found = torch.tensor(value)
    dist.all_reduce(found)
    return int(found)
