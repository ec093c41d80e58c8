"""Planning inside a serving engine: the next placement from the one in force, whatever comes in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eplb.engines.serving_options import ServingOptions
from eplb.errors import EplbError, InfeasibleError, PlacementError
from eplb.placement import Placement
from eplb.planning import Plan, plan
from eplb.topology import Topology

Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What an engine asks for.

    Parameters
    ----------
    windows : array [T, L, E]
        Loads, oldest first.
    num_slots, num_ranks, num_nodes : int
        The machine to plan for; each rank has equally many slots.
    groups : int
        Expert groups, kept on one node each where the nodes divide them, as DeepSeek's policy does.
    held : array [L, P'] or None
        Expert in each slot now, -1 for none; the ranks keep their ids, but may be fewer or more than `num_ranks`.
    ordered : bool, default True
        Whether the windows came one after another; if not, none counts more than others.
    """

    windows: NDArray[np.float64]
    num_slots: int
    num_ranks: int
    num_nodes: int
    groups: int
    held: Slots | None
    ordered: bool = True

    @property
    def topology(self) -> Topology:
        """The machine to plan for."""
        if self.num_slots % self.num_ranks:
            raise InfeasibleError(
                f"num_slots: expected a multiple of the {self.num_ranks} ranks, got {self.num_slots} slots"
            )
        nodes = self.num_nodes if 1 <= self.num_nodes <= self.num_ranks else 1
        return Topology(num_ranks=self.num_ranks, slots_per_rank=self.num_slots // self.num_ranks, num_nodes=nodes)

    @property
    def stays(self) -> bool:
        """Whether what is held can stay: it fits the machine, and no expert lacks a replica."""
        return self.held is not None and self.held.shape[1] == self.num_slots and self.covered

    @property
    def covered(self) -> bool:
        """Whether every slot holds an expert, and every expert has a slot."""
        if self.held is None:
            return False
        experts = np.arange(self.windows.shape[2])
        return all(np.array_equal(np.unique(row), experts) for row in self.held)


class Once:
    """Says each kind of thing once in the life of a process.

    Parameters
    ----------
    logger : str
        Name of the logger; engines show loggers below their own name.
    """

    def __init__(self, logger: str) -> None:
        self.logger = logging.getLogger(logger)
        self._said: set[str] = set()

    def say(self, level: int, kind: str, message: str) -> None:
        """Log `message`, unless something of this kind was said before."""
        if kind not in self._said:
            self._said.add(kind)
            self.logger.log(level, "eplb: %s", message)


def next_slots(request: Request, options: ServingOptions, once: Once) -> Slots:
    """Return the expert of each slot, [L, P], a sound placement whatever the loads are.

    Loads that cannot be planned (NaN, infinite, negative) and loads that say nothing (zeros) leave the placement as it
    is; so do layers without load.
    """
    newest = request.windows[-1]
    if not newest.any():
        once.say(logging.INFO, "zeros", "no loads yet; the placement stays as it is")
        return kept_slots(request, options, once)
    try:
        slots = _planned(request, options, once)
    except Exception as exc:  # a rank that raises here stops serving, on all ranks
        if not isinstance(exc, EplbError):
            once.logger.debug("eplb: planning failed", exc_info=True)
        once.say(logging.WARNING, "failed", f"the placement stays as it is: {type(exc).__name__}: {exc}")
        return kept_slots(request, options, once)
    if request.stays and request.held is not None:
        idle = ~newest.any(axis=1)
        slots[idle] = request.held[idle]
    return slots


def kept_slots(request: Request, options: ServingOptions, once: Once) -> Slots:
    """Return the placement in force, or, where it does not fit the machine, what is nearest to it."""
    if request.stays and request.held is not None:
        return np.array(request.held, dtype=np.int64)
    even = np.ones((1, *request.windows.shape[1:]))
    return _planned(replace(request, windows=even, groups=1), replace(options, effort="fast"), once)


def _planned(request: Request, options: ServingOptions, once: Once) -> Slots:
    topology = request.topology
    groups = request.groups if request.groups > 1 and request.groups % request.num_nodes == 0 else 1
    recency = 0.9 if request.ordered else 1.0
    terms = {"groups": groups, "effort": options.effort, "forecast": options.forecast}
    ask: Callable[..., Plan] = partial(plan, request.windows, topology, recency=recency, **terms)  # type: ignore[arg-type]
    previous = _previous(request, topology)
    if previous is None:
        return _slots(ask())
    limit = options.max_moves(request.num_slots * previous.num_layers) if request.stays else None
    try:
        return _slots(ask(previous=previous, max_moves=limit))
    except (PlacementError, InfeasibleError) as exc:
        message = f"planned anew, with as many moves as that takes, as steps do not lead there: {exc}"
        once.say(logging.WARNING if limit else logging.INFO, "anew", message)
    return _overlapping(_slots(ask()), previous, topology, groups)


def _slots(found: Plan) -> Slots:
    return np.array(found.placement.physical_to_logical, dtype=np.int64)


def _previous(request: Request, topology: Topology) -> Placement | None:
    """Return what is held as a placement; ranks with slots that hold nothing count as failed. None if unusable."""
    per_rank = topology.num_slots // topology.num_ranks
    if request.held is None or request.held.shape[1] % per_rank:
        return None
    num_ranks = request.held.shape[1] // per_rank
    by_rank = request.held.reshape(-1, num_ranks, per_rank)
    empty = np.flatnonzero((by_rank < 0).any(axis=(0, 2)))
    nodes = topology.num_nodes if num_ranks == topology.num_ranks else 1
    slots = by_rank.astype(np.int32)
    slots[:, empty] = -1
    try:
        return Placement(
            physical_to_logical=slots.reshape(request.held.shape),
            topology=replace(topology, num_ranks=num_ranks, num_nodes=nodes, failed_ranks=empty.tolist()),
            num_experts=request.windows.shape[2],
        )
    except EplbError:
        return None


def _overlapping(slots: Slots, previous: Placement, topology: Topology, groups: int) -> Slots:
    """Return `slots` with ranks and slots renamed to hold what they held in `previous`, if the machine is the same."""
    from eplb.kernels.threads import over_layers
    from eplb.kernels.windows.overlap import rename_layers, settle_layers
    from eplb.planning.layout import layout_of

    if previous.topology != topology:
        return slots
    layout = layout_of(topology, groups)
    held, items = previous.physical_to_logical.astype(np.int64), np.ascontiguousarray(slots)
    over_layers(rename_layers, len(items), (held, layout.offsets, layout.offsets, layout.kinds, items))
    over_layers(settle_layers, len(items), (held, layout.offsets, layout.offsets, items), min_layers=len(items))
    return items
