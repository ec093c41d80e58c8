"""Windows gathered into bins, so that a report stays small however long the trace is."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BINS = 40
MAX_CELLS = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Consecutive windows in bins of one size; the last bin may be smaller.

    Parameters
    ----------
    first : int
        Number of the first window.
    num_windows : int
        Windows in all bins, >= 1.
    size : int
        Windows a bin, >= 1.

    Examples
    --------
    >>> bins = Bins(first=8, num_windows=5, size=2)
    >>> len(bins), bins.of(11), bins.spans()
    (3, 1, ((8, 9), (10, 11), (12, 12)))
    """

    first: int
    num_windows: int
    size: int

    def __len__(self) -> int:
        """Return the number of bins."""
        return -(-self.num_windows // self.size)

    def of(self, window: int) -> int:
        """Return the bin of the window of this number."""
        return (window - self.first) // self.size

    def shown(self) -> tuple[int, ...]:
        """Return the window in the middle of each bin, which stands for it where a single one is shown.

        Examples
        --------
        >>> Bins(first=8, num_windows=5, size=2).shown()
        (9, 11, 12)
        """
        return tuple((first + last + 1) // 2 for first, last in self.spans())

    def spans(self) -> tuple[tuple[int, int], ...]:
        """Return the first and the last window of each bin."""
        end = self.first + self.num_windows
        return tuple((start, min(start + self.size, end) - 1) for start in range(self.first, end, self.size))


def bins_for(first: int, num_windows: int, cells_each: int = 1, interval: int = 1) -> Bins:
    """Return bins for `num_windows` windows from `first` on: at most `MAX_BINS`, and at most `MAX_CELLS` cells in all.

    Bins hold whole intervals between plans, so that as many plans fall into each.

    Examples
    --------
    >>> len(bins_for(8, 88)), len(bins_for(8, 88, cells_each=MAX_CELLS // 4)), len(bins_for(8, 88, 10 * MAX_CELLS))
    (30, 4, 1)
    >>> bins_for(8, 88, interval=10).size
    10
    """
    most = max(1, min(MAX_BINS, MAX_CELLS // max(1, cells_each)))
    size = -(-num_windows // most)
    return Bins(first=first, num_windows=num_windows, size=-(-size // interval) * interval)
