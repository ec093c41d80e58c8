"""`plan`: the one verb on top of the planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import check_finite_nonnegative, loads_array
from eplb.certificate import Certificate, PerLayer
from eplb.errors import LoadsError, OptionError
from eplb.placement import Placement
from eplb.planning.effort import Effort, effort_named
from eplb.planning.machine import Machine, machine_for
from eplb.topology import Topology
from eplb.trace import LoadTrace

SLOTS_WORTH_A_THREAD = 3_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """A placement and the proof of its quality.

    Parameters
    ----------
    placement : Placement
        Which expert each slot holds.
    certificate : Certificate
        Largest rank load on the planned loads, and the proven lower bound.
    moves : int
        Moves from the previous placement; 0 without one.
    """

    placement: Placement
    certificate: Certificate
    moves: int = 0


def plan(
    loads: ArrayLike | Sequence[Any] | LoadTrace,
    topology: Topology,
    groups: int = 1,
    previous: Placement | None = None,
    max_moves: int | None = None,
    split: str = "even",
    effort: str = "balanced",
    seed: int = 0,
) -> Plan:
    """Return a placement of replicas that makes the largest rank load small, with a certificate.

    Parameters
    ----------
    loads : array_like [L, E] or [T, L, E], or LoadTrace
        Tokens routed to each expert, finite, >= 0, computed in float64. Windows are planned by their mean. A layer of
        zeros is planned as if all loads were equal.
    topology : Topology
        Ranks, nodes and slots; nothing has to divide anything.
    groups : int, default 1
        Expert groups of equal size (experts 0 .. E/groups-1 first); each is kept on one node. 1: no groups.
    previous, max_moves
        Not built yet.
    split : {"even"}
        How tokens are shared by the replicas of an expert.
    effort : {"fast", "balanced", "thorough"}
        Bounds on iterations. "fast": counts and packing. "balanced": refined until 0.02% from the bound, or the steps
        are used up. "thorough": until 0.001% from the bound, with some hundred times the steps.
    seed : int, default 0
        Seed of the disturbances that follow when a gap is left. Same input, same seed: the same plan, bit for bit.

    Returns
    -------
    Plan
        ``.placement``, ``.certificate``, ``.moves``.

    Raises
    ------
    LoadsError, InfeasibleError, OptionError
        If the loads cannot be planned, no sound plan exists, or an option is out of range.

    Notes
    -----
    A layer takes O(P log E) for highest averages (Jefferson, D'Hondt) and O(P log R) for packing (longest processing
    time first, Graham, doi:10.1137/0117039); refinement swaps and re-grants slots of the slowest rank.

    Examples
    --------
    >>> from eplb import Topology, plan
    >>> result = plan([[90, 132, 40, 61, 104, 165, 39, 4]], Topology(num_ranks=4, slots_per_rank=3))
    >>> result.placement.replica_counts.tolist()
    [[1, 1, 2, 1, 2, 2, 2, 1]]
    >>> round(result.certificate.balancedness, 3)
    0.974
    """
    if previous is not None or max_moves is not None:
        raise NotImplementedError("previous and max_moves are not built yet; plan without them")
    if split not in ("even", "weighted"):
        raise OptionError(f"split: expected 'even' or 'weighted', got {split!r}")
    if split == "weighted":
        raise NotImplementedError("split='weighted' is not built yet; use split='even'")
    bounds = effort_named(effort)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise OptionError(f"seed: expected an integer of 0 to 2**64 - 1, got {seed!r}")
    if not isinstance(topology, Topology):
        raise OptionError(f"topology: expected an eplb.Topology, got {type(topology).__name__}")
    layer_ids = loads.layer_ids if isinstance(loads, LoadTrace) else None
    matrix = _one_window(loads)
    placement, certificate = _plan_layers(matrix, topology, groups, bounds, int(seed), layer_ids)
    return Plan(placement=placement, certificate=certificate)


def _one_window(loads: ArrayLike | Sequence[Any] | LoadTrace) -> NDArray[np.float64]:
    """Return loads [L, E] in float64: those given, or the mean of the windows given."""
    array = loads.loads if isinstance(loads, LoadTrace) else loads_array(loads)
    summed = array.ndim == 3
    if summed:
        check_finite_nonnegative(array)
        total = np.zeros(array.shape[1:])
        with np.errstate(over="ignore"):
            for window in array:  # one after another: the order of a sum decides its last bit
                total += window
        array = total / len(array)
    matrix = np.require(array, np.float64, ["C", "A", "W"])  # numba would compile anew for any other kind
    with np.errstate(over="ignore", invalid="ignore"):
        sound = matrix.min() >= 0 and matrix.sum() < np.inf
    if not sound:
        if not summed:
            check_finite_nonnegative(matrix)
        raise LoadsError("loads: their sum is beyond the range of float64; scale them down")
    return matrix


def _plan_layers(
    loads: NDArray[np.float64],
    topology: Topology,
    groups: int,
    effort: Effort,
    seed: int,
    layer_ids: NDArray[np.int64] | None,
) -> tuple[Placement, Certificate]:
    from eplb.kernels.layers import plan_layers
    from eplb.kernels.threads import over_layers

    num_layers, num_experts = loads.shape
    machine = machine_for(topology, num_experts, groups)
    choices = _choices(loads, machine, groups, effort)
    slots = np.full((num_layers, topology.num_slots), -1, dtype=np.int32)
    counts = np.empty((num_layers, num_experts), dtype=np.int32)
    stats = np.empty((num_layers, 3))
    work = np.array([effort.max_steps, effort.max_recounts, effort.max_restarts], dtype=np.int64)
    worth = SLOTS_WORTH_A_THREAD if effort.max_steps == 0 else SLOTS_WORTH_A_THREAD // 10
    over_layers(
        plan_layers,
        num_layers,
        (loads, *machine.ranks_by_node, *choices, effort.tolerance, work, np.uint64(seed), slots, counts, stats),
        min_layers=max(1, worth // topology.num_slots),
    )
    with np.errstate(over="ignore"):
        if not np.isfinite(stats.sum(axis=0)).all():
            raise LoadsError("loads: a rank's load divided by its speed is beyond float64; scale the loads down")
    mean, largest, bound = (np.ascontiguousarray(column) for column in stats.T)
    certificate = Certificate(per_layer=PerLayer(mean_load=mean, largest_load=largest, lower_bound=bound))
    return Placement.from_planner(slots, topology, counts, layer_ids), certificate


def _choices(
    loads: NDArray[np.float64], machine: Machine, groups: int, effort: Effort
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return choices of a node for each group, [L, K, G], their bounds [L, K], and a bound for all choices, [L]."""
    num_layers, num_experts = loads.shape
    if machine.num_nodes == 1:
        return np.zeros((num_layers, 1, 1), dtype=np.int64), np.zeros((num_layers, 1)), np.zeros(num_layers)
    from eplb.kernels.groups import spread_layers
    from eplb.kernels.threads import over_layers

    choices = np.zeros((num_layers, effort.max_choices, groups), dtype=np.int64)
    bounds, floors = np.empty((num_layers, effort.max_choices)), np.empty(num_layers)
    args = (loads, num_experts // groups, machine.nodes, effort.max_visits, choices, bounds, floors)
    over_layers(spread_layers, num_layers, args)
    return choices, bounds, floors
