"""Small torch modules that route like the models of transformers, made by hand."""

import torch
from torch import nn


class TopKRouter(nn.Module):
    """Returns (scores, weights, ids), as most do."""

    def __init__(self, width, num_experts, top_k):
        super().__init__()
        self.top_k, self.num_experts = top_k, num_experts
        self.weight = nn.Parameter(torch.randn(num_experts, width))

    def forward(self, hidden):
        scores = hidden.reshape(-1, hidden.shape[-1]) @ self.weight.T
        weights, ids = scores.topk(self.top_k, dim=-1)
        return scores, weights, ids


class Experts(nn.ModuleList):
    """Multiplies tokens by the experts that were chosen."""

    def __init__(self, width, num_experts):
        super().__init__(nn.Linear(width, width) for _ in range(num_experts))

    def forward(self, hidden, top_k_index, top_k_weights):
        return hidden * top_k_weights.sum(dim=-1, keepdim=True).tanh()


class Block(nn.Module):
    """A router beside its experts; `calls` keeps the ids that the experts were called with."""

    def __init__(self, width, num_experts, router):
        super().__init__()
        self.gate, self.experts, self.calls = router, Experts(width, num_experts), []

    def forward(self, hidden):
        _, weights, ids = self.gate(hidden)
        self.calls.append(ids)
        return self.experts(hidden.reshape(-1, hidden.shape[-1]), ids, weights).reshape(hidden.shape)


class Layer(nn.Module):
    """A layer whose feed-forward part is `mlp`."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp = mlp

    def forward(self, hidden):
        return hidden + self.mlp(hidden)


class Decoder(nn.Module):
    """Runs the layers, and is told which tokens are padding."""

    def __init__(self, layers, width):
        super().__init__()
        self.embed, self.layers = nn.Embedding(100, width), nn.ModuleList(layers)

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None):
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class Model(nn.Module):
    """A decoder inside a model, as in transformers."""

    def __init__(self, *, num_layers=3, num_dense=1, num_experts=6, top_k=2, width=8, router=TopKRouter):
        super().__init__()
        sizes = (width, num_experts, top_k)
        sparse = [Layer(Block(width, num_experts, router(*sizes))) for _ in range(num_layers - num_dense)]
        self.decoder = Decoder([Layer(nn.Linear(width, width)) for _ in range(num_dense)] + sparse, width)

    def forward(self, input_ids=None, attention_mask=None, past_key_values=None):
        return self.decoder(input_ids, attention_mask=attention_mask, past_key_values=past_key_values)

    @property
    def blocks(self):
        return [layer.mlp for layer in self.decoder.layers if isinstance(layer.mlp, Block)]


def tokens_of(block, num_experts, real=None):
    """Return the tokens of each expert [E] in the last call of `block`, counted one by one."""
    loads = [0] * num_experts
    for row, ids in enumerate(block.calls[-1].tolist()):
        for expert in ids:
            loads[expert] += 1 if real is None else int(real[row])
    return loads
