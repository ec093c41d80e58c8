"""The same model in one process: no ranks, no placement, no exchange. What every output is compared with."""

from __future__ import annotations

from functools import partial

import torch
from blocks import by_blocks
from experts import swiglu
from router import combine, normalise, route
from torch import Tensor
from weights import WholeModel


def forward(model: WholeModel, x_nd: Tensor, top_k: int) -> Tensor:
    """Return the outputs [N, D] of all tokens, expert after expert."""
    for router_ed, parameters in zip(model.routers, model.experts, strict=True):
        hidden_nd = normalise(x_nd)
        ids_nk, shares_nk = route(router_ed, hidden_nd, top_k)
        outputs_nkd = torch.empty(*ids_nk.shape, x_nd.shape[1])
        for expert, matrices in enumerate(zip(*parameters, strict=True)):
            token, place = (ids_nk == expert).nonzero(as_tuple=True)
            outputs_nkd[token, place] = by_blocks(partial(swiglu, *matrices), hidden_nd[token])
        x_nd = x_nd + combine(shares_nk, outputs_nkd)
    return x_nd


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of float32 are the same to the last bit; unlike `==`, it tells 0 from -0.

    Examples
    --------
    >>> same_bits(torch.zeros(2), torch.zeros(2)), same_bits(torch.zeros(2), -torch.zeros(2))
    (True, False)
    """
    return bool(torch.equal(one.view(torch.int32), other.view(torch.int32)))
