"""Which node gets which expert groups, so that the node that needs longest needs least."""

import numpy as np

from eplb.kernels.arrays import Floats, Grouping, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.counts import highest_averages, largest_average
from eplb.kernels.ordering import order_descending
from eplb.kernels.scaling import scale_loads
from eplb.kernels.totals import NONE, first_largest, largest_of

MEMO_GROUPS = 12


@part
def node_bound(
    loads: Floats,
    group_size: int,
    members: Ints,
    num_members: int,
    num_slots: int,
    num_ranks: int,
    speed: float,
    fastest: float,
    rest: float,
) -> float:
    """Bound the largest rank time of a node that holds the groups ``members[:num_members]``: its mean, its averages.

    `rest` is a load that the node has besides.
    """
    size = num_members * group_size
    mine = np.empty(size)
    total = rest
    for m in range(num_members):
        for k in range(group_size):
            load = loads[members[m] * group_size + k]
            mine[m * group_size + k] = load
            total += load
    order = np.empty(size, np.int64)
    order_descending(mine, order, np.empty(size, np.int64))
    counts = np.empty(size, np.int64)
    highest_averages(mine, order, num_slots, num_ranks, np.empty(0, np.int64), counts)
    return max(total / speed, largest_average(mine, counts) / fastest)


@kernel
def spread_layers(
    first: int,
    last: int,
    loads: Floats,
    group_size: int,
    nodes: Floats,
    max_visits: int,
    choices: Ints,
    bounds: Floats,
    floors: Floats,
) -> None:
    """Choose nodes for the groups of the layers `first` to `last` - 1 of `loads` [L, E], several ways.

    Fills `choices` [L, K, G] with the node of each group, `bounds` [L, K] with the largest node bound of each choice,
    the least first (infinite where there are fewer choices), and `floors` [L] with a bound that holds for every
    choice; all for the scaled loads.
    """
    scaled = np.empty(loads.shape[1])
    for layer in range(first, last):
        scale_loads(loads[layer], scaled)
        floors[layer] = spread_groups(scaled, group_size, nodes, max_visits, choices[layer], bounds[layer])


@part
def spread_groups(
    loads: Floats, group_size: int, nodes: Floats, max_visits: int, choices: Ints, bounds: Floats
) -> float:
    """Fill `choices` [K, G] and `bounds` [K] with the best choices found; return a bound that holds for every choice.

    `nodes` is explained at `Grouping`. Groups go by falling load to the node that then needs least; then groups are
    swapped while that helps; then branch and bound looks through all that is left, as long as `max_visits` suffice: the
    least bound is then the returned one.
    """
    num_groups, num_nodes = choices.shape[1], len(nodes)
    totals = np.zeros(num_groups)
    for group in range(num_groups):
        for k in range(group_size):
            totals[group] += loads[group * group_size + k]
    order = np.empty(num_groups, np.int64)
    order_descending(totals, order, np.empty(num_groups, np.int64))
    light = np.zeros(num_groups + 1)
    for k in range(num_groups):
        light[k + 1] = light[k] + totals[order[num_groups - 1 - k]]
    memo = np.zeros((num_nodes, 1 << num_groups if num_groups <= MEMO_GROUPS else 0))
    grouping = Grouping(loads, group_size, nodes, light, memo)
    members = np.empty((num_nodes, num_groups), np.int64)
    sizes = np.zeros(num_nodes, np.int64)
    needs = np.zeros(num_nodes)
    for k in range(num_groups):
        best, least = NONE, np.inf
        for node in range(num_nodes):
            if not _may_take(grouping, sizes, node, num_groups - k):
                continue
            members[node, sizes[node]] = order[k]
            need = _bound(grouping, members, node, sizes[node] + 1)
            if need < least:
                best, least = node, need
        members[best, sizes[best]] = order[k]
        sizes[best] += 1
        needs[best] = least
    while max_visits > 0:
        better, tried = _exchange_groups(grouping, members, sizes, needs, max_visits)
        max_visits -= tried
        if not better:
            break
    for k in range(bounds.size):
        bounds[k] = np.inf
    choice = np.empty(num_groups, np.int64)
    for node in range(num_nodes):
        for m in range(sizes[node]):
            choice[members[node, m]] = node
    _keep_choice(choice, largest_of(needs), choices, bounds)
    return _branch_and_bound(grouping, order, max_visits, choices, bounds)


@part
def _keep_choice(choice: Ints, bound: float, choices: Ints, bounds: Floats) -> None:
    """Insert a choice among the best ones, by bound, unless it is one of them."""
    last = bounds.size - 1
    if bound >= bounds[last]:
        return
    for k in range(last + 1):
        same = bounds[k] < np.inf
        for group in range(choice.size):
            same = same and choices[k, group] == choice[group]
        if same:
            return
    while last > 0 and bounds[last - 1] > bound:
        bounds[last] = bounds[last - 1]
        for group in range(choice.size):
            choices[last, group] = choices[last - 1, group]
        last -= 1
    bounds[last] = bound
    for group in range(choice.size):
        choices[last, group] = choice[group]


@part
def _fresh_bound(grouping: Grouping, members: Ints, node: int, size: int) -> float:
    """Bound the largest rank time of `node` with the first `size` of its members and as many more as it must get."""
    nodes = grouping.nodes
    more = max(np.int64(nodes[node, 2]) - size, 0)
    slots, num_ranks = np.int64(nodes[node, 0]) - more * grouping.group_size, np.int64(nodes[node, 1])
    return node_bound(
        grouping.loads,
        grouping.group_size,
        members[node],
        np.int64(size),
        slots,
        num_ranks,
        nodes[node, 3],
        nodes[node, 4],
        grouping.light[more],
    )


@part
def _bound(grouping: Grouping, members: Ints, node: int, size: int) -> float:
    """Return the bound of a node, remembered where there is room to; nodes that are alike share it."""
    memo = grouping.memo
    if memo.shape[1] == 0:
        return _fresh_bound(grouping, members, node, size)
    mask = 0
    for m in range(size):
        mask |= 1 << members[node, m]
    like = node
    while like > 0 and _alike(grouping.nodes, like - 1, node):
        like -= 1
    if memo[like, mask] == 0.0:
        memo[like, mask] = _fresh_bound(grouping, members, node, size)
    return memo[like, mask]


@part
def _may_take(grouping: Grouping, sizes: Ints, node: int, left: int) -> bool:
    """Whether `node` may take one of the `left` groups: it has room, and all nodes can still get what they want."""
    if (sizes[node] + 1) * grouping.group_size > grouping.nodes[node, 0]:
        return False
    short = 0
    for other in range(sizes.size):
        short += max(0, int(grouping.nodes[other, 2]) - sizes[other] - (1 if other == node else 0))
    return short <= left - 1


@part
def _exchange_groups(
    grouping: Grouping, members: Ints, sizes: Ints, bounds: Floats, max_visits: int
) -> tuple[bool, int]:
    """Swap a group of the slowest node with another, if both end below its bound; whether one did, and bounds tried."""
    top = first_largest(bounds)
    tried = 0
    best, best_mine, best_node, best_theirs = bounds[top] * (1 - 1e-12), NONE, NONE, NONE
    for node in range(sizes.size):
        if node == top:
            continue
        for mine in range(sizes[top]):
            for theirs in range(sizes[node]):
                if tried >= max_visits:
                    break
                members[top, mine], members[node, theirs] = members[node, theirs], members[top, mine]
                worse = _bound(grouping, members, top, sizes[top])
                tried += 1
                if worse < best:
                    worse = max(worse, _bound(grouping, members, node, sizes[node]))
                    tried += 1
                    if worse < best:
                        best, best_mine, best_node, best_theirs = worse, mine, node, theirs
                members[top, mine], members[node, theirs] = members[node, theirs], members[top, mine]
    if best_node < 0:
        return False, tried
    given, taken = members[top, best_mine], members[best_node, best_theirs]
    members[top, best_mine], members[best_node, best_theirs] = taken, given
    bounds[top] = _bound(grouping, members, top, sizes[top])
    bounds[best_node] = _bound(grouping, members, best_node, sizes[best_node])
    return True, tried


@part
def _alike(nodes: Floats, a: int, b: int) -> bool:
    for column in range(nodes.shape[1]):
        if nodes[a, column] != nodes[b, column]:
            return False
    return True


@part
def _least_bound(grouping: Grouping, members: Ints, num_groups: int) -> float:
    """Return what even the group that needs most needs when it is alone on its best node."""
    floor = 0.0
    for group in range(num_groups):
        least = np.inf
        for node in range(len(grouping.nodes)):
            members[node, 0] = group
            least = min(least, _bound(grouping, members, node, np.int64(1)))
        floor = max(floor, least)
    return floor


@part
def _branch_and_bound(grouping: Grouping, order: Ints, max_visits: int, choices: Ints, bounds: Floats) -> float:
    """Look through all choices of nodes that could be among the best; return a bound that holds for every choice."""
    num_groups, num_nodes = order.size, len(grouping.nodes)
    members = np.empty((num_nodes, num_groups), np.int64)
    sizes = np.zeros(num_nodes, np.int64)
    floor = _least_bound(grouping, members, num_groups)
    path = np.zeros(num_groups, np.int64) - 1
    needs = np.zeros(num_groups + 1)
    choice = np.empty(num_groups, np.int64)
    depth = 0
    while depth >= 0:
        node = path[depth]
        if node >= 0:
            sizes[node] -= 1
        node += 1
        placed = False
        while node < num_nodes and not placed:
            twin = False
            for earlier in range(node):
                twin = twin or (sizes[earlier] == 0 and sizes[node] == 0 and _alike(grouping.nodes, earlier, node))
            if not twin and _may_take(grouping, sizes, node, num_groups - depth):
                if max_visits <= 0:
                    return min(bounds[0], floor)
                max_visits -= 1
                members[node, sizes[node]] = order[depth]
                need = _bound(grouping, members, node, sizes[node] + 1)
                needs[depth + 1] = max(needs[depth], need)
                placed = needs[depth + 1] < bounds[bounds.size - 1]
            if not placed:
                node += 1
        if not placed:
            path[depth] = -1
            depth -= 1
            continue
        path[depth] = node
        sizes[node] += 1
        if depth + 1 < num_groups:
            depth += 1
            continue
        for k in range(num_groups):
            choice[order[k]] = path[k]
        _keep_choice(choice, needs[num_groups], choices, bounds)
    return bounds[0]
