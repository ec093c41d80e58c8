"""Slow, obvious twins of replica choice, and brute force as the oracle of locality."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np

ONE = 2**40
GOLDEN, ROOT_3, ROOT_2 = (math.sqrt(5) - 1) / 2, math.sqrt(3) - 1, math.sqrt(2) - 1


def even(ids, slots_of):
    """Return slots [T, k]: the hash of the token's number picks among the slots of the expert."""
    return [
        [slots_of[e][t * 2654435769 % 2**32 % len(slots_of[e])] if 0 <= e < len(slots_of) else -1 for e in token]
        for t, token in enumerate(ids)
    ]


def by_quotas(ids, slots_of, quotas):
    """Return slots [T, k]: each expert serves the first slot that has not had its quota, and after all the last."""
    left = [list(row) for row in quotas]
    return [[_serve(slots_of[e], left[e]) if 0 <= e < len(slots_of) else -1 for e in token] for token in ids]


def _serve(slots, left):
    j = next((j for j in range(len(slots)) if left[j] > 0), len(slots) - 1)
    left[j] -= 1
    return slots[j]


def counts(ids, num_experts):
    """Return how often each expert occurs."""
    found = Counter(int(e) for token in ids for e in token)
    return [found[e] for e in range(num_experts)]


def soundness(ids, num_experts):
    """Return whether ids are experts or -1, and the experts of a token differ."""
    for token in ids:
        experts = [int(e) for e in token if e != -1]
        if len(set(experts)) < len(experts) or not all(0 <= e < num_experts for e in experts):
            return False
    return True


def remainder(expert, step, source_rank):
    """Return what is added before rounding down, in units of 2**-40."""
    turns = (source_rank, GOLDEN), (step, ROOT_3), (expert, ROOT_2)
    return (ONE // 2 + sum(n * round(ONE * turn) for n, turn in turns)) % ONE


def weighted(count, weights, rest):
    """Return the quotas of an expert's replicas: differences of floor(count * cumulative weight + rest)."""
    total, before, quotas = sum(Fraction(w) for w in weights), 0, []
    for j in range(len(weights)):
        share = round(sum(Fraction(w) for w in weights[: j + 1]) / total * ONE)
        now = (count * share + rest) // ONE
        quotas.append(now - before)
        before = now
    return quotas


def source_parts(source_counts, quotas):
    """Return the quotas of each source for one expert, [G, X]: the sources in order fill the replicas in order."""
    return _fill(list(source_counts), list(quotas), lambda source, j: True)


def local_first(source_counts, quotas, ranks, nodes):
    """Return the quotas of each source for one expert, [R, X]: own rank, then own node, then anywhere."""
    supply, demand = list(source_counts), list(quotas)
    stages = (
        lambda source, j: source == ranks[j],
        lambda source, j: nodes[source] == nodes[ranks[j]],
        lambda source, j: True,
    )
    return sum(_fill(supply, demand, near) for near in stages)


def _fill(supply, demand, near):
    """Move tokens one at a time, for each replica in order from the first source within reach that has one left."""
    sent = np.zeros((len(supply), len(demand)), dtype=np.int64)
    for j in range(len(demand)):
        for source in range(len(supply)):
            while near(source, j) and supply[source] > 0 and demand[j] > 0:
                supply[source] -= 1
                demand[j] -= 1
                sent[source, j] += 1
    return sent


def most_local(source_counts, quotas, ranks, nodes):
    """Return the most tokens that can stay on their rank, and of those ways the most on their node, by trying all."""
    return max(
        (
            sum(n for source, row in enumerate(sent) for n, rank in zip(row, ranks, strict=True) if source == rank),
            sum(
                n
                for source, row in enumerate(sent)
                for n, rank in zip(row, ranks, strict=True)
                if nodes[source] == nodes[rank]
            ),
        )
        for sent in _all_ways(tuple(source_counts), tuple(quotas))
    )


def _all_ways(rows, columns):
    """Yield every matrix of whole numbers >= 0 with these sums, as a tuple of rows."""
    if not rows:
        yield ()
        return
    for row in itertools.product(*(range(min(rows[0], most) + 1) for most in columns)):
        if sum(row) == rows[0]:
            for rest in _all_ways(rows[1:], tuple(most - n for most, n in zip(columns, row, strict=True))):
                yield (row, *rest)
