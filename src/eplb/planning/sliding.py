"""Where a load is known, the sliding window may place it better for the weighted split than packing does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eplb.planning.searching import Search, timed


def slid_where_better(search: Search, items: NDArray[np.int64], homes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `items` [L, P], or in a layer what the sliding window makes of it where that splits better.

    Groups stay on the nodes `homes` [L, G].
    """
    from eplb.kernels.split.sliding import slide_layers
    from eplb.kernels.threads import over_layers

    layout, means = search.layout, search.outlook.means
    slid, placed = np.empty_like(items), np.empty(len(items), dtype=np.bool_)
    machine = (layout.offsets, layout.costs, layout.nodes)
    over_layers(slide_layers, len(items), (means, *machine, homes, slid, placed), min_layers=4)
    slid = np.where(placed[:, None], slid, items)
    times, slid_times = timed(search, items)[0], timed(search, slid)[0]
    return np.ascontiguousarray(np.where((slid_times < times)[:, None], slid, items))
