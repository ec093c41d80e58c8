"""`plan`: the one verb on top of the planner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import check_finite_nonnegative, frozen, loads_array, nonnegative
from eplb.certificate import Certificate
from eplb.errors import LoadsError, OptionError
from eplb.forecasting import Forecaster, forecaster_named
from eplb.placement import Placement
from eplb.planning.carrying import check_previous
from eplb.planning.effort import effort_named
from eplb.planning.expected import plan_expected
from eplb.planning.known import plan_known
from eplb.planning.moving import Moving
from eplb.planning.outlook import ASSUMED, outlook_of
from eplb.topology import Topology
from eplb.trace import LoadTrace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """A placement and the proof of its quality.

    Parameters
    ----------
    placement : Placement
        Which expert each slot holds.
    certificate : Certificate
        Largest rank load on the planned loads, and the proven lower bound. With several windows, the weighted mean of
        the largest rank load over the scenarios that were planned for.
    moves : int
        Moves from the previous placement; 0 without one.
    restored : array [M, 2]
        Layer id and expert of each that had lost all its replicas in the previous placement.
    largest_load_before : float or None
        What ``certificate.largest_load`` would be if the previous placement stayed (with `restored` in place).
    """

    placement: Placement
    certificate: Certificate
    moves: int = 0
    restored: NDArray[np.int64] = field(default_factory=lambda: frozen(np.zeros((0, 2), dtype=np.int64)))
    largest_load_before: float | None = None


def plan(
    loads: ArrayLike | Sequence[Any] | LoadTrace,
    topology: Topology,
    groups: int = 1,
    previous: Placement | None = None,
    max_moves: int | None = None,
    split: str = "even",
    effort: str = "balanced",
    seed: int = 0,
    *,
    max_moves_per_rank: int | None = None,
    move_cost: float | None = None,
    horizon: float = 1.0,
    cost_per_activated_slot: float = 0.0,
    forecast: str | Forecaster = "auto",
    recency: float = 0.9,
) -> Plan:
    """Return a placement of replicas that makes the largest rank load small, with a certificate.

    Parameters
    ----------
    loads : array_like [L, E] or [T, L, E], or LoadTrace
        Tokens routed to each expert, finite, >= 0, computed in float64. One window is planned as it is. Of several,
        oldest first, the expected largest rank load is made small: over the windows themselves, and over what the next
        one may bring. A layer of zeros is planned as if all loads were equal.
    topology : Topology
        Ranks, nodes and slots; nothing has to divide anything.
    groups : int, default 1
        Expert groups of equal size (experts 0 .. E/groups-1 first); each is kept on one node. 1: no groups.
    previous : Placement, optional
        The placement in force, of the same layers and experts. Only moves that pay are made. It may be on another
        topology (ranks keep their ids): experts that lost all their replicas are placed first, see `Plan.restored`.
    max_moves : int, optional
        Most moves over all layers, with `previous`. None: no limit.
    split : {"even", "weighted"}, default "even"
        How tokens are shared by the replicas of an expert: all alike; or as `eplb.split` does on the loads of the
        moment. A placement made for that split hardly has to change: the split absorbs the drift.
    effort : {"fast", "balanced", "thorough"}
        Bounds on iterations. "fast": counts and packing. "balanced": refined until 0.02% from the bound, or the steps
        are used up. "thorough": until 0.001% from the bound, with some hundred times the steps.
    seed : int, default 0
        Seed of the disturbances that follow when a gap is left. Same input, same seed: the same plan, bit for bit.
    max_moves_per_rank : int, optional
        Most experts that one rank receives over all layers, with `previous`: the busiest rank sets the stall.
    move_cost : float, optional
        Tokens of largest rank load that a move must save over the `horizon`. Default: 0.1% of the mean rank load of
        its layer; and a layer that gains less than 20% / T of it in all (2% with one window) stays as it is, since that
        may be noise.
    horizon : float, default 1
        Windows that the plan is expected to stay in force, above 0: how far ahead it is planned, and how long a move
        has to pay.
    cost_per_activated_slot : float, default 0
        Tokens that a slot costs in every window in which its expert gets any: decoding that is bound by memory reads
        the weights of each activated expert (METRO, arXiv:2512.09277).
    forecast : {"auto", "last", "mean", "exponential", "drift"} or Forecaster, default "auto"
        What is expected of the next window; see `eplb.forecasting`. Only with several windows.
    recency : float, default 0.9
        Weight of a window relative to the one after it, above 0 and up to 1 (all alike).

    Returns
    -------
    Plan
        ``.placement``, ``.certificate``, ``.moves``, ``.restored``, ``.largest_load_before``.

    Raises
    ------
    LoadsError, InfeasibleError, OptionError, PlacementError
        If the loads cannot be planned, no sound plan exists, an option is out of range, or `previous` is of another
        model.

    Notes
    -----
    A layer takes O(P log E) for highest averages (Jefferson, D'Hondt) and O(P log R) for packing (longest processing
    time first, Graham, doi:10.1137/0117039); refinement swaps and re-grants slots of the slowest rank. With T windows a
    step of the search takes O(K P + T R) for K ranks that are slowest in some scenario; see docs/next-window.md.

    Examples
    --------
    >>> from eplb import Topology, plan
    >>> topology = Topology(num_ranks=4, slots_per_rank=3)
    >>> result = plan([[90, 132, 40, 61, 104, 165, 39, 4]], topology)
    >>> result.placement.replica_counts.tolist()
    [[1, 1, 2, 1, 2, 2, 2, 1]]
    >>> round(result.certificate.balancedness, 3)
    0.974
    >>> later = plan([[165, 132, 40, 61, 104, 90, 39, 4]], topology, previous=result.placement, max_moves=4)
    >>> later.moves, round(later.largest_load_before), round(later.certificate.largest_load)
    (1, 236, 163)
    """
    if not isinstance(split, str) or split not in ("even", "weighted"):
        raise OptionError(f"split: expected 'even' or 'weighted', got {split!r}")
    bounds = effort_named(effort)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise OptionError(f"seed: expected an integer of 0 to 2**64 - 1, got {seed!r}")
    if not isinstance(topology, Topology):
        raise OptionError(f"topology: expected an eplb.Topology, got {type(topology).__name__}")
    moving = Moving(max_moves=max_moves, max_moves_per_rank=max_moves_per_rank, move_cost=move_cost, horizon=horizon)
    if previous is None and moving.limited:
        raise OptionError("max_moves, max_moves_per_rank: expected a previous placement to move from, got none")
    activation = nonnegative(cost_per_activated_slot, "cost_per_activated_slot")
    if not 0 < nonnegative(recency, "recency") <= 1:
        raise OptionError(f"recency: expected a number above 0 and up to 1, got {recency!r}")
    forecaster = forecaster_named(forecast) if isinstance(forecast, str) else forecast
    layer_ids = loads.layer_ids if isinstance(loads, LoadTrace) else None
    windows = _windows(loads)
    if previous is not None:
        check_previous(previous, windows.shape[1], windows.shape[2], layer_ids)
        layer_ids = previous.layer_ids
    if len(windows) == 1 and previous is None and activation == 0 and split == "even":
        placement, certificate = plan_known(windows[0], topology, groups, bounds, int(seed), layer_ids)
        return Plan(placement=placement, certificate=certificate)
    assumptions = replace(ASSUMED[split], recency=float(recency))
    outlook = outlook_of(windows, forecaster, assumptions, activation, math.ceil(horizon))
    expected = plan_expected(outlook, topology, groups, previous, moving, bounds, int(seed), layer_ids, split=split)
    restored = expected.restored
    restored[:, 0] = expected.placement.layer_ids[restored[:, 0]]
    return Plan(
        placement=expected.placement,
        certificate=expected.certificate,
        moves=expected.moves,
        restored=frozen(restored),
        largest_load_before=expected.largest_load_before,
    )


def _windows(loads: ArrayLike | Sequence[Any] | LoadTrace) -> NDArray[np.float64]:
    """Return loads [T, L, E] in float64, writable, after checking that they can be summed."""
    array = loads.loads if isinstance(loads, LoadTrace) else loads_array(loads)
    windows = np.require(array if array.ndim == 3 else array[None], np.float64, ["C", "A", "W"])
    with np.errstate(over="ignore", invalid="ignore"):  # numba would compile anew for any other kind of array
        sound = windows.min() >= 0 and windows.sum() < np.inf
    if not sound:
        check_finite_nonnegative(array)
        raise LoadsError("loads: their sum is beyond the range of float64; scale them down")
    return windows
