"""Who places the experts: the protocol, and the policies that every other one is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from eplb.errors import InfeasibleError, OptionError
from eplb.forecasting import Mean
from eplb.placement import Placement
from eplb.planning import plan
from eplb.planning.effort import effort_named
from eplb.planning.expected import plan_expected
from eplb.planning.moving import Moving
from eplb.planning.outlook import Assumptions, outlook_of
from eplb.topology import Topology
from eplb.trace import LoadTrace


class Policy(Protocol):
    """What `replay` asks for a placement, again and again.

    Four attributes are optional. ``name`` is what results call it (default: the class's name). With
    ``sees_future = True`` it is given the windows that it will be scored on in place of the past: a ceiling, no policy
    that can be run. With ``limits_each_rank = True`` it is given `max_moves_per_rank` as a keyword, and with
    ``plans_ahead = True`` the number of windows until the next plan as `horizon`.
    """

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None
    ) -> Placement:
        """Return the placement for the windows that follow `history`.

        Parameters
        ----------
        history : LoadTrace, [windows, L, E]
            The windows before now, oldest first; nothing later.
        topology : Topology
            The machine; always the same one.
        previous : Placement or None
            What is in force; None for the first plan.
        max_moves : int or None
            Moves from `previous` that are allowed, over all layers; None for no limit. More are reported, not refused.
        """
        ...


def placed_in_order(topology: Topology, num_layers: int, num_experts: int) -> Placement:
    """Return the placement with expert e in slot e, and i mod E in the i-th slot beyond, skipping failed ranks.

    Raises
    ------
    InfeasibleError
        If there are fewer slots on working ranks than experts.

    Examples
    --------
    >>> placed_in_order(Topology(num_ranks=3, slots_per_rank=2, failed_ranks=[1]), 1, 3).physical_to_logical.tolist()
    [[0, 1, -1, -1, 2, 0]]
    """
    num_usable = topology.num_usable_slots
    if num_usable < num_experts:
        raise InfeasibleError(
            f"{num_experts} experts do not fit {num_usable} usable slots; add slots_per_rank or ranks"
        )
    slots = np.full(topology.num_slots, -1, dtype=np.int32)
    slots[topology.alive[topology.rank_of_slot]] = np.arange(num_usable) % num_experts
    return Placement(physical_to_logical=np.tile(slots, (num_layers, 1)), topology=topology, num_experts=num_experts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContiguousPolicy:
    """No balancing: the experts in order, the spare slots filled from the first expert on, as engines start."""

    name: str = "contiguous"

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None
    ) -> Placement:
        """Return what is in force, or the placement in order."""
        if previous is not None:
            return previous
        return placed_in_order(topology, history.num_layers, history.num_experts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPolicy:
    """`eplb.plan` once, on the first history; then nothing moves.

    Parameters
    ----------
    groups, effort, seed, split
        As in `eplb.plan`.
    name : str, default "static"
        What results call it.
    """

    groups: int = 1
    effort: str = "balanced"
    seed: int = 0
    split: str = "even"
    name: str = "static"

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None
    ) -> Placement:
        """Return what is in force, or a plan of `history`."""
        if previous is not None:
            return previous
        return plan(
            history, topology, groups=self.groups, split=self.split, effort=self.effort, seed=self.seed
        ).placement


@dataclass(frozen=True, slots=True, kw_only=True)
class OraclePolicy:
    """`eplb.plan` on the very windows that it is scored on, moving freely: what a perfect forecast would give.

    Parameters
    ----------
    groups, effort, seed, split
        As in `eplb.plan`.
    name : str, default "oracle"
        What results call it.
    """

    sees_future: ClassVar[bool] = True

    groups: int = 1
    effort: str = "balanced"
    seed: int = 0
    split: str = "even"
    name: str = "oracle"

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None
    ) -> Placement:
        """Return a plan of the windows given, which are those to come: each counts alike, and nothing else does."""
        if not isinstance(self.split, str) or self.split not in ("even", "weighted"):
            raise OptionError(f"split: expected 'even' or 'weighted', got {self.split!r}")
        windows = np.require(history.loads, np.float64, ["C", "A", "W"])
        alone = Assumptions(recency=1.0, recorded_share=1.0, forecast_share=0.0)
        more: dict[str, Any] = {} if self.split == "even" else {"split": self.split}
        return plan_expected(
            outlook_of(windows, Mean(), alone, cost_per_activated_slot=0.0),
            topology,
            self.groups,
            previous=None,
            moving=Moving(),
            effort=effort_named(self.effort),
            seed=self.seed,
            layer_ids=history.layer_ids,
            **more,
        ).placement
