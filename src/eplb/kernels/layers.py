"""The entry of the planner: every layer from loads to slots, counts, largest time and bound."""

import math

import numpy as np

from eplb.kernels.bounds import simple_bound
from eplb.kernels.cell import MAX_STEPS, search_cell, start_cell
from eplb.kernels.compiling import kernel, part
from eplb.kernels.counts import largest_average
from eplb.kernels.scaling import scale_loads
from eplb.kernels.totals import largest_of, speed_of, total_of

# columns of `stats`
MEAN, LARGEST, BOUND = 0, 1, 2


@kernel
def plan_layers(  # type: ignore[no-untyped-def]
    first, last, loads, slot_offsets, ranks, costs, node_starts, choices, choice_bounds, floors, tolerance, effort, seed,
    slots, counts, stats,
):  # fmt: skip
    """Plan the layers `first` to `last` - 1 of `loads` [L, E] into `slots` [L, P], `counts` [L, E], `stats` [L, 3].

    `ranks` are the ranks that work, node after node (node n has those from ``node_starts[n]``), `costs` their time for
    a token, `slot_offsets` [R + 1] the first slot of every rank. `choices` [L, K, G], `choice_bounds` [L, K] and
    `floors` [L] come from `groups.spread_layers`; without groups, all ranks are one node and all experts one group.
    The choices are planned one after another as long as their bound leaves something to gain.
    """
    num_experts = loads.shape[1]
    num_nodes = node_starts.size - 1
    scaled = np.empty(num_experts)
    trial_slots = np.empty(slots.shape[1], np.int32)
    trial_counts = np.empty(num_experts, np.int32)
    for layer in range(first, last):
        zero, exponent = scale_loads(loads[layer], scaled)
        best, bound = np.inf, max(floors[layer], total_of(scaled) / speed_of(costs))
        for k in range(choices.shape[1]):
            if choice_bounds[layer, k] * (1 + tolerance) >= best or best <= bound * (1 + tolerance):
                break
            largest = 0.0
            for node in range(num_nodes):
                here = slice(node_starts[node], node_starts[node + 1])
                my_ranks, my_costs = ranks[here], costs[here]
                experts = _experts_of(node, choices[layer, k], num_experts)
                mine = np.empty(experts.size)
                for e in range(experts.size):
                    mine[e] = scaled[experts[e]]
                offsets = _offsets_of(my_ranks, slot_offsets, experts.size)
                items = np.empty(offsets[-1], np.int64)
                cell_counts = np.empty(experts.size, np.int64)
                times = np.empty(my_ranks.size)
                by_load = np.empty(experts.size, np.int64)
                shares = start_cell(mine, offsets, my_costs, items, cell_counts, times, by_load)
                cell_bound = simple_bound(mine, by_load, cell_counts, offsets, my_costs)
                target = max(choice_bounds[layer, k], cell_bound) * (1 + tolerance)
                if effort[MAX_STEPS] > 0 and largest_of(times) > target:
                    heaviest = largest_average(mine, cell_counts)
                    close = search_cell(
                        mine, by_load, offsets, my_costs, target, tolerance, heaviest, effort, _mix(seed, layer, node),
                        items, cell_counts, shares, times,
                    )  # fmt: skip
                    cell_bound = max(cell_bound, close)
                if num_nodes == 1 and offsets[-1] == _num_slots(my_ranks, slot_offsets):
                    bound = max(bound, cell_bound)
                time = _write_cell(
                    mine, experts, by_load, my_ranks, my_costs, offsets, slot_offsets, items, cell_counts, times,
                    trial_slots, trial_counts,
                )  # fmt: skip
                largest = max(largest, time)
            if largest < best:
                best = largest
                _keep_layer(ranks, slot_offsets, trial_slots, trial_counts, slots[layer], counts[layer])
        unit = 0.0 if zero else 1.0
        stats[layer, MEAN] = math.ldexp(unit * total_of(scaled) / speed_of(costs), exponent)
        stats[layer, LARGEST] = math.ldexp(unit * best, exponent)
        stats[layer, BOUND] = math.ldexp(unit * min(bound, best), exponent)


@part
def _keep_layer(ranks, slot_offsets, trial_slots, trial_counts, slots, counts):  # type: ignore[no-untyped-def]
    for rank in ranks:
        for slot in range(slot_offsets[rank], slot_offsets[rank + 1]):
            slots[slot] = trial_slots[slot]
    for expert in range(counts.size):
        counts[expert] = trial_counts[expert]


@part
def _mix(seed, layer, node):  # type: ignore[no-untyped-def]
    """Return a seed of its own for each cell."""
    return np.uint64(seed) ^ (np.uint64((layer << 20) + node + 1) * np.uint64(0x9E3779B97F4A7C15))


@part
def _experts_of(node, node_of_group, num_experts):  # type: ignore[no-untyped-def]
    """Return the experts of the groups that stand on `node`."""
    group_size = num_experts // node_of_group.size
    experts = np.empty(num_experts, np.int64)
    size = 0
    for group in range(node_of_group.size):
        if node_of_group[group] == node:
            for k in range(group_size):
                experts[size] = group * group_size + k
                size += 1
    return experts[:size]


@part
def _offsets_of(ranks, slot_offsets, most):  # type: ignore[no-untyped-def]
    """Number the slots of a cell rank after rank, at most `most` a rank: more would only hold experts twice."""
    offsets = np.zeros(ranks.size + 1, np.int64)
    for k in range(ranks.size):
        offsets[k + 1] = offsets[k] + min(slot_offsets[ranks[k] + 1] - slot_offsets[ranks[k]], most)
    return offsets


@part
def _num_slots(ranks, slot_offsets):  # type: ignore[no-untyped-def]
    total = 0
    for rank in ranks:
        total += slot_offsets[rank + 1] - slot_offsets[rank]
    return total


@part
def _write_cell(  # type: ignore[no-untyped-def]
    loads, experts, by_load, ranks, costs, offsets, slot_offsets, items, cell_counts, times, slots, counts
):
    """Write a cell's slots and counts into those of the layer; return the largest time.

    Slots beyond one for each expert of the cell hold the lightest experts once more: the same ones on every rank.
    """
    crowded = False
    for k in range(ranks.size):
        start = slot_offsets[ranks[k]]
        size = offsets[k + 1] - offsets[k]
        for i in range(size):
            slots[start + i] = experts[items[offsets[k] + i]]
        for i in range(start + size, slot_offsets[ranks[k] + 1]):
            crowded = True
            again = by_load[by_load.size - 1 - (i - start - size) % by_load.size]
            slots[i] = experts[again]
            cell_counts[again] += 1
    for e in range(experts.size):
        counts[experts[e]] = cell_counts[e]
    if not crowded:
        return largest_of(times)
    load_of = np.zeros(counts.size)
    for e in range(experts.size):
        load_of[experts[e]] = loads[e] / cell_counts[e]
    largest = 0.0
    for k in range(ranks.size):
        load = 0.0
        for i in range(slot_offsets[ranks[k]], slot_offsets[ranks[k] + 1]):
            load += load_of[slots[i]]
        largest = max(largest, load * costs[k])
    return largest
