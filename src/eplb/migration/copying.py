"""Copies inside a rank: from staging and from slot to slot, in an order that overwrites nothing still needed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class LocalCopies(NamedTuple):
    """Copies of whole experts, one after another, inside one rank."""

    steps: list[tuple[int, int]]
    """(from, to); a place below the number of slots is a slot, the ones from there on are rows of staging."""
    num_staged: int
    """Rows of staging that are used: one for each expert that came, and one more if slots change places in a circle."""


def local_copies(before: NDArray[np.int32], after: NDArray[np.int32], arrived: list[int]) -> LocalCopies:
    """Return the copies that turn the slots of a rank from `before` to `after`.

    Parameters
    ----------
    before, after : array of int [S]
        Expert in each slot of the rank; -1 is none.
    arrived : list of int
        The experts that wait in staging, row after row; all that are in `after` and not in `before`.

    Examples
    --------
    Slots 0 and 1 change places, and expert 7 comes:

    >>> import numpy as np
    >>> local_copies(np.array([3, 4, 5]), np.array([4, 3, 7]), [7])
    LocalCopies(steps=[(3, 2), (0, 4), (1, 0), (4, 1)], num_staged=2)
    """
    staged = {expert: len(before) + row for row, expert in enumerate(arrived)}
    wanted = {
        slot: staged[expert] if expert in staged else _source(before, after, expert)
        for slot, expert in enumerate(after.tolist())
        if expert != before[slot]
    }
    return _ordered(wanted, spare=len(before) + len(arrived), arrived=len(arrived))


def _source(before: NDArray[np.int32], after: NDArray[np.int32], expert: int) -> int:
    """Return a slot that holds `expert`, if possible one that keeps it."""
    held = before == expert
    kept = held & (after == expert)
    return int(np.argmax(kept if kept.any() else held))


def _ordered(wanted: dict[int, int], spare: int, arrived: int) -> LocalCopies:
    """Order the copies target <- source; a circle is opened by moving one of its slots to `spare`."""
    readers: dict[int, list[int]] = {}
    for target, source in wanted.items():
        readers.setdefault(source, []).append(target)
    free = [target for target in wanted if target not in readers]
    steps: list[tuple[int, int]] = []
    circles = 0
    left = dict(wanted)
    while left:
        if not free:  # only circles are left, in which each slot has one reader
            opened = next(iter(left))
            steps.append((opened, spare))
            (reader,) = readers.pop(opened)
            left[reader] = spare
            readers[spare] = [reader]
            free, circles = [opened], circles + 1
        target = free.pop(0)
        source = left.pop(target)
        steps.append((source, target))
        readers[source].remove(target)
        if not readers[source] and source in left:
            free.append(source)
    return LocalCopies(steps, arrived + min(circles, 1))
