"""`StepTimes`: what a replay would have taken, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import frozen
from eplb.errors import OptionError
from eplb.placement import Placement
from eplb.replay.watching import ScoredWindows

if TYPE_CHECKING:
    from eplb.replay.cost.cost_model import CostModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReplayCost:
    """What the forward passes of a replay take, and what its migrations add.

    Parameters
    ----------
    step_seconds : array [T']
        Mean time of a forward pass in each scored window, stalls aside.
    stall_seconds : array [T']
        Stalls for migrations and plans before each window, spread over its forward passes.
    moved_bytes : array [T']
        Weights that moved between ranks before each window.
    """

    step_seconds: NDArray[np.float64]
    stall_seconds: NDArray[np.float64]
    moved_bytes: NDArray[np.float64]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Mean time of a forward pass in each scored window, stalls included, [T']."""
        return self.step_seconds + self.stall_seconds

    @property
    def seconds_per_step(self) -> float:
        """Mean over windows of a forward pass, stalls included."""
        return float(self.seconds.mean())


class StepTimes:
    """Watches a replay and adds up what its forward passes take.

    A window of S passes is taken as S passes of its mean loads. In truth passes differ, so the largest rank load of a
    pass is larger than this says. With one pass a window and its recorded batch, the activated experts are those
    counted. Else they are expected ones: tokens that fall on passes at random leave a slot with n tokens a pass idle
    with probability exp(-n); the window's own count would be an upper bound.

    The first plan moves freely. Each later change of the placement stalls as `CostModel` says.

    Parameters
    ----------
    cost : CostModel
        What a layer takes. Where the model has more layers than the trace, their mean stands for all.

    Examples
    --------
    >>> from eplb import LoadTrace, Topology
    >>> from eplb.replay import ContiguousPolicy, replay
    >>> from eplb.replay.cost import CostModel, hardware_named, model_named
    >>> trace = LoadTrace(loads=[[[900, 100, 100, 100]]] * 3)
    >>> times = StepTimes(CostModel(hardware=hardware_named("h100"), model=model_named("gpt-oss-20b")))
    >>> found = replay(trace, Topology(num_ranks=2, slots_per_rank=2), ContiguousPolicy(), first=1, watch=times)
    >>> times.result().step_seconds.shape, times.result().moved_bytes.tolist()
    ((2,), [0.0, 0.0])
    """

    def __init__(self, cost: CostModel) -> None:
        self.cost = cost
        self._placement: Placement | None = None
        self._seconds: list[NDArray[np.float64]] = []
        self._stalls: list[NDArray[np.float64]] = []
        self._moved: list[NDArray[np.float64]] = []

    def __call__(self, scored: ScoredWindows) -> None:
        """Add windows, one after another; `replay` calls this.

        Raises
        ------
        OptionError
            If the trace has more layers than the model.
        """
        cost, found, scale = self.cost, scored.evaluation, self._layers_for_each(scored.placement.num_layers)
        activated = found.activated_experts.astype(np.float64)
        if cost.tokens_per_load != 1:
            activated = expected_activated(scored.placement, scored.windows.loads * cost.tokens_per_load)
        tokens = found.rank_loads * cost.tokens_per_load
        layers = cost.layer_seconds(tokens, activated, topology=scored.placement.topology)
        self._seconds.append(layers.sum(axis=1) * scale + cost.other_seconds_per_step)
        self._count_moves(scored.placement, len(layers), scale)

    def result(self) -> ReplayCost:
        """Return what was added up.

        Raises
        ------
        OptionError
            If nothing was watched.
        """
        if not self._seconds:
            raise OptionError("step times: expected windows; pass this as the watch of a replay first")
        parts = (self._seconds, self._stalls, self._moved)
        seconds, stalls, moved = (frozen(np.concatenate(part)) for part in parts)
        return ReplayCost(step_seconds=seconds, stall_seconds=stalls, moved_bytes=moved)

    def totals(self) -> dict[str, float]:
        """Return means over windows, by name with their units: what a table of trials holds."""
        found = self.result()
        return {
            "step_us": found.seconds_per_step * 1e6,
            "stall_us_per_step": float(found.stall_seconds.mean()) * 1e6,
            "moved_bytes_per_window": float(found.moved_bytes.mean()),
        }

    def _layers_for_each(self, num_layers: int) -> float:
        model = self.cost.model
        if num_layers > model.num_layers:
            raise OptionError(
                f"model: {model.name} has {model.num_layers} MoE layers, the trace {num_layers}; "
                "give the model of the trace, or leave out layers"
            )
        return model.num_layers / num_layers

    def _count_moves(self, placement: Placement, num_windows: int, scale: float) -> None:
        stalls, moved = np.zeros(num_windows), np.zeros(num_windows)
        before, self._placement = self._placement, placement
        if before is not None and before is not placement:
            receivers = before.moves_to(placement)[:, 1]
            received = int(np.bincount(receivers, minlength=1).max())
            seconds = float(self.cost.migration_seconds(received * scale, placement.topology))
            stalls[0] = (seconds + self.cost.planner_seconds) / self.cost.steps_per_window
            moved[0] = len(receivers) * scale * self.cost.model.bytes_per_expert
        self._stalls.append(stalls)
        self._moved.append(moved)


def expected_activated(placement: Placement, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many slots of each rank get any token in a pass, on average, [T, L, R].

    Parameters
    ----------
    placement : Placement
        L layers, E experts.
    tokens : array [T, L, E]
        Mean tokens of each expert in a pass; its replicas share them alike.

    Examples
    --------
    >>> import numpy as np
    >>> from eplb import Placement, Topology
    >>> placement = Placement(physical_to_logical=[[0, 1]], topology=Topology(num_ranks=2, slots_per_rank=1))
    >>> expected_activated(placement, np.array([[[0.0, 1.0]]])).round(3).tolist()
    [[[0.0, 0.632]]]
    """
    slots, offsets = placement.physical_to_logical, placement.topology.slot_offsets
    held, layers = slots >= 0, np.arange(len(slots))[:, None]
    mean = np.where(held, tokens[:, layers, slots] / np.maximum(placement.replica_counts[layers, slots], 1), 0.0)
    return np.asarray(np.add.reduceat(-np.expm1(-mean), offsets[:-1], axis=2))
