"""What the tests of replica choice draw: placements, weights and routed tokens, friendly and hostile."""

from types import SimpleNamespace

import numpy as np
from hypothesis import strategies as st

from eplb import Placement, Topology

SEEDS = st.integers(0, 2**32 - 1)
KINDS = ("spread", "bursts", "one expert", "padded", "all padding", "empty", "one token", "no places")
DTYPES = (np.int32, np.int64)


def random_topology(rng, num_experts):
    """Return up to 5 ranks with uneven slots, nodes in any order, and maybe failed ranks; all experts fit."""
    num_ranks = int(rng.integers(1, 6))
    slots = rng.integers(1, 5, num_ranks)
    failed = np.flatnonzero(rng.random(num_ranks) < 0.2)[: num_ranks - 1]
    working = np.setdiff1d(np.arange(num_ranks), failed)
    slots[working[0]] += max(0, num_experts - slots[working].sum())
    nodes = rng.permutation(np.arange(num_ranks) % int(rng.integers(1, num_ranks + 1)))
    return Topology(
        num_ranks=num_ranks, slots_per_rank=slots.tolist(), num_nodes=nodes.tolist(), failed_ranks=failed.tolist()
    )


def random_placement(rng, num_experts=None, num_layers=2):
    """Return a placement of all experts; the rest of the slots hold whatever, twice on a rank too."""
    num_experts = int(rng.integers(1, 8)) if num_experts is None else num_experts
    topology = random_topology(rng, num_experts)
    usable = np.flatnonzero(topology.alive[topology.rank_of_slot])
    slots = np.full((num_layers, topology.num_slots), -1)
    for row in slots:
        rest = rng.integers(0, num_experts, usable.size - num_experts)
        row[usable] = rng.permutation([*range(num_experts), *rest])
    return Placement(physical_to_logical=slots, topology=topology, num_experts=num_experts)


def random_weights(rng, placement):
    """Return weights [L, P] that sum to 1 for every expert; many are 0, and so some are 1."""
    slots = placement.physical_to_logical
    weights = np.where(slots >= 0, rng.exponential(size=slots.shape), 0.0)
    weights[rng.random(slots.shape) < 0.3] = 0
    for row, experts in zip(weights, slots, strict=True):
        for expert in range(placement.num_experts):
            mine = np.flatnonzero(experts == expert)
            if row[mine].sum() == 0:
                row[rng.choice(mine)] = 1
            row[mine] /= row[mine].sum()
    return weights


def random_ids(rng, num_experts, kind, dtype=np.int64):
    """Return ids [T, k], all different in a token but for padding."""
    num_tokens, width = (
        {"empty": 0, "one token": 1}.get(kind, int(rng.integers(1, 60))),
        int(rng.integers(1, num_experts + 1)),
    )
    if kind == "no places":
        return np.empty((num_tokens, 0), dtype=dtype)
    favourites = rng.exponential(size=num_experts) ** 3 + 1e-9
    noise = rng.gumbel(size=(num_tokens, num_experts))
    if kind == "bursts":
        noise = np.repeat(noise[: max(1, num_tokens // 8)], 8, axis=0)[:num_tokens]
    ids = np.argsort(-(np.log(favourites) + noise), axis=1)[:, :width].astype(dtype)
    if kind == "one expert":
        ids = np.full((num_tokens, 1), rng.integers(num_experts), dtype=dtype)
    hidden = {"padded": 0.5, "all padding": 1.0}.get(kind, 0.0)
    ids[rng.random(ids.shape) < hidden] = -1
    return ids


def case(seed, kind="spread", dtype=np.int64, **options):
    """Return a placement with weights, the tables of its layer 1 as lists, and ids."""
    rng = np.random.default_rng(seed)
    placement = random_placement(rng, **options)
    weights = random_weights(rng, placement)
    slots_of = [[int(p) for p in row if p >= 0] for row in placement.logical_to_physical[1]]
    return SimpleNamespace(
        rng=rng,
        placement=placement,
        weights=weights,
        slots_of=slots_of,
        weights_of=[[float(weights[1, p]) for p in slots] for slots in slots_of],
        ids=random_ids(rng, placement.num_experts, kind, dtype),
    )


def padded(rows, width, fill):
    """Return lists as an int64 array, filled up to a width."""
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], dtype=np.int64)
