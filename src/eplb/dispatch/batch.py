"""Tokens routed by the exact split of the very batch that they are in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.dispatch import checking, routing
from eplb.dispatch.local_first import local_first_quotas
from eplb.dispatch.modes import LOCAL_FIRST, WEIGHTED
from eplb.dispatch.quotas import source_quotas
from eplb.dispatch.splitting import solve_split
from eplb.errors import DispatchError, InputError, OptionError, PlacementError
from eplb.placement import Placement


def dispatch_batch(
    placement: Placement, topk_ids: Any, layer: int, *, group: Any = None, mode: str = "weighted"
) -> Any:
    """Choose replicas so that the largest rank load of this batch is the least that whole tokens allow.

    Counts the tokens of each expert, over all ranks of `group`, splits them exactly, and hands out the replicas. Ranks
    exchange their counts alone: each reaches the same split on its own.

    Parameters
    ----------
    placement : Placement
        L layers, E experts, P slots; the same on all ranks of the group.
    topk_ids : array or tensor of int32 or int64 [T, k]
        The experts of the tokens of this rank, all different in a token, 0 to E - 1; -1 is padding.
    layer : int
        Which layer of the placement, 0 to L - 1.
    group : torch.distributed process group, optional
        The ranks whose tokens are balanced together, each choosing for its own, which needs an all-to-all. Default: the
        tokens are all there are (as on back ends with an all-gather, where all ranks hold all ids).
    mode : {"weighted", "local-first"}, default "weighted"
        "local-first" lets tokens stay on their rank, or else their node, as far as the split allows; the group must be
        the ranks of the placement, in order.

    Returns
    -------
    array or tensor [T, k]
        Slots 0 to P - 1 of the same kind, dtype and device, all different in a token; -1 for padding.

    Raises
    ------
    DispatchError
        If ids are out of range or twice in a token, on any rank of the group: then all its ranks raise.
    OptionError
        If there is no such layer or mode, or the group does not fit it.
    PlacementError
        If `placement` is none.

    Notes
    -----
    The split runs on the CPU: ids on a GPU are waited for, and no CUDA graph can hold this. It pays where batches
    differ much from what weights were made for; `Dispatcher` is the other way.

    Examples
    --------
    >>> import numpy as np
    >>> from eplb import Placement, Topology
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> dispatch_batch(placement, np.array([[0, 2], [0, 2], [0, 2], [1, 2]]), layer=0).tolist()
    [[0, 2], [0, 2], [0, 2], [1, 2]]
    """
    if not isinstance(placement, Placement):
        raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
    layer = checking.checked_index(layer, placement.num_layers, "layer")
    if mode not in (WEIGHTED, LOCAL_FIRST):
        raise OptionError(f"mode: expected {WEIGHTED} or {LOCAL_FIRST}, got {mode!r}")
    if mode == LOCAL_FIRST and (group is None or _size(group) != placement.topology.num_ranks):
        raise OptionError(
            f"group: mode {LOCAL_FIRST} needs a group of the {placement.topology.num_ranks} ranks of the placement"
        )
    source_counts, rank = _counts_of_all(topk_ids, placement.num_experts, group)
    tables = _group_quotas(placement, layer, source_counts.sum(axis=0))
    quotas = _own_quotas(placement, mode, source_counts, rank, *tables)
    if isinstance(topk_ids, np.ndarray):
        return routing.quotas(topk_ids, tables[0], quotas)[0]
    import torch

    slots, _ = routing.quotas(topk_ids.detach().cpu().numpy(), tables[0], quotas)
    return torch.from_numpy(slots).to(topk_ids.device)


def _counts_of_all(topk_ids: Any, num_experts: int, group: Any) -> tuple[NDArray[np.int64], int]:
    """Return the counts of all ranks, [G, E], and the place of this one; raise on all ranks what is wrong on any."""
    counts, error = _own_counts(topk_ids, num_experts)
    if group is None:
        if error is not None:
            raise error
        return counts[None], 0
    everyone = _gathered(np.append(counts, error is not None), group, topk_ids)
    if error is not None:
        raise error
    if everyone[:, -1].any():
        rank = int(np.argmax(everyone[:, -1]))
        raise DispatchError(f"topk_ids: those of rank {rank} of the group cannot be dispatched; its own error says why")
    import torch.distributed

    return everyone[:, :-1].copy(), int(torch.distributed.get_rank(group))


def _own_counts(topk_ids: Any, num_experts: int) -> tuple[NDArray[np.int64], InputError | None]:
    """Return counts [E] and what is wrong with the ids; an error must not keep this rank from the exchange."""
    try:
        checking.check_form(topk_ids)
        ids = topk_ids if isinstance(topk_ids, np.ndarray) else topk_ids.detach().cpu().numpy()
        counts, sound = routing.count(ids, num_experts)
        return counts, None if sound else DispatchError(checking.complaint(ids, num_experts))
    except InputError as exc:
        return np.zeros(num_experts, dtype=np.int64), exc


def _gathered(row: NDArray[np.int64], group: Any, topk_ids: Any) -> NDArray[np.int64]:
    """Return the rows of all ranks of the group; NCCL takes them from the GPU only."""
    size = _size(group)
    import torch.distributed

    on_gpu = torch.distributed.get_backend(group) == "nccl"
    mine = torch.from_numpy(row).to(topk_ids.device if on_gpu and hasattr(topk_ids, "is_cuda") else "cpu")
    rows = [torch.empty_like(mine) for _ in range(size)]
    torch.distributed.all_gather(rows, mine, group=group)
    return np.asarray(torch.stack(rows).cpu().numpy())


def _size(group: Any) -> int:
    """Return how many ranks a group has, of which this process is one."""
    try:
        import torch.distributed

        size = int(torch.distributed.get_world_size(group))
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as exc:
        raise OptionError(f"group: expected a torch.distributed process group, got {group!r}; {exc}") from None
    if size < 1:
        raise OptionError("group: this process is not in it")
    return size


def _group_quotas(
    placement: Placement, layer: int, totals: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the replicas, int32 [E, X], and the cumulative quotas of the exact split, [E, X]."""
    tokens = solve_split(placement, totals[None], layer=layer, whole_tokens=True).tokens
    replicas = placement.logical_to_physical[layer].copy()
    assert tokens is not None
    return replicas, np.where(replicas >= 0, tokens[0][replicas], 0).cumsum(axis=1)


def _own_quotas(
    placement: Placement,
    mode: str,
    source_counts: NDArray[np.int64],
    rank: int,
    replicas: NDArray[np.int32],
    group_quotas: NDArray[np.int64],
) -> NDArray[np.int64]:
    if mode == LOCAL_FIRST:
        topology = placement.topology
        ranks = np.where(replicas >= 0, topology.rank_of_slot[replicas], -1)
        own = local_first_quotas(source_counts, group_quotas, ranks, topology.node_of_rank, rank)
    else:
        own = source_quotas(source_counts[rank], source_counts[:rank].sum(axis=0), group_quotas)
    return np.asarray(own)
