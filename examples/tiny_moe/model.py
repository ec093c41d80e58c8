"""A small decoder-only language model over bytes whose feed-forward blocks are mixtures of experts.

Shapes: B requests, S positions, N = B * S tokens, D width, H heads, E experts, K experts a token, F expert width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from experts import MixtureOfExperts
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 256


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the model."""

    num_layers: int = 6
    num_experts: int = 32
    top_k: int = 4
    width: int = 128
    num_heads: int = 4
    expert_width: int = 64
    context_tokens: int = 256


@dataclass(frozen=True, kw_only=True)
class KvCache:
    """Keys and values of the live requests, [L, B, context, H, D / H] each."""

    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, config: ModelConfig, num_requests: int) -> KvCache:
        """Cache of zeros for `num_requests` requests."""
        head = config.width // config.num_heads
        shape = (config.num_layers, num_requests, config.context_tokens, config.num_heads, head)
        return cls(keys=torch.zeros(shape), values=torch.zeros(shape))

    def rows(self, rows: slice) -> KvCache:
        """View of some requests' part; writing to it writes here."""
        return KvCache(keys=self.keys[:, rows], values=self.values[:, rows])


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one forward pass gives: logits [B, S, vocabulary], expert ids [L, B, S, K], balance loss (a scalar)."""

    logits: Tensor
    expert_ids: Tensor
    balance_loss: Tensor


class Attention(nn.Module):
    """Causal self-attention, over the given tokens or over a cache that they are first written to."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.project = nn.Linear(config.width, 3 * config.width, bias=False)
        self.merge = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x_bsd: Tensor, positions_bs: Tensor, cached: tuple[Tensor, Tensor] | None) -> Tensor:
        batch, length, width = x_bsd.shape
        query, key, value = self.project(x_bsd).view(batch, length, 3, self.num_heads, -1).unbind(2)
        query, key = _rotate(query, positions_bs), _rotate(key, positions_bs)
        mask = None
        if cached is not None:
            rows = torch.arange(batch)[:, None]
            cached[0][rows, positions_bs], cached[1][rows, positions_bs] = key, value
            extent = int(positions_bs.max()) + 1
            key, value = cached[0][:, :extent], cached[1][:, :extent]
            mask = (torch.arange(extent) <= positions_bs[..., None])[:, None]
        mixed = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, is_causal=mask is None
        )
        return cast(Tensor, self.merge(mixed.transpose(1, 2).reshape(batch, length, width)))


def _rotate(x_bshc: Tensor, positions_bs: Tensor) -> Tensor:
    # Rotary position embedding, https://arxiv.org/abs/2104.09864: nearby bytes are found within few training steps.
    half = x_bshc.shape[-1] // 2
    angles = positions_bs[..., None, None] * 1000.0 ** (-torch.arange(half) / half)
    first, second = x_bshc.split(half, -1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


class Block(nn.Module):
    """Attention, then experts, each behind a norm and beside a residual path."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.experts_norm = nn.LayerNorm(config.width)
        self.experts = MixtureOfExperts(
            width=config.width, expert_width=config.expert_width, num_experts=config.num_experts, top_k=config.top_k
        )

    def forward(
        self, x_bsd: Tensor, positions_bs: Tensor, cached: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x_bsd = x_bsd + self.attention(self.attention_norm(x_bsd), positions_bs, cached)
        mixed_nd, ids_nk, balance_loss = self.experts(self.experts_norm(x_bsd).flatten(0, 1))
        return x_bsd + mixed_nd.view_as(x_bsd), ids_nk, balance_loss


class TinyMoe(nn.Module):
    """The language model: bytes in, logits of the next byte and every layer's expert ids out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(VOCABULARY, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)
        # As in GPT-2 a matrix that adds to the residual path starts smaller, by the number of matrices that do.
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                adds = name.endswith(("merge.weight", "narrow"))
                nn.init.normal_(parameter, std=0.06 / (2 * config.num_layers) ** 0.5 if adds else 0.06)

    def forward(self, tokens_bs: Tensor, positions_bs: Tensor | None = None, cache: KvCache | None = None) -> Output:
        if positions_bs is None:
            positions_bs = torch.arange(tokens_bs.shape[1]).expand_as(tokens_bs)
        x_bsd = self.token_embedding(tokens_bs)
        ids, losses = [], []
        for layer, block in enumerate(self.blocks):
            cached = None if cache is None else (cache.keys[layer], cache.values[layer])
            x_bsd, ids_nk, balance_loss = block(x_bsd, positions_bs, cached)
            ids.append(ids_nk.view(*tokens_bs.shape, -1))
            losses.append(balance_loss)
        logits = self.head(self.norm(x_bsd))
        return Output(logits=logits, expert_ids=torch.stack(ids), balance_loss=torch.stack(losses).mean())

    def num_parameters(self) -> int:
        """Number of trained numbers, of all experts."""
        return sum(parameter.numel() for parameter in self.parameters())
