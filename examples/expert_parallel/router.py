"""What happens to a token on its own rank: normalise, choose experts, and combine what they return."""

from __future__ import annotations

from functools import partial

import torch
from blocks import by_blocks
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-6


def normalise(x_nd: Tensor) -> Tensor:
    """Return the tokens, each divided by the root of its mean square."""
    return by_blocks(lambda rows: rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + EPSILON), x_nd)


def route(router_ed: Tensor, hidden_nd: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the experts [N, K] of each token, most probable first, and their probabilities, a softmax in float32."""
    probabilities_ne = by_blocks(partial(_probabilities, router_ed), hidden_nd)
    shares_nk, ids_nk = probabilities_ne.topk(top_k)
    return ids_nk, shares_nk


def combine(shares_nk: Tensor, outputs_nkd: Tensor) -> Tensor:
    """Return the sum of the outputs, weighted by their shares, added up in the order of the top k."""
    mixed_nd = torch.zeros_like(outputs_nkd[:, 0])
    for share_n, output_nd in zip(shares_nk.unbind(1), outputs_nkd.unbind(1), strict=True):
        mixed_nd = mixed_nd + share_n[:, None] * output_nd
    return mixed_nd


def _probabilities(router_ed: Tensor, rows_bd: Tensor) -> Tensor:
    return functional.linear(rows_bd, router_ed).float().softmax(-1)
