"""Transfers the slow way: who needs what, and the best choices of sources by brute force and by integer programs."""

import itertools

import numpy as np
import pytest

from eplb import Topology


def pairs_of(row, topology):
    """Return the pairs (rank, expert) of the slots of one layer."""
    return {(int(r), int(e)) for r, e in zip(topology.rank_of_slot, row, strict=True) if e >= 0}


def needs_of(before, after, topology):
    """Return the pairs that have to be transferred, and the ranks that hold their expert before."""
    held = pairs_of(before, topology)
    return [
        ((rank, expert), [r for r in range(topology.num_ranks) if (r, expert) in held])
        for rank, expert in sorted(pairs_of(after, topology) - held)
    ]


def goals_of(needs, sources, topology):
    """Return the largest number of sends between nodes, the largest number of sends, and all sends between nodes."""
    sends, far_sends = np.zeros((2, topology.num_ranks), dtype=int)
    for ((target, _), _), source in zip(needs, sources, strict=True):
        sends[source] += 1
        far_sends[source] += topology.node_of_rank[source] != topology.node_of_rank[target]
    return int(far_sends.max()), int(sends.max()), int(far_sends.sum())


def best_by_trying(needs, topology):
    """Return the best goals over every choice of sources."""
    return min(goals_of(needs, sources, topology) for sources in itertools.product(*(h for _, h in needs)))


def best_by_programs(needs, topology):
    """Return the best goals by three integer programs, each with the goals before it held."""
    optimize = pytest.importorskip("scipy.optimize")
    ways = [(k, rank, target) for k, ((target, _), holders) in enumerate(needs) for rank in holders]
    if not ways:
        return 0, 0, 0
    size, nodes = len(ways), topology.node_of_rank
    served = np.zeros((len(needs), size + 2))
    by_rank, far_by_rank = np.zeros((2, topology.num_ranks, size + 2))
    for way, (k, rank, target) in enumerate(ways):
        served[k, way] = by_rank[rank, way] = 1
        far_by_rank[rank, way] = nodes[rank] != nodes[target]
    by_rank[:, size], far_by_rank[:, size + 1] = -1, -1  # less the largest of all
    goals = np.zeros((3, size + 2))
    goals[0, size + 1] = goals[1, size] = 1
    goals[2] = far_by_rank.sum(axis=0)
    goals[2, size + 1] = 0
    limits = [
        optimize.LinearConstraint(served, 1, 1),
        optimize.LinearConstraint(np.vstack([by_rank, far_by_rank]), -np.inf, 0),
    ]
    best = []
    for goal in goals:
        found = optimize.milp(
            goal,
            constraints=limits,
            integrality=np.ones(size + 2),
            bounds=optimize.Bounds(0, [1] * size + [len(needs)] * 2),
        )
        assert found.success, found.message
        best.append(round(found.fun))
        limits.append(optimize.LinearConstraint(goal, -np.inf, best[-1] + 0.5))
    return tuple(best)


def random_machine(rng, most_ranks=8, most_slots=4):
    """Return a topology with uneven slots and any nodes."""
    num_ranks = int(rng.integers(1, most_ranks + 1))
    num_nodes = int(rng.choice([1, num_ranks, rng.integers(1, num_ranks + 1)]))
    nodes = rng.permutation(np.arange(num_ranks) % num_nodes)
    slots = rng.integers(1, most_slots + 1, num_ranks)
    failed = [r for r in range(num_ranks - 1) if rng.random() < 0.1]
    return Topology(num_ranks=num_ranks, slots_per_rank=slots.tolist(), num_nodes=nodes.tolist(), failed_ranks=failed)


def random_row(rng, topology, num_experts):
    """Return a sound layer on the ranks that work: every expert placed, the rest often repeats of a few experts."""
    usable = np.flatnonzero(topology.alive[topology.rank_of_slot])
    skew = rng.random(num_experts) ** rng.choice([0, 1, 8])
    rest = rng.choice(num_experts, usable.size - num_experts, p=skew / skew.sum())
    row = np.full(topology.num_slots, -1, dtype=np.int32)
    row[usable] = rng.permutation(np.concatenate([np.arange(num_experts), rest]))
    return row


def random_change(seed, **sizes):
    """Return a machine and a layer before and after, anything from a few slots to all of them changed."""
    rng = np.random.default_rng(seed)
    topology = random_machine(rng, **sizes)
    num_experts = int(rng.integers(1, topology.num_usable_slots + 1))
    before, after = (random_row(rng, topology, num_experts) for _ in range(2))
    if rng.random() < 0.3:
        after = before.copy()
        usable = np.flatnonzero(before >= 0)
        chosen = rng.choice(usable, rng.integers(1, usable.size + 1), replace=False)
        after[chosen] = before[rng.permutation(chosen)]
    return topology, before, after
