"""The ways to choose a replica, and which options go together."""

from __future__ import annotations

from typing import Any

from eplb.dispatch.checking import checked_index, whole_number
from eplb.errors import OptionError

EVEN, WEIGHTED, LOCAL_FIRST = "even", "weighted", "local-first"
MODES = (WEIGHTED, EVEN, LOCAL_FIRST)
"""Names of the modes of `Dispatcher`."""
NEEDS_ALL_TO_ALL = (
    "lets every rank choose for its own tokens, which needs an all-to-all between the ranks; with one, pass "
    "rank_invariant=False, and with an all-gather leave it out"
)


def checked_source(mode: Any, has_weights: bool, rank_invariant: Any, source_rank: Any, num_ranks: int) -> int:
    """Return the rank that remainders are turned by, 0 where all ranks choose alike; or raise `OptionError`."""
    if mode not in MODES:
        raise OptionError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if not isinstance(rank_invariant, bool):
        raise OptionError(f"rank_invariant: expected True or False, got {rank_invariant!r}")
    if mode == EVEN:
        if has_weights or source_rank is not None:
            raise OptionError('mode: "even" looks at no weights and no source_rank; "weighted" does')
        return 0
    if rank_invariant:
        if mode == LOCAL_FIRST or source_rank is not None:
            raise OptionError(f"{'mode: local-first' if mode == LOCAL_FIRST else 'source_rank:'} {NEEDS_ALL_TO_ALL}")
        return 0
    if source_rank is None:
        raise OptionError("source_rank: expected the number of this rank, as rank_invariant=False")
    if mode == LOCAL_FIRST:
        return checked_index(source_rank, num_ranks, "source_rank")
    number = whole_number(source_rank, "source_rank")
    if number < 0:
        raise OptionError(f"source_rank: expected an integer >= 0, got {number}")
    return number


def check_counts_fit(mode: str, rank_invariant: bool, source_counts: Any) -> None:
    """Raise `OptionError` if counts of the sources are given to a mode that may not look at them, or are missing."""
    if source_counts is None:
        if mode == LOCAL_FIRST:
            raise OptionError("source_counts: mode local-first needs the counts of all ranks, [ranks, experts]")
    elif mode == EVEN:
        raise OptionError("source_counts: mode even looks at no counts; leave them out")
    elif rank_invariant:
        raise OptionError(f"source_counts: to use them {NEEDS_ALL_TO_ALL}")
