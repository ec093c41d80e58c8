"""The mixture of experts: a softmax router and E small feed-forward networks, of which each token uses K."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MixtureOfExperts(nn.Module):
    """Feed-forward block of which each token uses its `top_k` likeliest experts (shapes as in model.py)."""

    def __init__(self, *, width: int, expert_width: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.num_experts, self.top_k = num_experts, top_k
        self.router = nn.Linear(width, num_experts, bias=False)
        self.widen = nn.Parameter(torch.empty(num_experts, width, expert_width))
        self.narrow = nn.Parameter(torch.empty(num_experts, expert_width, width))

    def forward(self, x_nd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mixed outputs [N, D], expert ids [N, K] by falling weight, and the balance loss."""
        probabilities_ne = self.router(x_nd).softmax(-1)
        weights_nk, ids_nk = probabilities_ne.topk(self.top_k)
        weights_nk = weights_nk / weights_nk.sum(-1, keepdim=True)
        # Rows sorted by expert make each expert's tokens one slice, so that every expert is two plain products.
        order = ids_nk.flatten().argsort(stable=True)
        counts_e = torch.bincount(ids_nk.flatten(), minlength=self.num_experts)
        slices = x_nd.index_select(0, order // self.top_k).split(counts_e.tolist())
        mixed = [
            functional.gelu(rows @ widen) @ narrow
            for rows, widen, narrow in zip(slices, self.widen.unbind(), self.narrow.unbind(), strict=True)
            if len(rows)
        ]
        back = order.argsort()
        mixed_nkd = torch.cat(mixed).index_select(0, back).view(*ids_nk.shape, -1)
        return (weights_nk[..., None] * mixed_nkd).sum(1), ids_nk, _balance_loss(probabilities_ne, counts_e)


def _balance_loss(probabilities_ne: Tensor, counts_e: Tensor) -> Tensor:
    # Switch Transformer's auxiliary loss, https://arxiv.org/abs/2101.03961 eq. 4: 1 when all shares are equal.
    shares_e = counts_e / counts_e.sum()
    return counts_e.numel() * (shares_e * probabilities_ne.mean(0)).sum()
