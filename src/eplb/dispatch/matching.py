"""`local_first` in torch's own operations: sources and replicas matched in order, first the near ones."""

from __future__ import annotations

from typing import Any


def local_first(source_counts: Any, cumulative: Any, ranks: Any, nodes: Any, source_rank: int) -> Any:
    """Return the cumulative quotas of one source, [E, X]; shapes and meanings are those of `local_first_quotas`.

    Each stage widens who may send to whom: own rank, own node, all. Within it, what sources have and what replicas may
    take are two rows of intervals laid side by side, and what overlaps is sent. [R, R] says who is within reach.
    """
    import torch

    supply, demand = source_counts.long(), _demand(cumulative, ranks)
    where = ranks.long().clamp(min=0)
    own_rank = torch.eye(len(nodes), dtype=torch.bool, device=nodes.device)
    own_node = nodes[:, None] == nodes
    sent = torch.zeros_like(demand)
    for near in (own_rank, own_node, torch.ones_like(own_node)):
        flow, supply, demand = _stage(supply, demand, where, near, source_rank)
        sent = sent + flow
    return sent.cumsum(1)


def _demand(cumulative: Any, ranks: Any) -> Any:
    """Return what each replica may take, [E, X]; nothing where there is none."""
    import torch

    each = cumulative.diff(dim=1, prepend=torch.zeros_like(cumulative[:, :1]))
    return torch.where(ranks >= 0, each, 0).clamp(min=0)


def _stage(supply: Any, demand: Any, where: Any, near: Any, source_rank: int) -> tuple[Any, Any, Any]:
    """Return what the source sends to each replica, and what supply [R, E] and demand [E, X] are left."""
    import torch

    wanted = torch.zeros_like(supply).scatter_add_(0, where.T, demand.T)
    matched = torch.minimum(_sums(near, supply), _sums(near, wanted))
    begins = _sums(near.tril(-1), supply)
    used = torch.minimum((matched - begins).clamp(min=0), supply)
    beside = near[where[:, :, None], where[:, None, :]].tril(-1)
    opens = (beside * demand[:, None, :]).sum(2)
    filled = torch.minimum((matched.gather(0, where.T).T - opens).clamp(min=0), demand)
    begin = begins[source_rank][:, None]
    end = begin + supply[source_rank][:, None]
    flow = (torch.minimum(end, opens + demand) - torch.maximum(begin, opens)).clamp(min=0)
    return flow * near[source_rank][where], supply - used, demand - filled


def _sums(which: Any, values: Any) -> Any:
    """Return sums over some ranks, [R, R] x [R, E], exact in float64, as devices multiply no matrices of integers."""
    return (which.double() @ values.double()).long()
