"""What an engine does without a plan: each expert once, in order of its id."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.topology import Topology


def contiguous_rank_loads(loads: NDArray[Any], topology: Topology) -> NDArray[np.float64]:
    """Return the rank loads when expert e of E stands on the working rank floor(e R / E), without redundancy.

    Parameters
    ----------
    loads : array [..., E]
        Tokens routed to each expert, finite, >= 0.
    topology : Topology
        The ranks; only those that work (R of them) take experts, and slots are not looked at.

    Returns
    -------
    array [..., num_ranks]
        Tokens of each rank divided by its speed; 0 on failed ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from eplb import Topology
    >>> contiguous_rank_loads(np.array([[4, 1, 3, 2]]), Topology(num_ranks=2, slots_per_rank=2)).tolist()
    [[5.0, 5.0]]
    """
    working = np.flatnonzero(topology.alive)
    num_experts = loads.shape[-1]
    taken, first = np.unique(np.arange(num_experts) * working.size // num_experts, return_index=True)
    ranks = working[taken]
    rank_loads = np.zeros((*loads.shape[:-1], topology.num_ranks))
    rank_loads[..., ranks] = np.add.reduceat(loads, first, axis=-1, dtype=np.float64) / topology.speeds[ranks]
    return rank_loads
