"""Whether the ranks together put out what one process puts out, bit for bit."""

from __future__ import annotations

import reference
import torch
import torch.distributed as dist
from torch import Tensor
from traffic import Traffic
from weights import WholeModel


class Checker:
    """Compares every batch on rank 0, which alone keeps the whole model.

    Parameters
    ----------
    model : WholeModel
        What it is compared with.
    traffic : Traffic
        Draws the tokens of all ranks again.
    top_k : int
        Experts a token.
    """

    def __init__(self, model: WholeModel, traffic: Traffic, top_k: int) -> None:
        self._model = model if dist.get_rank() == 0 else None
        self._traffic, self._top_k = traffic, top_k
        self.num_checked = 0
        self.different: list[int] = []
        """Batches that came out differently; known to rank 0."""

    def check(self, number: int, outputs_nd: Tensor) -> None:
        """Compare the outputs of batch `number`; all ranks call it together."""
        self.num_checked += 1
        if self._model is None:
            dist.send(outputs_nd, dst=0)
            return
        batches = [self._traffic.batch(number, rank) for rank in range(dist.get_world_size())]
        found = [outputs_nd, *map(torch.empty_like, batches[1:])]
        for rank in range(1, len(found)):
            dist.recv(found[rank], src=rank)
        expected = reference.forward(self._model, torch.cat(batches), self._top_k)
        if not reference.same_bits(torch.cat(found), expected):
            self.different.append(number)
