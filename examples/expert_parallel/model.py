"""The expert-parallel model: every rank holds some slots of each layer, and brings its own tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from exchange import Exchange, of_all_ranks
from experts import compute
from replicas import Replicas
from router import combine, normalise, route
from torch import Tensor


class Forward(NamedTuple):
    """What a forward pass gives on one rank."""

    outputs_nd: Tensor
    loads_le: Tensor
    """Tokens of all ranks that the routers sent to each expert, int64 [L, E]."""
    computed: list[int]
    """Rows that this rank computed in each layer, [L]."""
    cpu_ms: list[float]
    """Processor time that this took in each layer, without the exchanges, [L]."""


class ExpertParallelModel:
    """L residual layers of experts.

    Parameters
    ----------
    routers : L tensors [E, D]
        The same on all ranks.
    weights : L sequences of tensors [S, ...]
        Of the slots of this rank; a migration changes them in place.
    replicas : Replicas
        Which slot computes a token.
    top_k : int
        Experts a token.
    """

    def __init__(
        self, routers: Sequence[Tensor], weights: Sequence[Sequence[Tensor]], replicas: Replicas, top_k: int
    ) -> None:
        self.routers, self.weights, self.replicas, self.top_k = routers, weights, replicas, top_k

    def forward(self, x_nd: Tensor, step: int) -> Forward:
        """Pass the tokens of this rank through all layers; all ranks call it together, with the same `step`."""
        loads, computed, cpu_ms = [], [], []
        for layer, router_ed in enumerate(self.routers):
            hidden_nd = normalise(x_nd)
            ids_nk, shares_nk = route(router_ed, hidden_nd, self.top_k)
            counts_re = of_all_ranks(torch.bincount(ids_nk.flatten(), minlength=len(router_ed)))
            slots_nk = self.replicas.choose(ids_nk, layer, step, counts_re)
            exchange = Exchange(slots_nk.flatten(), len(self.weights[layer][0]))
            rows_md = exchange.there(hidden_nd.repeat_interleave(self.top_k, 0))
            start = time.thread_time()
            outputs_md = compute(self.weights[layer], rows_md, exchange.counts)
            cpu_ms.append(1e3 * (time.thread_time() - start))
            outputs_nkd = exchange.back(outputs_md).view(*ids_nk.shape, -1)
            x_nd = x_nd + combine(shares_nk, outputs_nkd)
            loads.append(counts_re.sum(0))
            computed.append(len(rows_md))
        return Forward(x_nd, torch.stack(loads), computed, cpu_ms)
