"""The arrays that kernels pass around."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.signedinteger[Any]]
Bools: TypeAlias = NDArray[np.bool_]
Seeds: TypeAlias = NDArray[np.uint64]

Pairs: TypeAlias = tuple[Floats, Ints, Ints]
"""Sums, first slots and second slots of pairs of slots."""


class Cell(NamedTuple):
    """R ranks that are planned together, the E experts that live on them, and which of the P slots holds which.

    Slots are numbered rank after rank. All arrays but the first three are filled in by the planner.
    """

    loads: Floats
    """Load of each expert, [E]."""
    offsets: Ints
    """First slot of each rank, then P, [R + 1]."""
    costs: Floats
    """Time that each rank takes for one token (1 / speed), [R]."""
    items: Ints
    """Expert in each slot, [P]."""
    counts: Ints
    """Replicas of each expert, [E]."""
    shares: Floats
    """Load of one replica of each expert, [E]."""
    times: Floats
    """Time of each rank, [R]."""
    by_load: Ints
    """The experts by falling load, [E]."""
    sizes: Floats
    """Share in each slot, [P]; kept by the refinement."""
    holds: Bools
    """Whether a rank has an expert, [R, E]; kept by the refinement."""


class Grouping(NamedTuple):
    """G expert groups that want one of N nodes each."""

    loads: Floats
    """Load of each expert, group after group, [E]."""
    group_size: int
    """Experts of a group, E / G."""
    nodes: Floats
    """Slots, ranks, least number of groups, total speed and fastest speed of each node, [N, 5]."""
    light: Floats
    """Load of the k lightest groups, [G + 1]."""
    memo: Floats
    """Bound of a node for a set of groups, 0 where it is not known yet, [N, 2^G]; [N, 0] for many groups."""
