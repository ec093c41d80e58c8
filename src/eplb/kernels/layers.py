"""The entry of the planner: every layer from loads to slots, counts, largest time and bound."""

import math

import numpy as np

from eplb.kernels.bounds import close_bound, simple_bound
from eplb.kernels.cell import MAX_GROUP_BOUNDS, MAX_STEPS, search_cell, start_cell
from eplb.kernels.compiling import kernel, part
from eplb.kernels.counts import largest_average
from eplb.kernels.groups import spread_groups
from eplb.kernels.totals import largest_of, speed_of, total_of

# columns of `stats`
MEAN, LARGEST, BOUND = 0, 1, 2


@kernel
def first_bad(values):  # type: ignore[no-untyped-def]
    """Return the index of the first of `values` [n] that is NaN, infinite or negative; -1 if there is none."""
    for i in range(values.size):
        if not 0.0 <= values[i] < np.inf:
            return i
    return -1


@kernel
def plan_layers(  # type: ignore[no-untyped-def]
    first, last, loads, slot_offsets, ranks, costs, node_starts, nodes, group_size, tolerance, effort, seed,
    slots, counts, stats,
):  # fmt: skip
    """Plan the layers `first` to `last` - 1 of `loads` [L, E] into `slots` [L, P], `counts` [L, E], `stats` [L, 3].

    `ranks` are the ranks that work, node after node (node n has those from ``node_starts[n]``), `costs` their time for
    a token, `slot_offsets` [R + 1] the first slot of every rank. `group_size` 0 plans over all nodes at once; `nodes`
    is explained in `groups.spread_groups`.
    """
    num_experts = loads.shape[1]
    scaled = np.empty(num_experts)
    everyone = np.arange(num_experts)
    for layer in range(first, last):
        zero, exponent = _scale(loads[layer], scaled)
        stats[layer, MEAN], stats[layer, LARGEST], stats[layer, BOUND] = 0.0, 0.0, 0.0
        cell_seed = np.uint64(seed) ^ (np.uint64(layer + 1) * np.uint64(0x9E3779B97F4A7C15))
        if group_size == 0:
            largest, bound = _plan_alone(
                scaled, everyone, ranks, costs, slot_offsets, tolerance, effort, cell_seed, slots[layer], counts[layer]
            )
        else:
            largest, bound = _plan_grouped(
                scaled, ranks, costs, slot_offsets, node_starts, nodes, group_size, tolerance, effort, cell_seed,
                slots[layer], counts[layer],
            )  # fmt: skip
        if not zero:
            stats[layer, MEAN] = math.ldexp(total_of(scaled) / speed_of(costs), exponent)
            stats[layer, LARGEST] = math.ldexp(largest, exponent)
            stats[layer, BOUND] = math.ldexp(min(bound, largest), exponent)


@part
def _scale(loads, scaled):  # type: ignore[no-untyped-def]
    """Copy `loads` times a power of two that makes the largest 0.5 to 1; return whether all are 0, and the exponent.

    Loads that are all 0 become ones.
    """
    largest = largest_of(loads)
    if largest == 0.0:
        for i in range(loads.size):
            scaled[i] = 1.0
        return True, 0
    exponent = math.frexp(largest)[1]
    for i in range(loads.size):
        scaled[i] = math.ldexp(loads[i], -exponent) + 0.0  # turns -0.0 into 0.0
    return False, exponent


@part
def _offsets_of(ranks, slot_offsets, most):  # type: ignore[no-untyped-def]
    """Number the slots of a cell rank after rank, at most `most` a rank: more would only hold experts twice."""
    offsets = np.zeros(ranks.size + 1, np.int64)
    for k in range(ranks.size):
        offsets[k + 1] = offsets[k] + min(slot_offsets[ranks[k] + 1] - slot_offsets[ranks[k]], most)
    return offsets


@part
def _plan_alone(scaled, everyone, ranks, costs, slot_offsets, tolerance, effort, seed, slots, counts):  # type: ignore[no-untyped-def]
    """Plan a layer as one cell; return the largest time and its bound."""
    offsets = _offsets_of(ranks, slot_offsets, scaled.size)
    items = np.empty(offsets[-1], np.int64)
    cell_counts = np.empty(scaled.size, np.int64)
    times = np.empty(ranks.size)
    by_load = np.empty(scaled.size, np.int64)
    shares = start_cell(scaled, offsets, costs, items, cell_counts, times, by_load)
    bound = simple_bound(scaled, by_load, cell_counts, offsets, costs)
    target = bound * (1 + tolerance)
    if effort[MAX_STEPS] > 0 and largest_of(times) > target:
        heaviest = largest_average(scaled, cell_counts)
        refine_only = np.zeros(effort.size, np.int64)
        refine_only[MAX_STEPS] = effort[MAX_STEPS]
        search_cell(
            scaled, by_load, offsets, costs, target, refine_only, seed, items, cell_counts, shares, times
        )
        if largest_of(times) > target:
            bound = max(bound, close_bound(scaled, offsets, costs, heaviest, largest_of(times)))
            target = bound * (1 + tolerance)
        if largest_of(times) > target:
            search_cell(scaled, by_load, offsets, costs, target, effort, seed, items, cell_counts, shares, times)
    largest = _write_cell(
        scaled, everyone, by_load, ranks, costs, offsets, slot_offsets, items, cell_counts, times, slots, counts
    )
    if offsets[-1] < _num_slots(ranks, slot_offsets):
        bound = total_of(scaled) / speed_of(costs)
    return largest, bound


@part
def _plan_grouped(  # type: ignore[no-untyped-def]
    scaled, ranks, costs, slot_offsets, node_starts, nodes, group_size, tolerance, effort, seed, slots, counts
):
    """Plan a layer whose expert groups stay on one node each, node by node; return the largest time and its bound."""
    num_nodes = len(nodes)
    node_of_group = np.empty(scaled.size // group_size, np.int64)
    floor, bound = spread_groups(scaled, group_size, nodes, effort[MAX_GROUP_BOUNDS], node_of_group)
    target = floor * (1 + tolerance)
    largest = 0.0
    for node in range(num_nodes):
        experts = np.empty(scaled.size, np.int64)
        size = 0
        for group in range(node_of_group.size):
            if node_of_group[group] == node:
                for k in range(group_size):
                    experts[size] = group * group_size + k
                    size += 1
        experts = experts[:size]
        loads = np.empty(size)
        for e in range(size):
            loads[e] = scaled[experts[e]]
        my_ranks, my_costs = ranks[node_starts[node] : node_starts[node + 1]], costs[node_starts[node] : node_starts[node + 1]]
        offsets = _offsets_of(my_ranks, slot_offsets, size)
        items = np.empty(offsets[-1], np.int64)
        cell_counts = np.empty(size, np.int64)
        times = np.empty(my_ranks.size)
        by_load = np.empty(size, np.int64)
        shares = start_cell(loads, offsets, my_costs, items, cell_counts, times, by_load)
        if effort[MAX_STEPS] > 0 and largest_of(times) > target:
            search_cell(loads, by_load, offsets, my_costs, target, effort, seed, items, cell_counts, shares, times)
        time = _write_cell(
            loads, experts, by_load, my_ranks, my_costs, offsets, slot_offsets, items, cell_counts, times, slots, counts
        )
        largest = max(largest, time)
    return largest, max(bound, total_of(scaled) / speed_of(costs))


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
