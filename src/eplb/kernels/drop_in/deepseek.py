"""DeepSeek's policy, one layer at a time: groups to nodes, replicas inside nodes, replicas to ranks."""

from __future__ import annotations

import numpy as np

from eplb.kernels.compiling import kernel, part
from eplb.kernels.drop_in.replication import FLOAT32_BITS, Floats, Ints, average, heap_of, replicate, rounded, sift_down


@part
def pack(keys: Floats, weights: Floats, bits: int, num_packs: int, packs: Ints, positions: Ints) -> None:
    """Put each item, largest key first, into the lightest pack with room; one item a pack keeps its own index."""
    capacity = weights.size // num_packs
    if capacity == 1:
        for item in range(weights.size):
            packs[item], positions[item] = item, 0
        return
    items = heap_of(keys)
    # Sums are kept negated, so that the heap, which puts the largest first, yields the lightest pack.
    negated_sums = np.zeros(num_packs, dtype=weights.dtype)
    open_packs = np.arange(num_packs)
    filled = np.zeros(num_packs, dtype=np.int64)
    num_open = num_packs
    for num_left in range(weights.size - 1, -1, -1):
        item, chosen = items[0], open_packs[0]
        packs[item], positions[item] = chosen, filled[chosen]
        filled[chosen] += 1
        negated_sums[chosen] -= weights[item]
        if bits < FLOAT32_BITS:
            negated_sums[chosen] = rounded(negated_sums[chosen], bits)
        items[0] = items[num_left]
        sift_down(items, keys, num_left, 0)
        if filled[chosen] == capacity:
            num_open -= 1
            open_packs[0] = open_packs[num_open]
        sift_down(open_packs, negated_sums, num_open, 0)


@kernel
def pack_layers(
    first: int, last: int, keys: Floats, weights: Floats, bits: int, num_packs: int, packs: Ints, positions: Ints
) -> None:
    """Run `pack` over the layers of a range."""
    for layer in range(first, last):
        pack(keys[layer], weights[layer], bits, num_packs, packs[layer], positions[layer])


@part
def experts_by_node(weights: Floats, num_groups: int, num_nodes: int) -> Ints:
    """Return the experts in the order of the nodes that their groups are packed to."""
    group_size = weights.size // num_groups
    sums = np.zeros(num_groups, dtype=weights.dtype)
    for expert in range(weights.size):
        sums[expert // group_size] += weights[expert]
    nodes, positions = np.empty(num_groups, dtype=np.int64), np.empty(num_groups, dtype=np.int64)
    pack(sums, sums, FLOAT32_BITS, num_nodes, nodes, positions)
    experts = np.empty(weights.size, dtype=np.int64)
    for expert in range(weights.size):
        group = expert // group_size
        place = nodes[group] * (num_groups // num_nodes) + positions[group]
        experts[place * group_size + expert % group_size] = expert
    return experts


@part
def place_on_node(
    weights: Floats, members: Ints, num_ranks: int, fix_up: bool, counts: Ints, experts: Ints, replicas: Ints
) -> None:
    """Replicate the `members` of one node into its slots and pack these to its ranks; fills the last three."""
    num_slots = experts.size
    node_weights = weights[members]
    node_counts = np.empty(members.size, dtype=np.int64)
    chosen, numbers = np.empty(num_slots, dtype=np.int64), np.empty(num_slots, dtype=np.int64)
    replicate(node_weights, fix_up, FLOAT32_BITS, node_counts, chosen, numbers)

    slot_weights = np.empty(num_slots, dtype=weights.dtype)
    for slot in range(num_slots):
        slot_weights[slot] = average(node_weights, chosen[slot], node_counts[chosen[slot]], FLOAT32_BITS)
    ranks, positions = np.empty(num_slots, dtype=np.int64), np.empty(num_slots, dtype=np.int64)
    pack(slot_weights, slot_weights, FLOAT32_BITS, num_ranks, ranks, positions)

    for slot in range(num_slots):
        place = ranks[slot] * (num_slots // num_ranks) + positions[slot]
        experts[place], replicas[place] = members[chosen[slot]], numbers[slot]
    for member in range(members.size):
        counts[members[member]] = node_counts[member]


@kernel
def rebalance_layers(
    first: int,
    last: int,
    weights: Floats,
    num_groups: int,
    num_nodes: int,
    num_ranks: int,
    fix_up: bool,
    counts: Ints,
    experts: Ints,
    replicas: Ints,
) -> None:
    """Plan the layers of a range; the global policy is the one with a single group and node."""
    node_experts, node_slots = weights.shape[1] // num_nodes, experts.shape[1] // num_nodes
    for layer in range(first, last):
        order = experts_by_node(weights[layer], num_groups, num_nodes)
        for node in range(num_nodes):
            members = order[node * node_experts : (node + 1) * node_experts]
            start, end = node * node_slots, (node + 1) * node_slots
            place_on_node(
                weights[layer],
                members,
                num_ranks // num_nodes,
                fix_up,
                counts[layer],
                experts[layer, start:end],
                replicas[layer, start:end],
            )


@kernel
def invert_layers(first: int, last: int, experts: Ints, replicas: Ints, slots: Ints) -> None:
    """Write the slot of every replica of the layers of a range into `slots` [L, E, X], which holds -1."""
    for layer in range(first, last):
        for slot in range(experts.shape[1]):
            slots[layer, experts[layer, slot], replicas[layer, slot]] = slot
