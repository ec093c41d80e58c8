"""Replica choice in torch's own operations, for devices that the kernels do not run on.

Shapes depend on shapes alone, and nothing waits for the device: a CUDA graph can hold all of it.

T tokens with k ids each, M = T * k places in a row, E experts with up to X replicas each.
"""

from __future__ import annotations

from typing import Any

from eplb.dispatch.quotas import weighted_quotas

KNUTH = 2654435769
"""2**32 times the golden ratio; vLLM hashes the number of a token with it."""


def even(topk_ids: Any, replicas: Any, counts: Any) -> Any:
    """Return for each token the replicas that its hash names, [T, k]; -1 where the id is no expert."""
    import torch

    num_tokens, width = topk_ids.shape
    experts, known = _experts(topk_ids, len(replicas))
    hashed = torch.arange(num_tokens, device=topk_ids.device) * KNUTH & 0xFFFFFFFF
    chosen = hashed.repeat_interleave(width) % counts.clamp(1, replicas.shape[1])[experts]
    return _slots(replicas, experts, chosen, known, topk_ids)


def weighted(topk_ids: Any, replicas: Any, shares: Any, step: Any, source_rank: int) -> Any:
    """Return replicas by the quotas that `weighted_quotas` makes of the shares, [T, k]."""
    places, counts = _places(topk_ids, len(replicas))
    return _first_open(topk_ids, places, replicas, weighted_quotas(counts, shares, step, source_rank))


def quotas(topk_ids: Any, replicas: Any, cumulative: Any) -> Any:
    """Return for the i-th id of each expert its first replica with i < cumulative, else its last one, [T, k]."""
    places, _ = _places(topk_ids, len(replicas))
    return _first_open(topk_ids, places, replicas, cumulative)


def _experts(topk_ids: Any, num_experts: int) -> tuple[Any, Any]:
    """Return the experts [M], 0 for padding, and which are none."""
    import torch

    ids = topk_ids.reshape(-1).long()
    known = (ids >= 0) & (ids < num_experts)
    return torch.where(known, ids, 0), known


def _places(topk_ids: Any, num_experts: int) -> tuple[Any, Any]:
    """Return how many ids of the same expert come before each, [M], and how many there are of each expert, [E]."""
    import torch

    experts, known = _experts(topk_ids, num_experts)
    ordered, order = torch.where(known, experts, num_experts).sort(stable=True)
    edges = torch.searchsorted(ordered, torch.arange(num_experts + 1, device=ordered.device))
    places = torch.arange(ordered.numel(), device=ordered.device) - edges[ordered]
    return torch.empty_like(places).scatter_(0, order, places), edges.diff()


def _first_open(topk_ids: Any, places: Any, replicas: Any, cumulative: Any) -> Any:
    import torch

    experts, known = _experts(topk_ids, len(replicas))
    last = ((replicas >= 0).sum(1) - 1).clamp(min=0)
    chosen = torch.minimum((places[:, None] >= cumulative[experts]).sum(1), last[experts])
    return _slots(replicas, experts, chosen, known, topk_ids)


def _slots(replicas: Any, experts: Any, chosen: Any, known: Any, topk_ids: Any) -> Any:
    import torch

    slots = torch.where(known, replicas[experts, chosen], -1)
    return slots.to(topk_ids.dtype).view(topk_ids.shape)
