"""A policy that is shown sums of windows, as an engine that counts for longer would show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eplb.errors import OptionError
from eplb.placement import Placement
from eplb.replay.policies import Policy
from eplb.topology import Topology
from eplb.trace import LoadTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class MergingPolicy:
    """Shows another policy its history as sums of consecutive windows.

    What is scored stays the single windows, so that replays with windows of different lengths compare. Windows are
    summed from the newest backwards; a rest shorter than `size` is left out, unless it is all there is. A policy that
    sees the future is shown it window by window.

    Parameters
    ----------
    policy : Policy
        Who places the experts.
    size : int
        Windows in a sum, >= 1.

    Raises
    ------
    OptionError
        If `size` is no integer >= 1.

    Examples
    --------
    >>> trace = LoadTrace(loads=[[[9, 9]], [[1, 2]], [[3, 4]], [[5, 6]], [[7, 8]]])
    >>> merged(trace, 2).loads.tolist()
    [[[4, 6]], [[12, 14]]]
    """

    policy: Policy
    size: int

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise OptionError(f"size: expected an integer >= 1, got {self.size!r}")

    @property
    def name(self) -> str:
        """What results call it: as the policy that it asks."""
        return str(getattr(self.policy, "name", type(self.policy).__name__))

    @property
    def sees_future(self) -> bool:
        """As the policy that it asks."""
        return bool(getattr(self.policy, "sees_future", False))

    @property
    def limits_each_rank(self) -> bool:
        """As the policy that it asks."""
        return bool(getattr(self.policy, "limits_each_rank", False))

    @property
    def plans_ahead(self) -> bool:
        """As the policy that it asks."""
        return bool(getattr(self.policy, "plans_ahead", False))

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None, **more: Any
    ) -> Placement:
        """Return what the policy makes of the sums; a horizon is told it in sums as well."""
        if "horizon" in more:
            more["horizon"] /= self.size
        shown = history if self.sees_future else merged(history, self.size)
        return self.policy.place(shown, topology, previous, max_moves, **more)


def merged(history: LoadTrace, size: int) -> LoadTrace:
    """Return sums of `size` consecutive windows, the newest of which ends `history`; of all, if they are fewer."""
    size = min(size, history.num_windows)
    rest = history.num_windows % size
    return history.part(rest, history.num_windows).windows(size)
