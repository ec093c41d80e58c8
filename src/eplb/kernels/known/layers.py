"""The entry of the planner: every layer from loads to slots, counts, largest time and bound."""

import math

import numpy as np

from eplb.kernels.arrays import Cell, Floats, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.known.bounds import simple_bound
from eplb.kernels.known.cell import MAX_STEPS, search_cell, start_cell
from eplb.kernels.scaling import scale_loads
from eplb.kernels.totals import largest_of, speed_of, total_of

# columns of `stats`
MEAN, LARGEST, BOUND = 0, 1, 2


@kernel
def plan_layers(
    first: int,
    last: int,
    loads: Floats,
    slot_offsets: Ints,
    ranks: Ints,
    costs: Floats,
    node_starts: Ints,
    choices: Ints,
    choice_bounds: Floats,
    floors: Floats,
    tolerance: float,
    effort: Ints,
    seed: int,
    slots: Ints,
    counts: Ints,
    stats: Floats,
) -> None:
    """Plan the layers `first` to `last` - 1 of `loads` [L, E] into `slots` [L, P], `counts` [L, E], `stats` [L, 3].

    `ranks` are the ranks that work, node after node (node n has those from ``node_starts[n]``), `costs` their time for
    a token, `slot_offsets` [R + 1] the first slot of every rank. `choices` [L, K, G], `choice_bounds` [L, K] and
    `floors` [L] come from `groups.spread_layers`; without groups, all ranks are one node and all experts one group.
    The choices are planned one after another as long as their bound leaves something to gain.
    """
    num_experts = loads.shape[1]
    num_nodes = node_starts.size - 1
    speed = speed_of(costs)
    scaled = np.empty(num_experts)
    trial_slots = np.empty(slots.shape[1], np.int32)
    trial_counts = np.empty(num_experts, np.int32)
    for layer in range(first, last):
        zero, exponent = scale_loads(loads[layer], scaled)
        mean = total_of(scaled) / speed
        best, bound = np.inf, max(floors[layer], mean)
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
                cell = start_cell(mine, offsets, my_costs)
                cell_bound = simple_bound(cell)
                target = max(choice_bounds[layer, k], cell_bound) * (1 + tolerance)
                if effort[MAX_STEPS] > 0 and largest_of(cell.times) > target:
                    heaviest = largest_of(cell.shares)
                    close = search_cell(cell, target, tolerance, heaviest, effort, _mix(seed, layer, node))
                    cell_bound = max(cell_bound, close)
                if num_nodes == 1 and offsets[-1] == _num_slots(my_ranks, slot_offsets):
                    bound = max(bound, cell_bound)
                time = _write_cell(cell, experts, my_ranks, slot_offsets, trial_slots, trial_counts)
                largest = max(largest, time)
            if largest < best:
                best = largest
                _keep_layer(ranks, slot_offsets, trial_slots, trial_counts, slots[layer], counts[layer])
        unit = 0.0 if zero else 1.0
        stats[layer, MEAN] = math.ldexp(unit * mean, exponent)
        stats[layer, LARGEST] = math.ldexp(unit * best, exponent)
        stats[layer, BOUND] = math.ldexp(unit * min(bound, best), exponent)


@part
def _keep_layer(
    ranks: Ints, slot_offsets: Ints, trial_slots: Ints, trial_counts: Ints, slots: Ints, counts: Ints
) -> None:
    for rank in ranks:
        for slot in range(slot_offsets[rank], slot_offsets[rank + 1]):
            slots[slot] = trial_slots[slot]
    for expert in range(counts.size):
        counts[expert] = trial_counts[expert]


@part
def _mix(seed: int, layer: int, node: int) -> int:
    """Return a seed of its own for each cell, never 0 (the finaliser of splitmix64)."""
    x = np.uint64(seed) + np.uint64((layer << 20) + node + 1) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return x if x != np.uint64(0) else np.uint64(1)


@part
def _experts_of(node: int, node_of_group: Ints, num_experts: int) -> Ints:
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
def _offsets_of(ranks: Ints, slot_offsets: Ints, most: int) -> Ints:
    """Number the slots of a cell rank after rank, at most `most` a rank: more would only hold experts twice."""
    offsets = np.zeros(ranks.size + 1, np.int64)
    for k in range(ranks.size):
        offsets[k + 1] = offsets[k] + min(slot_offsets[ranks[k] + 1] - slot_offsets[ranks[k]], most)
    return offsets


@part
def _num_slots(ranks: Ints, slot_offsets: Ints) -> int:
    total = 0
    for rank in ranks:
        total += slot_offsets[rank + 1] - slot_offsets[rank]
    return total


@part
def _write_cell(cell: Cell, experts: Ints, ranks: Ints, slot_offsets: Ints, slots: Ints, counts: Ints) -> float:
    """Write a cell's slots and counts into those of the layer; return the largest time.

    Slots beyond one for each expert of the cell hold the lightest experts once more: the same ones on every rank.
    """
    num_experts = experts.size
    crowded = False
    for k in range(ranks.size):
        start = slot_offsets[ranks[k]]
        size = cell.offsets[k + 1] - cell.offsets[k]
        for i in range(size):
            slots[start + i] = experts[cell.items[cell.offsets[k] + i]]
        for i in range(start + size, slot_offsets[ranks[k] + 1]):
            crowded = True
            again = cell.by_load[num_experts - 1 - (i - start - size) % num_experts]
            slots[i] = experts[again]
            cell.counts[again] += 1
    for e in range(num_experts):
        counts[experts[e]] = cell.counts[e]
    if not crowded:
        return largest_of(cell.times)
    share_of = np.zeros(counts.size)
    for e in range(num_experts):
        share_of[experts[e]] = cell.loads[e] / cell.counts[e]
    largest = 0.0
    for k in range(ranks.size):
        load = 0.0
        for i in range(slot_offsets[ranks[k]], slot_offsets[ranks[k] + 1]):
            load += share_of[slots[i]]
        largest = max(largest, load * cell.costs[k])
    return largest
