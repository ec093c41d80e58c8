"""How good a placement is, and how good any could be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import array_of, frozen
from eplb.errors import LoadsError


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / whole, and 1 where `whole` is 0 (no load is in balance)."""
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerLayer:
    """The certificate of each layer; every array is [L].

    Parameters
    ----------
    mean_load, largest_load, lower_bound : arrays [L]
        Mean rank load, largest rank load, and a proven lower bound on the largest, in the unit of the loads.

    Raises
    ------
    LoadsError
        If they are no arrays of numbers of one length.
    """

    mean_load: NDArray[np.float64]
    largest_load: NDArray[np.float64]
    lower_bound: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("mean_load", "largest_load", "lower_bound"):
            array = array_of(getattr(self, name), f"{name}: expected numbers [layers]", LoadsError)
            if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
                raise LoadsError(f"{name}: expected numbers [layers], got shape {array.shape} of dtype {array.dtype}")
            object.__setattr__(self, name, frozen(array.astype(np.float64)))
        sizes = (self.mean_load.size, self.largest_load.size, self.lower_bound.size)
        if len(set(sizes)) > 1:
            raise LoadsError(f"mean_load, largest_load, lower_bound: expected one length, got {sizes}")

    @property
    def balancedness(self) -> NDArray[np.float64]:
        """Mean over largest rank load, [L]; 1 is perfect."""
        return ratio(self.mean_load, self.largest_load)

    @property
    def best_balancedness(self) -> NDArray[np.float64]:
        """The balancedness that no placement exceeds, [L]."""
        return ratio(self.mean_load, self.lower_bound)

    @property
    def gap(self) -> NDArray[np.float64]:
        """Largest rank load over its lower bound, less 1, [L]; 0 is proven optimal."""
        return ratio(self.largest_load, self.lower_bound) - 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Certificate:
    """Largest rank load of a plan with a proven lower bound; over layers, which run one after another, as sums.

    The bound holds for every placement of the same loads on the same topology (and groups) that fills all slots, keeps
    the replicas of an expert on distinct ranks as far as the slots allow, and splits an expert's tokens evenly over its
    replicas. A rank's load counts divided by its speed; the mean weighs ranks by speed, so that a placement with equal
    times has balancedness 1. The bound is closest for one node with at most E slots a rank; see docs/planning.md.

    Parameters
    ----------
    per_layer : PerLayer
        The same by layer.
    ignores_budget : bool, default False
        Whether moves were limited: the bound is then that of the problem without limits, and no plan within them may
        come close.

    Examples
    --------
    >>> import numpy as np
    >>> layers = PerLayer(mean_load=np.array([4.0]), largest_load=np.array([5.0]), lower_bound=np.array([4.5]))
    >>> certificate = Certificate(per_layer=layers)
    >>> certificate.balancedness, round(certificate.gap, 3)
    (0.8, 0.111)
    """

    per_layer: PerLayer
    ignores_budget: bool = False
    mean_load: float = field(init=False)
    largest_load: float = field(init=False)
    lower_bound: float = field(init=False)

    def __post_init__(self) -> None:
        for name in ("mean_load", "largest_load", "lower_bound"):
            object.__setattr__(self, name, float(getattr(self.per_layer, name).cumsum()[-1]))

    @property
    def balancedness(self) -> float:
        """Sum of mean rank loads over sum of largest ones; 1 is perfect."""
        return self.mean_load / self.largest_load if self.largest_load > 0 else 1.0

    @property
    def best_balancedness(self) -> float:
        """The balancedness that no placement exceeds."""
        return self.mean_load / self.lower_bound if self.lower_bound > 0 else 1.0

    @property
    def gap(self) -> float:
        """`largest_load` / `lower_bound` - 1; 0 is proven optimal."""
        return self.largest_load / self.lower_bound - 1.0 if self.lower_bound > 0 else 0.0

    def __repr__(self) -> str:
        return (
            f"Certificate(balancedness={self.balancedness:.4f}, largest_load={self.largest_load:.6g}, "
            f"lower_bound={self.lower_bound:.6g}, gap={self.gap:.2%}"
            f"{', bound ignores the budget of moves' if self.ignores_budget else ''})"
        )
