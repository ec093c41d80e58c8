"""Go or no-go: ranges of gains over held-out parts, and the simplest option that surely gains enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NONE, STATIC, DYNAMIC = "none", "static", "dynamic"

# Student's t at 95%, for 1, 2, 3 degrees of freedom: two parts, three, four.
T_95 = (6.314, 2.920, 2.353)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How many more tokens a second, as a share: 0.5 is half as many again.

    Parameters
    ----------
    expected : float
        Mean over the held-out parts.
    low, high : float
        The range: as wide as the parts differ, and at least as wide as their mean is uncertain (Student's t, 90%).
    parts : tuple of float
        The gain on each part.
    """

    expected: float
    low: float
    high: float
    parts: tuple[float, ...]

    @property
    def step_change(self) -> float:
        """What the expected gain does to the time of a step, as a share: below 0 if it gets shorter."""
        return 1 / (1 + self.expected) - 1


def gain_of(before: Sequence[float], after: Sequence[float]) -> Gain:
    """Return the gain of `after` over `before`: seconds of a step in each held-out part.

    Examples
    --------
    >>> found = gain_of([1.2, 1.3, 1.1], [1.0, 1.0, 1.0])
    >>> f"{found.expected:.2f} from {found.low:.3f} to {found.high:.3f}"
    '0.20 from 0.031 to 0.369'
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    parts = np.divide(first, second, out=np.ones_like(first), where=second > 0) - 1  # without tokens, nothing is gained
    mean = float(parts.mean())
    margin = T_95[parts.size - 2] * float(parts.std(ddof=1)) / np.sqrt(parts.size) if parts.size > 1 else np.inf
    return Gain(
        expected=mean,
        low=float(min(parts.min(), mean - margin)),
        high=float(max(parts.max(), mean + margin)),
        parts=tuple(parts.tolist()),
    )


def decided(static: Gain, dynamic: Gain, dynamic_over_static: Gain, least_gain: float) -> str:
    """Return "none", "static" or "dynamic": the simplest that surely gains `least_gain` and leaves little to the next.

    A gain is sure where the low end of its range reaches `least_gain`. Replanning leaves placing once behind where it
    gains `least_gain` more on average, and something on every part: a placement that was just made is as good as new.

    Examples
    --------
    >>> sure, unsure = gain_of([1.2, 1.21], [1, 1]), gain_of([0.9, 1.5], [1, 1])
    >>> decided(sure, sure, unsure, 0.02), decided(sure, sure, sure, 0.02), decided(unsure, unsure, unsure, 0.02)
    ('static', 'dynamic', 'none')
    """
    static_pays, dynamic_pays = static.low >= least_gain, dynamic.low >= least_gain
    left_behind = dynamic_over_static.expected >= least_gain and dynamic_over_static.low > 0
    if dynamic_pays and (not static_pays or left_behind):
        return DYNAMIC
    return STATIC if static_pays else NONE
