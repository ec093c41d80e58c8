"""A small picture of rank loads, in characters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " .:#"
NUM_ROWS = 4
MAX_BAR_WIDTH = 4
GAP = 4


def picture(
    before: NDArray[np.float64], after: NDArray[np.float64], width: int = 80, ascii_only: bool = False
) -> list[str]:
    """Return lines that draw the loads of the ranks, before and after, on one scale.

    Parameters
    ----------
    before, after : array [R]
        Rank loads. Where there are more ranks than columns, a bar is the largest of neighbouring ranks.
    width : int, default 80
        Columns to draw in: side by side where that fits, else one below the other.
    ascii_only : bool, default False
        Draw with ASCII characters.

    Examples
    --------
    >>> import numpy as np
    >>> for line in picture(np.array([4.0, 1.0]), np.array([2.5, 2.5]), ascii_only=True):
    ...     print(line)
    before      after
    ###
    ###         ::: :::
    ###         ### ###
    ### ###     ### ###
    """
    glyphs = ASCII if ascii_only else BLOCKS
    num_bars = min(len(before), max(1, width))
    half = (width - GAP) // 2
    side_by_side = half >= max(len("before"), num_bars)
    bar_width = min(MAX_BAR_WIDTH, (half if side_by_side else width) // num_bars)
    top = max(float(before.max()), float(after.max())) or 1.0
    left = ["before", *_bars(_bucketed(before, num_bars) / top, bar_width, glyphs)]
    right = ["after", *_bars(_bucketed(after, num_bars) / top, bar_width, glyphs)]
    if not side_by_side:
        return left + right
    column = max(len("before"), num_bars * bar_width) + GAP
    return [f"{a:<{column}}{b}".rstrip() for a, b in zip(left, right, strict=True)]


def _bucketed(loads: NDArray[np.float64], num_bars: int) -> NDArray[np.float64]:
    """Return the largest of the ranks in each of `num_bars` buckets."""
    starts = np.arange(num_bars) * len(loads) // num_bars
    return np.maximum.reduceat(loads, starts)


def _bars(heights: NDArray[np.float64], bar_width: int, glyphs: str) -> list[str]:
    """Return NUM_ROWS lines, the uppermost first; `heights` are 0 to 1, and any load is seen."""
    steps = len(glyphs) - 1
    levels = np.ceil(heights * NUM_ROWS * steps - 1e-9).astype(int)
    lines = []
    for row in reversed(range(NUM_ROWS)):
        filled = np.clip(levels - row * steps, 0, steps)
        cells = (glyphs[level] * max(1, bar_width - 1) for level in filled)
        lines.append((" " if bar_width > 1 else "").join(cells).rstrip())
    return lines
