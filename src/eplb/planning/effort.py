"""How much work a plan may take: bounds on iterations, never on time, so that every rank reaches the same plan."""

from __future__ import annotations

from dataclasses import dataclass

from eplb.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Bounds on the work of one layer.

    Parameters
    ----------
    tolerance : float
        Gap to the lower bound at which a layer is good enough.
    max_steps : int
        Swaps and re-grants of one local search.
    max_recounts : int
        Other replica counts that are packed and refined while a gap is left.
    max_restarts : int
        Local searches from a disturbed plan while a gap is left.
    max_choices : int
        Choices of nodes for the groups that are planned while a gap is left.
    max_visits : int
        Steps of the search for these choices.
    max_exchanges : int
        Swaps and re-grants of the search over windows.
    max_tries : int
        Swaps of a rank, and re-grants, that are worked out before one of them is made there.
    max_splits : int
        Changes in a row that are split exactly and do not pay, before a search for the weighted split ends.
    """

    tolerance: float
    max_steps: int
    max_recounts: int
    max_restarts: int
    max_choices: int
    max_visits: int
    max_exchanges: int
    max_tries: int
    max_splits: int


EFFORTS = {
    "fast": Effort(
        tolerance=0.0,
        max_steps=0,
        max_recounts=0,
        max_restarts=0,
        max_choices=1,
        max_visits=1_000,
        max_exchanges=32,
        max_tries=16,
        max_splits=8,
    ),
    "balanced": Effort(
        tolerance=2e-4,
        max_steps=2_000,
        max_recounts=16,
        max_restarts=8,
        max_choices=4,
        max_visits=1_000,
        max_exchanges=512,
        max_tries=32,
        max_splits=32,
    ),
    "thorough": Effort(
        tolerance=1e-5,
        max_steps=20_000,
        max_recounts=64,
        max_restarts=400,
        max_choices=64,
        max_visits=100_000,
        max_exchanges=4_096,
        max_tries=4_096,
        max_splits=48,
    ),
}


def effort_named(name: str) -> Effort:
    """Return the bounds called `name`."""
    if name not in EFFORTS:
        raise OptionError(f"effort: expected one of {', '.join(EFFORTS)}, got {name!r}")
    return EFFORTS[name]
