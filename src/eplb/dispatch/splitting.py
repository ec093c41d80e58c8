"""The exact weighted split: what share of an expert's tokens each replica gets, so that the slowest rank is fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of, check_finite_nonnegative, frozen, loads_array
from eplb.dispatch.sources import source_windows
from eplb.errors import LoadsError, OptionError, PlacementError
from eplb.placement import Placement
from eplb.trace import LoadTrace

LAYERS_WORTH_A_THREAD = 8
MOST_WHOLE_TOKENS = 2.0**40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """An optimal split, with the ranks that prove it. Axis T is there if the loads have it.

    Parameters
    ----------
    weights : array [T, L, P]
        Share of its expert's tokens that each slot gets; those of an expert sum to 1. 0 on failed ranks.
    tokens : array of int [T, L, P], or None
        The tokens themselves, if they were to stay whole.
    largest_loads : array [T, L]
        The largest rank load: tokens and fixed costs, divided by the rank's speed. No split has less.
    tight_ranks : array of bool [T, L, R]
        The proof, a set X of ranks: tokens of experts that are held in X alone, and the fixed costs of X, divided by
        the total speed of X, are the largest load. (With whole tokens: at any less, X has no room for them.)
    leaving_tokens : array [T, L], or None
        The tokens that leave their node, if their sources are given. No split with these largest loads has fewer.
    """

    weights: NDArray[np.float64]
    tokens: NDArray[np.int64] | None
    largest_loads: NDArray[np.float64]
    tight_ranks: NDArray[np.bool_]
    leaving_tokens: NDArray[np.float64] | None = None


def split(
    placement: Placement,
    loads: ArrayLike | Sequence[Any] | LoadTrace,
    *,
    fixed_costs: ArrayLike | None = None,
    source_loads: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the weights of the replicas that make the largest rank load as small as it can be on this placement.

    Parameters
    ----------
    placement : Placement
        L layers, E experts, P slots, R ranks; speeds of ranks and failed ranks count.
    loads : array_like [L, E] or [T, L, E], or LoadTrace
        Tokens routed to each expert, finite, >= 0; each window is split on its own.
    fixed_costs : array_like [R], [L, R] or [T, L, R], optional
        What each rank has to do besides, in tokens, finite, >= 0. Default: nothing.
    source_loads : array_like [L, N, E] or [T, L, N, E], optional
        The tokens by the node that they come from; `loads` is their sum. Among the optimal splits, that one is returned
        for which fewest tokens leave their node, where the tokens of a node use its own replicas first.

    Returns
    -------
    array [L, P] or [T, L, P]
        The share of its expert's tokens that each slot gets, in float64; the shares of an expert sum to 1.

    Raises
    ------
    LoadsError
        If loads or costs do not fit the placement, hold NaN, infinite or negative entries, or sum up beyond float64.
    PlacementError
        If `placement` is none.

    Notes
    -----
    Exact, by a parametric flow in O(waves (P + R)) for a layer, mostly under ten waves; see `Split` and
    `eplb.dispatch.solve_split` for its proof. Where several splits are optimal: experts are taken in order, each is
    shared out in proportion to the room that its ranks (ascending) have left, and only what is then above the optimum
    moves on. Slots of one expert on one rank get the same. An expert without tokens is shared evenly. With sources, a
    flow of least cost then places the tokens anew, in some ten times as long; see `eplb.kernels.split.ways`.

    Examples
    --------
    >>> from eplb import Placement, Topology, split
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> split(placement, [[4, 1, 3]]).tolist()
    [[0.75, 1.0, 1.0, 0.25]]
    """
    return solve_split(placement, loads, fixed_costs=fixed_costs, source_loads=source_loads).weights


def solve_split(
    placement: Placement,
    loads: ArrayLike | Sequence[Any] | LoadTrace,
    *,
    layer: int | None = None,
    fixed_costs: ArrayLike | None = None,
    source_loads: ArrayLike | None = None,
    whole_tokens: bool = False,
) -> Split:
    """Return the split of `eplb.split` with its largest rank loads, and the ranks that prove that no other has less.

    Parameters
    ----------
    placement, loads, fixed_costs, source_loads
        As in `eplb.split`.
    layer : int, optional
        Split this layer of the placement alone: then L is 1 in all arrays.
    whole_tokens : bool, default False
        Keep tokens whole: the largest load is the least that whole tokens allow. `loads` must be integers, up to 2**40
        in a layer.

    Raises
    ------
    LoadsError, PlacementError
        As `eplb.split`; and if tokens are to stay whole and are not.
    OptionError
        If there is no such layer.

    Examples
    --------
    >>> from eplb import Placement, Topology
    >>> placement = Placement(physical_to_logical=[[0, 1, 2, 0]], topology=Topology(num_ranks=2, slots_per_rank=2))
    >>> found = solve_split(placement, [[4, 1, 4]], whole_tokens=True)
    >>> found.tokens.tolist(), found.largest_loads.tolist(), found.tight_ranks.tolist()
    ([[4, 1, 4, 0]], [5.0], [[True, True]])
    """
    slots = _slots_of(placement, layer)
    array = loads.loads if isinstance(loads, LoadTrace) else loads_array(loads)
    windows = _windows(array, len(slots), placement.num_experts, whole_tokens)
    fixed = _fixed(fixed_costs, (*windows.shape[:2], placement.topology.num_ranks))
    _check_sums(windows, fixed)
    sources = None
    if source_loads is not None:
        nodes = placement.topology.node_count
        sources = source_windows(source_loads, windows, nodes, has_windows=array.ndim == 3, whole=whole_tokens)
    found = _solve(placement, slots, windows, fixed, sources, whole_tokens)
    if not np.isfinite(found.largest_loads).all():
        raise LoadsError("loads: the largest rank load, a sum over a speed, is beyond the range of float64; scale them")
    return found if array.ndim == 3 else _first_window(found)


def _slots_of(placement: Placement, layer: int | None) -> NDArray[np.int32]:
    if not isinstance(placement, Placement):
        raise PlacementError(f"placement: expected an eplb.Placement, got {type(placement).__name__}")
    if layer is None:
        return placement.physical_to_logical
    whole = isinstance(layer, (int, np.integer)) and not isinstance(layer, bool)
    if not whole or not 0 <= layer < placement.num_layers:
        raise OptionError(f"layer: expected an integer of 0 to {placement.num_layers - 1}, got {layer!r}")
    return placement.physical_to_logical[layer : layer + 1]


def _windows(array: NDArray[Any], num_layers: int, num_experts: int, whole: bool) -> NDArray[np.float64]:
    """Return loads [T, L, E] in float64, writable, as numba would compile anew for read-only ones."""
    if array.shape[-2:] != (num_layers, num_experts):
        raise LoadsError(f"loads: expected [..., {num_layers} layers, {num_experts} experts], got {array.shape}")
    windows = np.require(array if array.ndim == 3 else array[None], np.float64, ["C", "A", "W"])
    if not windows.min() >= 0 or not windows.max() < np.inf:
        check_finite_nonnegative(array)
    if whole and ((windows != np.floor(windows)).any() or windows.sum(axis=2).max() > MOST_WHOLE_TOKENS):
        raise LoadsError("loads: expected whole tokens, up to 2**40 in a layer; without whole_tokens any loads will do")
    return windows


def _fixed(costs: ArrayLike | None, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return fixed costs [T or 1, L or 1, R]."""
    if costs is None:
        return np.zeros((1, 1, shape[2]))
    wanted = (
        f"fixed_costs: expected [{shape[2]} ranks], [{shape[1]} layers, ranks] or [{shape[0]} windows, layers, ranks]"
    )
    array = array_of(costs, wanted, LoadsError)
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2, 3) or array.shape != shape[3 - array.ndim :]:
        raise LoadsError(f"{wanted}, got shape {array.shape} of dtype {array.dtype}")
    check_finite_nonnegative(array, "fixed_costs")
    return np.array(array, dtype=np.float64, order="C", ndmin=3)


def _check_sums(windows: NDArray[np.float64], fixed: NDArray[np.float64]) -> None:
    with np.errstate(over="ignore"):
        if not np.isfinite(windows.sum(axis=2) + fixed.sum(axis=2)).all():
            raise LoadsError("loads: the sum of a layer is beyond the range of float64; scale them down")


def _solve(
    placement: Placement,
    slots: NDArray[np.int32],
    windows: NDArray[np.float64],
    fixed: NDArray[np.float64],
    sources: NDArray[np.float64] | None,
    whole: bool,
) -> Split:
    from eplb.kernels.split.layers import split_layers
    from eplb.kernels.split.locality import localise_layers
    from eplb.kernels.threads import over_layers

    topology = placement.topology
    num_windows, num_layers, _ = windows.shape
    usable: Any = slice(None)
    ranks: Any = slice(None)
    if topology.failed_ranks:
        usable, ranks = topology.alive[topology.rank_of_slot], topology.alive
        fixed = np.ascontiguousarray(fixed[:, :, ranks])
    items, speeds = np.array(slots[:, usable], dtype=np.int64, order="C"), topology.speeds[ranks].copy()
    offsets = np.concatenate([[0], topology.slot_counts[ranks].cumsum()])
    shares = np.empty((num_windows, *items.shape))
    levels, tight = (
        np.empty((num_windows, num_layers)),
        np.empty((num_windows, num_layers, speeds.size), dtype=np.bool_),
    )
    args = (windows, fixed, speeds, offsets, items, whole, shares, levels, tight)
    over_layers(split_layers, num_layers, args, min_layers=LAYERS_WORTH_A_THREAD)
    leaving = None
    if sources is not None:
        leaving = np.empty((num_windows, num_layers))
        local = (*args[:6], topology.node_of_rank[ranks].copy(), sources, shares, leaving)
        over_layers(localise_layers, num_layers, local, min_layers=LAYERS_WORTH_A_THREAD)
        frozen(leaving)
    tokens = None
    if topology.failed_ranks:
        shares, tight = _widened(shares, usable), _widened(tight, ranks)
    if whole:
        tokens = shares.astype(np.int64)
        shares = _weights_of(shares, windows, slots, placement)
        frozen(tokens)
    return Split(
        weights=frozen(shares),
        tokens=tokens,
        largest_loads=frozen(levels),
        tight_ranks=frozen(tight),
        leaving_tokens=leaving,
    )


def _widened(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """Return `values` [T, L, n] at those of the last axis that are used, 0 at others."""
    wide = np.zeros((*values.shape[:2], where.size), dtype=values.dtype)
    wide[:, :, where] = values
    return wide


def _weights_of(
    tokens: NDArray[np.float64], windows: NDArray[np.float64], slots: NDArray[np.int32], placement: Placement
) -> NDArray[np.float64]:
    """Return whole `tokens` [T, L, P] as shares of their expert's; alike where it has none."""
    counts = np.array([np.bincount(row[row >= 0], minlength=placement.num_experts) for row in slots])
    layers = np.arange(len(slots))[:, None]
    of_expert = windows[:, layers, slots]
    alike = np.where(slots >= 0, 1.0 / counts[layers, slots], 0.0)
    return np.where(of_expert > 0, tokens / np.where(of_expert > 0, of_expert, 1.0), alike)


def _first_window(found: Split) -> Split:
    tokens = None if found.tokens is None else found.tokens[0]
    return Split(
        weights=found.weights[0],
        tokens=tokens,
        largest_loads=found.largest_loads[0],
        tight_ranks=found.tight_ranks[0],
        leaving_tokens=None if found.leaving_tokens is None else found.leaving_tokens[0],
    )
