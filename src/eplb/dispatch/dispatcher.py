"""`Dispatcher`: from the experts that a router chose to the slots that compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.dispatch import checking, routing
from eplb.dispatch.local_first import local_first_quotas
from eplb.dispatch.modes import EVEN, LOCAL_FIRST, check_counts_fit, checked_source
from eplb.dispatch.operators import operators
from eplb.dispatch.quotas import remainders, source_quotas, weighted_quotas
from eplb.dispatch.tables import LayerTables, Tables, check_width
from eplb.errors import DispatchError, OptionError, PlacementError
from eplb.placement import Placement


class Dispatcher:
    """Choose a replica for every routed token.

    Parameters
    ----------
    placement : Placement
        L layers, E experts, P slots, R ranks.
    weights : array_like [L, P], optional
        Share of its expert's tokens that each slot is to get, as `eplb.split` returns them. Default: all alike.
    mode : {"weighted", "even", "local-first"}, default "weighted"
        "weighted" hands out whole tokens by quotas, so that no replica gets a token more or less than its share of the
        batch; "even" takes a hash of the token's number, as vLLM does; "local-first" keeps the quotas and lets tokens
        stay on their rank, or else their node, as far as that goes.
    rank_invariant : bool, default True
        All ranks that are given the same ids choose the same replicas, as back ends with an all-gather need. False lets
        every rank choose for its own tokens, which needs an all-to-all.
    source_rank : int, optional
        The rank that chooses; wanted if `rank_invariant` is False, unless the mode is "even".
    checked : bool, default True
        Look at every id before. For ids on a GPU that waits for the device; pass False to capture or compile.
    max_replicas : int, optional
        Width X of the tables, so that a later `update` fits. Default: the most replicas of any expert now.

    Raises
    ------
    OptionError
        If options exclude each other, or weights do not fit the placement.
    PlacementError
        If `placement` is none, or lacks an expert.

    Examples
    --------
    Expert 0 has slots 0 and 3, of which slot 0 is to get three quarters:

    >>> import numpy as np
    >>> from eplb import Placement, Topology
    >>> from eplb.dispatch import Dispatcher
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> dispatcher = Dispatcher(placement, weights=[[0.75, 1, 1, 0.25]])
    >>> dispatcher(np.array([[0, 1], [0, 2], [2, 0], [0, -1]]), layer=0).tolist()
    [[0, 1], [0, 2], [2, 0], [3, -1]]
    """

    __slots__ = ("_checked", "_mode", "_rank_invariant", "_shape", "_source", "_tables")

    def __init__(
        self,
        placement: Placement,
        weights: ArrayLike | None = None,
        mode: str = "weighted",
        *,
        rank_invariant: bool = True,
        source_rank: int | None = None,
        checked: bool = True,
        max_replicas: int | None = None,
    ) -> None:
        if not isinstance(placement, Placement):
            raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
        num_ranks = placement.topology.num_ranks
        self._source = checked_source(mode, weights is not None, rank_invariant, source_rank, num_ranks)
        self._tables = Tables(placement, weights, max_replicas)
        self._shape = (placement.num_layers, placement.num_experts, num_ranks)
        self._mode, self._rank_invariant, self._checked = mode, rank_invariant, checked

    def __call__(self, topk_ids: Any, layer: int, step: Any = 0, source_counts: Any = None) -> Any:
        """Return the slots that compute the tokens.

        Parameters
        ----------
        topk_ids : array or tensor of int32 or int64 [T, k]
            The experts of each token, all different, 0 to E - 1; -1 is padding.
        layer : int
            Which layer of the placement, 0 to L - 1 (its place, not its id).
        step : int or tensor of one int64, default 0
            Number of the forward step: it turns over who gets the tokens that are left over. Mode "even" ignores it.
        source_counts : array or tensor of int [R, E], optional
            Tokens of each expert from every rank, in order of the ranks, as an all-gather leaves them. With it a
            replica gets its share of the whole group's tokens, to less than a token. Mode "local-first" needs it.

        Returns
        -------
        array or tensor [T, k]
            Slots 0 to P - 1 of the same kind, dtype and device, all different in a token; -1 for padding.

        Raises
        ------
        DispatchError
            If ids are out of range or twice in a token, or counts are not those of the ids (with `checked` only).
        OptionError
            If layer or step are out of range, or the counts don't go with the mode.
        """
        check_counts_fit(self._mode, self._rank_invariant, source_counts)
        if self._checked:
            layer, step = self._checked_call(topk_ids, layer, step, source_counts)
        if isinstance(topk_ids, np.ndarray):
            return self._on_array(topk_ids, layer, step, source_counts)
        if self._checked and topk_ids.is_cpu:
            return self._on_cpu(topk_ids, layer, step, source_counts)
        if self._checked:
            self._check_values(_on_host(topk_ids), _on_host(source_counts))
        return self._on_tensor(topk_ids, layer, step, source_counts)

    def tables(self, layer: int, device: Any = None) -> LayerTables:
        """Return the tables of a layer: numpy arrays, or tensors on a torch device, which are made there if need be.

        Call it once before a CUDA graph is captured: making tensors waits for the device.
        """
        layer = checking.checked_index(layer, self._shape[0], "layer")
        if device is None:
            return self._tables.arrays(layer)
        import torch

        operators()
        return self._tables.tensors(layer, torch.empty(0, device=device).device)

    def update(self, placement: Placement, weights: ArrayLike | None = None) -> None:
        """Go on with another placement: the tables change in place, so that captured graphs and compiled code see it.

        Raises
        ------
        OptionError
            If an expert has more than `max_replicas`, or weights do not fit the placement or the mode.
        PlacementError
            If layers, experts or ranks are not as many as before.
        """
        self._check_update(placement, weights)
        self._tables.update(placement, weights)

    def update_layer(self, layer: int, placement: Placement, weights: ArrayLike | None = None) -> None:
        """Go on with one layer of another placement, in place; a migration does this with every commit.

        Parameters
        ----------
        layer : int
            Its place, 0 to L - 1.
        placement : Placement
            Of all layers; only this one is looked at.
        weights : array_like [P], optional
            Shares of this layer's slots. Default: the replicas of an expert are alike.

        Raises
        ------
        OptionError
            If an expert has more than `max_replicas`, or weights do not fit the placement or the mode.
        PlacementError
            If layers, experts or ranks are not as many as before.
        """
        self._check_update(placement, weights)
        self._tables.update_layer(checking.checked_index(layer, self._shape[0], "layer"), placement, weights)

    def check_fits(self, placement: Placement, max_replicas: int) -> None:
        """Raise what an update with such a placement would, with up to `max_replicas` of an expert.

        Raises
        ------
        OptionError
            If there is no room for so many replicas.
        PlacementError
            If layers, experts or ranks are not as many as here.
        """
        self._check_update(placement, None)
        self._tables.check_shape(placement)
        check_width(self._tables.max_replicas, max_replicas)

    def _check_update(self, placement: Any, weights: ArrayLike | None) -> None:
        if not isinstance(placement, Placement):
            raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
        if self._mode == EVEN and weights is not None:
            raise OptionError('weights: mode "even" looks at none')

    def _checked_call(self, topk_ids: Any, layer: Any, step: Any, source_counts: Any) -> tuple[int, Any]:
        num_layers, num_experts, num_ranks = self._shape
        checking.check_form(topk_ids)
        if source_counts is not None:
            exactly = num_ranks if self._mode == LOCAL_FIRST else None
            checking.check_source_counts(source_counts, topk_ids, num_experts, exactly, self._source + 1)
        return checking.checked_index(layer, num_layers, "layer"), checking.checked_step(step, topk_ids)

    def _check_values(self, ids: NDArray[Any], source_counts: NDArray[Any] | None) -> None:
        counts, sound = routing.count(ids, self._shape[1])
        if not sound:
            raise DispatchError(checking.complaint(ids, self._shape[1]))
        if source_counts is not None:
            checking.check_source_values(source_counts, counts, self._source)

    def _on_array(self, ids: NDArray[Any], layer: int, step: int, source_counts: Any) -> NDArray[Any]:
        tables, checked = self._tables.arrays(layer), self._checked
        if self._mode == EVEN:
            slots, sound = routing.even(ids, tables.replicas, tables.counts, checked)
        elif source_counts is None:
            added = remainders(self._shape[1], step, self._source)
            slots, sound = routing.weighted(ids, tables.replicas, tables.shares, added, checked)
        else:
            if checked:
                self._check_values(ids, source_counts)
            slots, sound = routing.quotas(ids, tables.replicas, self._quotas(tables, source_counts, step))
        if not sound:
            raise DispatchError(checking.complaint(ids, self._shape[1]))
        return slots

    def _on_cpu(self, topk_ids: Any, layer: int, step: Any, source_counts: Any) -> Any:
        import torch

        return torch.from_numpy(self._on_array(_on_host(topk_ids), layer, int(step), _on_host(source_counts)))

    def _on_tensor(self, topk_ids: Any, layer: int, step: Any, source_counts: Any) -> Any:
        tables = self._tables.tensors(layer, topk_ids.device)
        if self._mode == EVEN:
            return operators().dispatch_even(topk_ids, tables.replicas, tables.counts)
        if source_counts is not None:
            quotas = self._quotas(tables, source_counts, step)
            return operators().dispatch_quotas(topk_ids, tables.replicas, quotas)
        if isinstance(step, (int, np.integer)):
            step = tables.shares.new_full((1,), step)
        return operators().dispatch_weighted(topk_ids, tables.replicas, tables.shares, step, self._source)

    def _quotas(self, tables: LayerTables, source_counts: Any, step: Any) -> Any:
        group = weighted_quotas(source_counts.sum(0), tables.shares, step)
        if self._mode == LOCAL_FIRST:
            return local_first_quotas(source_counts, group, tables.ranks, tables.nodes, self._source)
        before = source_counts[: self._source].sum(0)
        own = source_counts[self._source : self._source + 1].sum(0)
        return source_quotas(own, before, group)


def _on_host(tensor: Any) -> Any:
    return None if tensor is None else tensor.detach().cpu().numpy()
