"""Replica choice as torch operators, which `torch.compile` takes as they are and a CUDA graph can hold.

They check nothing: an id that is no expert gets -1, like padding. On CPUs the compiled kernels do the work, elsewhere
torch's own operations, without waiting for the device.
"""

from __future__ import annotations

import threading
from typing import Any

from eplb.errors import MissingDependencyError

SCHEMAS = (
    "dispatch_even(Tensor topk_ids, Tensor replicas, Tensor counts) -> Tensor",
    "dispatch_weighted(Tensor topk_ids, Tensor replicas, Tensor shares, Tensor step, int source_rank) -> Tensor",
    "dispatch_quotas(Tensor topk_ids, Tensor replicas, Tensor cumulative) -> Tensor",
    "local_first_quotas(Tensor counts, Tensor group_quotas, Tensor ranks, Tensor nodes, int source_rank) -> Tensor",
)

_lock = threading.Lock()
_registered = False
_kept: list[Any] = []
"""What is registered lives as long as its library."""


def operators() -> Any:
    """Return `torch.ops.eplb`, registered on the first call.

    Returns
    -------
    namespace
        ``dispatch_even(topk_ids, replicas, counts)``, ``dispatch_weighted(topk_ids, replicas, shares, step,
        source_rank)`` and ``dispatch_quotas(topk_ids, replicas, cumulative)``: from ids [T, k], int32 or int64, to
        slots [T, k] of the same dtype. The tables are those of `Dispatcher.tables`, cumulative quotas are int64 [E, X],
        and `step` is one int64 on the same device. ``local_first_quotas(counts, group_quotas, ranks, nodes,
        source_rank)`` is the function of that name for tensors.

    Raises
    ------
    MissingDependencyError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> replicas, counts = torch.tensor([[0, 3], [1, -1]], dtype=torch.int32), torch.tensor([2, 1], dtype=torch.int32)
    >>> operators().dispatch_even(torch.tensor([[0, 1], [1, 0]]), replicas, counts)
    tensor([[0, 1],
            [1, 3]])
    """
    if not _registered:  # first, as compilers cannot look at what follows
        _register_once()
    import torch

    return torch.ops.eplb


def _register_once() -> None:
    global _registered
    try:
        import torch
    except ImportError:
        raise MissingDependencyError('PyTorch is needed for operators; pip install "eplb[torch]"') from None
    with _lock:
        if not hasattr(torch.ops.eplb, "local_first_quotas"):
            _register(torch)
        _registered = True


def _register(torch: Any) -> None:
    """Define the operators: kernels on CPUs, shapes alone for tracing, torch's operations on all other devices."""
    from eplb.dispatch import composition, matching

    library = torch.library.Library("eplb", "FRAGMENT")
    on_cpus = (_even, _weighted, _quotas, _local_first)
    composed = (composition.even, composition.weighted, composition.quotas, matching.local_first)
    traced = (_like_ids, _like_ids, _like_ids, _like_quotas)
    for schema, on_cpu, elsewhere, shape in zip(SCHEMAS, on_cpus, composed, traced, strict=True):
        name = schema.partition("(")[0]
        library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        library.impl(name, on_cpu, "CPU")
        library.impl(name, shape, "Meta")
        for key in ("CUDA", "XPU", "PrivateUse1"):
            library.impl(name, elsewhere, key)
    _kept.append(library)


def _like_ids(topk_ids: Any, *_: Any) -> Any:
    return topk_ids.new_empty(topk_ids.shape)


def _like_quotas(counts: Any, group_quotas: Any, *_: Any) -> Any:
    return group_quotas.new_empty(group_quotas.shape)


def _even(topk_ids: Any, replicas: Any, counts: Any) -> Any:
    from eplb.dispatch import routing

    return _on_arrays(routing.even, topk_ids, replicas, counts)


def _weighted(topk_ids: Any, replicas: Any, shares: Any, step: Any, source_rank: int) -> Any:
    from eplb.dispatch import routing
    from eplb.dispatch.quotas import remainders

    def route(ids: Any, replicas: Any, shares: Any) -> Any:
        return routing.weighted(ids, replicas, shares, remainders(len(replicas), int(step), source_rank))

    return _on_arrays(route, topk_ids, replicas, shares)


def _quotas(topk_ids: Any, replicas: Any, cumulative: Any) -> Any:
    from eplb.dispatch import routing

    return _on_arrays(routing.quotas, topk_ids, replicas, cumulative)


def _local_first(counts: Any, group_quotas: Any, ranks: Any, nodes: Any, source_rank: int) -> Any:
    import torch

    from eplb.dispatch.local_first import local_first_quotas

    arrays = [tensor.numpy() for tensor in (counts, group_quotas, ranks, nodes)]
    return torch.from_numpy(local_first_quotas(arrays[0], arrays[1], arrays[2], arrays[3], source_rank))


def _on_arrays(route: Any, *tensors: Any) -> Any:
    """Return what a kernel makes of tensors, which it sees as arrays, without a copy."""
    import torch

    routed, _ = route(*(tensor.contiguous().numpy() for tensor in tensors))
    return torch.from_numpy(routed)
