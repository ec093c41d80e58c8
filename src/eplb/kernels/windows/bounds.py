"""Lower bounds on the expected largest time over scenarios."""

import numpy as np

from eplb.kernels.arrays import Floats, Ints
from eplb.kernels.compiling import kernel
from eplb.kernels.counts import distinct_slots, highest_averages, largest_average
from eplb.kernels.known.bounds import level_bound
from eplb.kernels.ordering import order_descending
from eplb.kernels.totals import speed_of


@kernel
def bound_layers(
    first: int,
    last: int,
    scenarios: Floats,
    activated: Floats,
    weights: Floats,
    offsets: Ints,
    costs: Floats,
    means: Floats,
    bounds: Floats,
) -> None:
    """Fill the weighted means of mean rank times and of lower bounds on the largest, [L] and [L].

    Of each scenario [L, E, S]: the mean, and what `activated` adds for one slot an expert. Where slots or speeds are
    uneven, the levelled load; where redundant experts are too few to rule it out, the least largest average too.
    """
    num_experts, num_scenarios = scenarios.shape[1], scenarios.shape[2]
    num_ranks, num_slots = costs.size, offsets[costs.size]
    speed, fastest, uneven, crowded = speed_of(costs), costs[0], False, False
    for rank in range(num_ranks):
        fastest = min(fastest, costs[rank])
        size = offsets[rank + 1] - offsets[rank]
        uneven = uneven or costs[rank] != costs[0] or size != offsets[1]
        crowded = crowded or size > num_experts
    closely = not crowded and (uneven or num_slots - num_experts + 1 < num_ranks)
    row = np.empty(num_experts)
    order = np.empty(num_experts, np.int64)
    scratch, counts = np.empty_like(order), np.empty_like(order)
    cover = distinct_slots(offsets, num_experts) if uneven and closely else np.empty(0, np.int64)
    for layer in range(first, last):
        means[layer], bounds[layer] = 0.0, 0.0
        for s in range(num_scenarios):
            total, extra = 0.0, 0.0
            for e in range(num_experts):
                row[e] = scenarios[layer, e, s]
                total += row[e]
                if activated.size > 0:
                    extra += activated[layer, e, s]
            bound = (total + extra) / speed
            means[layer] += weights[s] * bound
            if closely:
                order_descending(row, order, scratch)
                highest_averages(row, order, num_slots, num_ranks, cover, counts)
                bound = max(bound, largest_average(row, counts) * fastest)
                if uneven:
                    bound = max(bound, level_bound(row, order, offsets, costs))
            bounds[layer] += weights[s] * bound
