"""What leaves its node: counted, and at least, by a linear program."""

import numpy as np
import pytest

SLACK = 1e-12  # of the tokens of a rank, as the solver works with tolerances


def ranks_of(layer):
    """Return the rank of each slot."""
    return np.repeat(np.arange(layer.speeds.size), np.diff(layer.offsets))


def rank_times(layer, tokens):
    """Return the time of each rank for `tokens` of the slots."""
    return (np.bincount(ranks_of(layer), tokens, minlength=layer.speeds.size) + layer.fixed) / layer.speeds


def leaving_of(layer, tokens):
    """Return the tokens that leave their node, where each node uses its own replicas first."""
    placed = np.zeros_like(layer.sources)
    np.add.at(placed, (layer.nodes[ranks_of(layer)], layer.items), tokens)
    return np.maximum(placed - layer.sources, 0).sum()


def fewest_leaving(layer, level):
    """Return the least that can leave if no rank takes longer than `level`: tokens go from nodes to slots."""
    optimize = pytest.importorskip("scipy.optimize")
    num_nodes, num_experts = layer.sources.shape
    ranks, num_slots, scale = ranks_of(layer), layer.items.size, max(layer.sources.max(), 1e-300)
    abroad = np.arange(num_nodes)[:, None] != layer.nodes[ranks]
    rows = np.arange(num_nodes)[:, None] * num_experts + layer.items
    columns = np.arange(num_nodes * num_slots).reshape(num_nodes, num_slots)
    sent, received = np.zeros((num_nodes * num_experts, columns.size)), np.zeros((layer.speeds.size, columns.size))
    sent[rows, columns] = 1.0
    received[ranks[None, :], columns] = 1.0
    room = level * layer.speeds - layer.fixed
    room = np.floor(room + 1e-6) if layer.whole else room + SLACK * layer.loads.sum()
    found = optimize.linprog(
        abroad.ravel().astype(float),
        A_ub=received,
        b_ub=np.maximum(room, 0.0) / scale,
        A_eq=sent,
        b_eq=layer.sources.ravel() / scale,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert found.status == 0, found.message
    return found.fun * scale
