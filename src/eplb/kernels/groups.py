"""Which node gets which expert groups, so that the node that needs longest needs least."""

import numpy as np

from eplb.kernels.compiling import kernel, part
from eplb.kernels.counts import highest_averages
from eplb.kernels.ordering import order_descending
from eplb.kernels.scaling import scale_loads
from eplb.kernels.totals import NONE, first_largest, largest_of

MEMO_GROUPS = 12


@part
def node_bound(loads, group_size, members, num_members, num_slots, num_ranks, speed, fastest):  # type: ignore[no-untyped-def]
    """Bound the largest rank time of a node that holds the groups ``members[:num_members]``: its mean, its averages."""
    size = num_members * group_size
    mine = np.empty(size)
    total = 0.0
    for m in range(num_members):
        for k in range(group_size):
            load = loads[members[m] * group_size + k]
            mine[m * group_size + k] = load
            total += load
    order = np.empty(size, np.int64)
    order_descending(mine, order, np.empty(size, np.int64))
    counts = np.empty(size, np.int64)
    average = highest_averages(mine, order, num_slots, num_ranks, np.empty(0, np.int64), counts)
    return max(total / speed, average / fastest)


@kernel
def spread_layers(first, last, loads, group_size, nodes, max_bounds, node_of_group, floors):  # type: ignore[no-untyped-def]
    """Fill `node_of_group` [L, G] and `floors` [L, 2] for the layers `first` to `last` - 1 of `loads` [L, E].

    A floor is a bound on the largest rank time, of this choice of nodes and of every choice, for the scaled loads.
    """
    scaled = np.empty(loads.shape[1])
    for layer in range(first, last):
        scale_loads(loads[layer], scaled)
        mine, any_choice = spread_groups(scaled, group_size, nodes, max_bounds, node_of_group[layer])
        floors[layer, 0], floors[layer, 1] = mine, any_choice


@part
def spread_groups(loads, group_size, nodes, max_bounds, node_of_group):  # type: ignore[no-untyped-def]
    """Fill `node_of_group` [G]; return the largest node bound of this choice, and a bound that holds for every choice.

    `nodes` [N, 5] holds for each node its slots, ranks, least number of groups, total speed and fastest speed. Groups
    go by falling load to the node that then needs least; then groups are swapped while that helps; then branch and
    bound looks through all that is left, as long as `max_bounds` node bounds suffice: the two bounds are then equal.
    """
    num_groups, num_nodes = node_of_group.size, len(nodes)
    totals = np.zeros(num_groups)
    for group in range(num_groups):
        for k in range(group_size):
            totals[group] += loads[group * group_size + k]
    order = np.empty(num_groups, np.int64)
    order_descending(totals, order, np.empty(num_groups, np.int64))
    members = np.empty((num_nodes, num_groups), np.int64)
    sizes = np.zeros(num_nodes, np.int64)
    bounds = np.zeros(num_nodes)
    used = 0
    for k in range(num_groups):
        best, best_bound = NONE, np.inf
        for node in range(num_nodes):
            if not _may_take(nodes, sizes, node, group_size, num_groups - k):
                continue
            members[node, sizes[node]] = order[k]
            bound = _bound(loads, group_size, nodes, members, node, sizes[node] + 1)
            if bound < best_bound:
                best, best_bound = node, bound
        members[best, sizes[best]] = order[k]
        sizes[best] += 1
        bounds[best] = best_bound
    while used < max_bounds:
        better, tried = _exchange_groups(loads, group_size, nodes, members, sizes, bounds)
        used += tried
        if not better:
            break
    for node in range(num_nodes):
        for m in range(sizes[node]):
            node_of_group[members[node, m]] = node
    return _branch_and_bound(loads, group_size, nodes, order, largest_of(bounds), max_bounds - used, node_of_group)


@part
def _bound(loads, group_size, nodes, members, node, size):  # type: ignore[no-untyped-def]
    slots, num_ranks, speed, fastest = np.int64(nodes[node, 0]), np.int64(nodes[node, 1]), nodes[node, 3], nodes[node, 4]
    return node_bound(loads, group_size, members[node], np.int64(size), slots, num_ranks, speed, fastest)


@part
def _may_take(nodes, sizes, node, group_size, left):  # type: ignore[no-untyped-def]
    """Whether `node` may take one of the `left` groups: it has room, and all nodes can still get what they want."""
    if (sizes[node] + 1) * group_size > nodes[node, 0]:
        return False
    short = 0
    for other in range(len(nodes)):
        short += max(0, int(nodes[other, 2]) - sizes[other] - (1 if other == node else 0))
    return short <= left - 1


@part
def _exchange_groups(loads, group_size, nodes, members, sizes, bounds):  # type: ignore[no-untyped-def]
    """Swap a group of the slowest node with another, if both nodes end below its bound; whether one did, bounds tried."""
    top = first_largest(bounds)
    tried = 0
    best, best_mine, best_node, best_theirs = bounds[top] * (1 - 1e-12), NONE, NONE, NONE
    for node in range(len(nodes)):
        if node == top:
            continue
        for mine in range(sizes[top]):
            for theirs in range(sizes[node]):
                members[top, mine], members[node, theirs] = members[node, theirs], members[top, mine]
                worse = _bound(loads, group_size, nodes, members, top, sizes[top])
                tried += 1
                if worse < best:
                    worse = max(worse, _bound(loads, group_size, nodes, members, node, sizes[node]))
                    tried += 1
                    if worse < best:
                        best, best_mine, best_node, best_theirs = worse, mine, node, theirs
                members[top, mine], members[node, theirs] = members[node, theirs], members[top, mine]
    if best_node < 0:
        return False, tried
    given, taken = members[top, best_mine], members[best_node, best_theirs]
    members[top, best_mine], members[best_node, best_theirs] = taken, given
    bounds[top] = _bound(loads, group_size, nodes, members, top, sizes[top])
    bounds[best_node] = _bound(loads, group_size, nodes, members, best_node, sizes[best_node])
    return True, tried


@part
def _alike(nodes, a, b):  # type: ignore[no-untyped-def]
    for column in range(nodes.shape[1]):
        if nodes[a, column] != nodes[b, column]:
            return False
    return True


@part
def _branch_and_bound(loads, group_size, nodes, order, best, max_bounds, node_of_group):  # type: ignore[no-untyped-def]
    """Look through all choices of nodes that could beat `best`; return the best bound, and one that holds for all."""
    num_groups, num_nodes = order.size, len(nodes)
    members = np.empty((num_nodes, num_groups), np.int64)
    sizes = np.zeros(num_nodes, np.int64)
    choice = np.zeros(num_groups, np.int64) - 1
    memo = np.zeros((num_nodes, 1 << num_groups if num_groups <= MEMO_GROUPS else 0))  # 0: not known yet
    floor = 0.0
    for group in range(num_groups):
        members[0, 0] = group
        least = np.inf
        for node in range(num_nodes):
            members[node, 0] = group
            least = min(least, _bound(loads, group_size, nodes, members, node, np.int64(1)))
        floor = max(floor, least)
    depth, used = 0, 0
    while depth >= 0:
        if best <= floor:
            return best, best
        node = choice[depth]
        if node >= 0:
            sizes[node] -= 1
        node += 1
        placed = False
        while node < num_nodes and not placed:
            twin = False
            for earlier in range(node):
                twin = twin or (sizes[earlier] == 0 and sizes[node] == 0 and _alike(nodes, earlier, node))
            if not twin and _may_take(nodes, sizes, node, group_size, num_groups - depth):
                members[node, sizes[node]] = order[depth]
                mask = 0
                for m in range(sizes[node] + 1):
                    mask |= 1 << (members[node, m] & 31)
                known = memo[node, mask] if memo.shape[1] > 0 else 0.0
                if known == 0.0:
                    if used >= max_bounds:
                        return best, floor
                    used += 1
                    known = _bound(loads, group_size, nodes, members, node, sizes[node] + 1)
                    if memo.shape[1] > 0:
                        for same in range(num_nodes):
                            if _alike(nodes, same, node):
                                memo[same, mask] = known
                placed = known < best
            if not placed:
                node += 1
        if not placed:
            choice[depth] = -1
            depth -= 1
            continue
        choice[depth] = node
        sizes[node] += 1
        if depth + 1 < num_groups:
            depth += 1
            continue
        best = 0.0
        for other in range(num_nodes):
            mask = 0
            for m in range(sizes[other]):
                mask |= 1 << (members[other, m] & 31)
            known = memo[other, mask] if memo.shape[1] > 0 else 0.0
            best = max(best, known if known > 0.0 else _bound(loads, group_size, nodes, members, other, sizes[other]))
        for k in range(num_groups):
            node_of_group[order[k]] = choice[k]
    return best, best
