"""A placement carried over to another machine: what is still there stays, what was lost comes first."""

import numpy as np

from eplb.kernels.arrays import Bools, Floats, Ints
from eplb.kernels.compiling import kernel, part
from eplb.kernels.totals import NONE


@kernel
def carry_layers(
    first: int,
    last: int,
    loads: Floats,
    held: Ints,
    held_offsets: Ints,
    offsets: Ints,
    costs: Floats,
    nodes: Ints,
    homes: Ints,
    fill: bool,
    items: Ints,
    lost: Bools,
) -> None:
    """Fill `items` [L, P] from what the ranks `held` [L, P'] (-1: nothing), and `lost` [L, E], who had no replica left.

    Ranks keep their experts, slot by slot where they fit; of too many, those with most replicas and least load go.
    Experts that nobody holds then get a free slot on the rank with least time, the heaviest first; if there is none,
    the slot of a replica whose expert can best spare it. Slots still free get a further replica where highest averages
    say so (`fill`), or hold again what their rank has, which takes no move.
    """
    num_experts = loads.shape[1]
    num_ranks = offsets.size - 1
    for layer in range(first, last):
        group_size = num_experts // homes.shape[1]
        row, slots = loads[layer], items[layer]
        counts = np.zeros(num_experts, np.int64)
        for slot in range(held.shape[1]):
            if held[layer, slot] >= 0:
                counts[held[layer, slot]] += 1
        for rank in range(num_ranks):
            old = held[layer, held_offsets[rank] : held_offsets[rank + 1]].copy()
            _shrink(old, offsets[rank + 1] - offsets[rank], row, counts)
            _keep(old, slots[offsets[rank] : offsets[rank + 1]])
        _count(slots, counts)
        for expert in range(num_experts):
            lost[layer, expert] = counts[expert] == 0
        while True:
            expert = _heaviest_lost(row, counts)
            if expert < 0:
                break
            home = homes[layer, expert // group_size]
            slot = _free_slot(slots, offsets, costs, nodes, home, row, counts, NONE)
            if slot < 0:
                slot = _spare_slot(slots, offsets, nodes, home, row, counts)
                if slot < 0:
                    break
                counts[slots[slot]] -= 1
            slots[slot] = expert
            counts[expert] += 1
        for _ in range(slots.size if fill else 0):
            if not _fill_one(slots, offsets, costs, nodes, homes[layer], row, counts):
                break
        for rank in range(num_ranks):
            _repeat(slots[offsets[rank] : offsets[rank + 1]], nodes[rank], homes[layer], row, counts)


@part
def _shrink(old: Ints, room: int, loads: Floats, counts: Ints) -> None:
    """Turn entries of `old` to -1 until at most `room` are left."""
    size = 0
    for expert in old:
        size += 1 if expert >= 0 else 0
    for _ in range(size - room):
        worst = NONE
        for k in range(old.size):
            if old[k] < 0:
                continue
            if worst < 0 or _more_spare(old[k], old[worst], loads, counts):
                worst = k
        counts[old[worst]] -= 1
        old[worst] = -1


@part
def _more_spare(expert: int, other: int, loads: Floats, counts: Ints) -> bool:
    """Whether `expert` can spare a replica better than `other`: it has one to spare, and less load each afterwards."""
    if (counts[expert] > 1) != (counts[other] > 1):
        return bool(counts[expert] > 1)
    return bool(loads[expert] / max(1, counts[expert] - 1) < loads[other] / max(1, counts[other] - 1))


@part
def _keep(old: Ints, slots: Ints) -> None:
    """Copy what is left of `old` into `slots`: to the same place where there is one, the rest into gaps."""
    slots[:] = -1
    for k in range(min(old.size, slots.size)):
        slots[k] = old[k]
    gap = 0
    for k in range(slots.size, old.size):
        if old[k] < 0:
            continue
        while slots[gap] >= 0:
            gap += 1
        slots[gap] = old[k]


@part
def _count(slots: Ints, counts: Ints) -> None:
    counts[:] = 0
    for expert in slots:
        if expert >= 0:
            counts[expert] += 1


@part
def _heaviest_lost(loads: Floats, counts: Ints) -> int:
    best = NONE
    for expert in range(loads.size):
        if counts[expert] == 0 and (best < 0 or loads[expert] > loads[best]):
            best = expert
    return best


@part
def _free_slot(
    slots: Ints, offsets: Ints, costs: Floats, nodes: Ints, home: int, loads: Floats, counts: Ints, expert: int
) -> int:
    """Return a free slot of the rank with least time, at `home` and without `expert`; -1 if there is none."""
    best, least = NONE, np.inf
    for rank in range(costs.size):
        if home >= 0 and nodes[rank] != home:
            continue
        free, time, has = NONE, 0.0, False
        for slot in range(offsets[rank], offsets[rank + 1]):
            if slots[slot] < 0:
                free = slot if free < 0 else free
            else:
                time += loads[slots[slot]] / counts[slots[slot]] * costs[rank]
                has = has or slots[slot] == expert
        if free >= 0 and not has and time < least:
            best, least = free, time
    return best


@part
def _spare_slot(slots: Ints, offsets: Ints, nodes: Ints, home: int, loads: Floats, counts: Ints) -> int:
    """Return the slot at `home` whose expert can best spare a replica; -1 if none can."""
    best = NONE
    for rank in range(nodes.size):
        if home >= 0 and nodes[rank] != home:
            continue
        for slot in range(offsets[rank], offsets[rank + 1]):
            if slots[slot] < 0 or counts[slots[slot]] < 2:
                continue
            if best < 0 or _more_spare(slots[slot], slots[best], loads, counts):
                best = slot
    return best


@part
def _fill_one(slots: Ints, offsets: Ints, costs: Floats, nodes: Ints, homes: Ints, loads: Floats, counts: Ints) -> bool:
    """Give a free slot to the expert with the largest average that a rank with room lacks; whether there was one."""
    tried = np.zeros(loads.size, np.bool_)
    for _ in range(loads.size):
        expert = NONE
        for e in range(loads.size):
            if not tried[e] and (expert < 0 or loads[e] / counts[e] > loads[expert] / counts[expert]):
                expert = e
        tried[expert] = True
        home = homes[expert * homes.size // loads.size]
        slot = _free_slot(slots, offsets, costs, nodes, home, loads, counts, expert)
        if slot >= 0:
            slots[slot] = expert
            counts[expert] += 1
            return True
        if counts[expert] == 0:
            return False
    return False


@part
def _repeat(slots: Ints, node: int, homes: Ints, loads: Floats, counts: Ints) -> None:
    """Let free slots of a rank hold again its lightest expert; if it has none, the largest average allowed there."""
    for k in range(slots.size):
        if slots[k] >= 0:
            continue
        best = NONE
        for expert in slots:
            if expert >= 0 and (best < 0 or loads[expert] < loads[best]):
                best = expert
        if best < 0:
            for expert in range(loads.size):
                home = homes[expert * homes.size // loads.size]
                if home >= 0 and home != node:
                    continue
                if best < 0 or loads[expert] / counts[expert] > loads[best] / counts[best]:
                    best = expert
        slots[k] = best
        counts[best] += 1
