"""Slow, obvious twins of the drop-in functions, and exact oracles for the fix-up."""

from fractions import Fraction
from itertools import product
from math import ceil

import numpy as np


def greedy(row, total, dtype):
    """Grant replicas one by one; return (expert, number) of each as granted."""
    counts = [1] * len(row)
    granted = [(expert, 0) for expert in range(len(row))]
    while len(granted) < total:
        averages = [dtype(w) / dtype(c) for w, c in zip(row, counts, strict=True)]
        winner = averages.index(max(averages))
        granted.append((winner, counts[winner]))
        counts[winner] += 1
    return granted


def packed(row, num_packs, total_type):
    """Return (pack, place) of each item; pack weights are summed as `total_type`."""
    if num_packs == len(row):
        return [(item, 0) for item in range(len(row))]
    members = [[] for _ in range(num_packs)]
    totals = [total_type(0)] * num_packs
    where = {}
    for item in sorted(range(len(row)), key=lambda i: -np.float32(float(row[i]))):
        room = [p for p in range(num_packs) if len(members[p]) < len(row) // num_packs]
        lightest = min(room, key=lambda p: (totals[p], p))
        where[item] = (lightest, len(members[lightest]))
        members[lightest].append(item)
        totals[lightest] = total_type(totals[lightest] + total_type(row[item]))
    return [where[item] for item in range(len(row))]


def rebalanced_layer(row, num_slots, num_groups, num_nodes, num_ranks, by_expert):
    """Return (expert, replica) of each slot of one layer."""
    if num_groups % num_nodes:
        num_groups = num_nodes = 1
    row = [np.float32(w) for w in row]
    groups = np.arange(len(row)).reshape(num_groups, -1)
    sums = [sum((row[e] for e in group), np.float32(0)) for group in groups]
    homes = packed(sums, num_nodes, np.float32)
    slots = []
    for node in range(num_nodes):
        here = sorted((place, g) for g, (home, place) in enumerate(homes) if home == node)
        experts = [e for _, g in here for e in groups[g]]
        replicas = greedy([row[e] for e in experts], num_slots // num_nodes, np.float32)
        if by_expert:
            replicas = sorted(replicas)
        count = [sum(m == e for m, _ in replicas) for e in range(len(experts))]
        loads = [row[experts[m]] / np.float32(count[m]) for m, _ in replicas]
        places = packed(loads, num_ranks // num_nodes, np.float32)
        order = sorted(range(len(replicas)), key=lambda i: places[i])
        slots += [(int(experts[replicas[i][0]]), replicas[i][1]) for i in order]
    return slots


def rebalanced(weights, num_slots, num_groups, num_nodes, num_ranks, by_expert):
    """Return phy2log, log2phy and logcnt of all layers."""
    layers = [rebalanced_layer(row, num_slots, num_groups, num_nodes, num_ranks, by_expert) for row in weights]
    phy2log = np.array([[expert for expert, _ in slots] for slots in layers])
    logcnt = np.array([[list(row).count(e) for e in range(len(weights[0]))] for row in phy2log])
    log2phy = np.full((*logcnt.shape, logcnt.max()), -1)
    for layer, slots in enumerate(layers):
        for slot, (expert, replica) in enumerate(slots):
            log2phy[layer, expert, replica] = slot
    return phy2log, log2phy, logcnt


def averages(weights, counts):
    """Return the exact load of a replica of each expert."""
    return [Fraction(w) / int(c) for w, c in zip(weights, counts, strict=True)]


def optimum(weights, total):
    """Return the least possible largest average: the smallest bound that `total` replicas can keep."""
    bounds = sorted({Fraction(w) / c for w in weights for c in range(1, total + 1)})
    return next(bound for bound in bounds if sum(replicas_needed(weights, bound)) <= total)


def replicas_needed(weights, bound):
    """Return the fewest replicas of each expert that keep every average within `bound`."""
    return [1 if w <= bound else ceil(Fraction(w) / bound) if bound else 10**9 for w in weights]


def every_optimum(weights, total):
    """Return the least possible largest average by trying all counts."""
    tries = product(range(1, total + 1), repeat=len(weights))
    return min(max(averages(weights, counts)) for counts in tries if sum(counts) == total)


def published_move_helps(weights, counts, donor):
    """Return whether the published rule accepts `donor`: its replica goes to the lowest average, the maximum falls."""
    before = averages(weights, counts)
    after = list(counts)
    after[donor] -= 1
    after[before.index(min(before))] += 1
    return after[donor] >= 1 and max(averages(weights, after)) < max(before)


def published_donors(weights, counts):
    """Return the donors that "the highest average" may mean: of all experts, and of those with two replicas."""
    before = averages(weights, counts)
    able = [e for e, c in enumerate(counts) if c >= 2]
    of_all = [e for e in able if before[e] == max(before)]
    return of_all + [e for e in able if before[e] == max(before[d] for d in able)]
