"""A policy that is asked only where the placement in force is out of balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eplb.arrays import nonnegative
from eplb.errors import OptionError
from eplb.evaluation import evaluate
from eplb.placement import Placement
from eplb.replay.policies import Policy
from eplb.topology import Topology
from eplb.trace import LoadTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPolicy:
    """Keeps what is in force while the newest windows are balanced well enough under it, and else asks another policy.

    SGLang does so with ``--eplb-min-rebalancing-utilization-threshold X``, which is ``threshold = 1 - X`` here.

    Parameters
    ----------
    policy : Policy
        Who places the experts where that is called for.
    threshold : float
        Imbalance (1 - balancedness) that is put up with, 0 to 1; 0: the policy is asked every time.
    recent : int, default 1
        The newest windows that are looked at; what counts is the mean of their balancedness.
    split : {"even", "weighted"}, default "even"
        How replicas share the tokens of these windows.

    Raises
    ------
    OptionError
        If the threshold, `recent` or the split is out of its range.

    Examples
    --------
    >>> from eplb.replay import StaticPolicy, replay
    >>> trace = LoadTrace(loads=[[[3, 1, 2, 2]], [[3, 1, 2, 2]], [[9, 0, 1, 8]], [[9, 0, 1, 8]]])
    >>> patient = ThresholdPolicy(policy=StaticPolicy(), threshold=0.1)
    >>> replay(trace, Topology(num_ranks=2, slots_per_rank=2), patient, first=1).moves.tolist()
    [0, 0]
    """

    policy: Policy
    threshold: float
    recent: int = 1
    split: str = "even"

    def __post_init__(self) -> None:
        if nonnegative(self.threshold, "threshold") > 1:
            raise OptionError(f"threshold: expected an imbalance of 0 to 1, got {self.threshold!r}")
        if isinstance(self.recent, bool) or not isinstance(self.recent, int) or self.recent < 1:
            raise OptionError(f"recent: expected an integer >= 1, got {self.recent!r}")
        if self.split not in ("even", "weighted"):
            raise OptionError(f"split: expected 'even' or 'weighted', got {self.split!r}")

    @property
    def name(self) -> str:
        """What results call it: as the policy that it asks."""
        return str(getattr(self.policy, "name", type(self.policy).__name__))

    @property
    def sees_future(self) -> bool:
        """As the policy that it asks; the newest windows are then the last of those that come."""
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
        """Return what is in force if that is balanced well enough, or what the policy makes of it."""
        if previous is not None and self.threshold > 0 and self._is_good_enough(previous, history):
            return previous
        return self.policy.place(history, topology, previous, max_moves, **more)

    def _is_good_enough(self, previous: Placement, history: LoadTrace) -> bool:
        found = evaluate(previous, history.loads[-self.recent :], self.split).balancedness
        return float(found.mean()) >= 1 - self.threshold
