"""The same input gives the same plan on every machine, with every numba: bit for bit."""

import numpy as np
import pytest

import eplb
from eplb import Topology

PINNED = {
    ("fast", 1): "495c9b5a976e9aa310d9bdb5b315c54016f65f32af6433a8d7a72e82c5ef2b5e",
    ("fast", 4): "4a0f1928742bf3447544f69b211d718edca78adddcbd7fcff00a258bc8916d59",
    ("balanced", 1): "f03d433229f14072eeab713e77cacf0a97d60133cb263eeb0acff3df78a1f171",
    ("balanced", 4): "d00ea62bb4f7b3d6b5098641ed5cea17a0ff91210ada73fbc26021c9f1ef21d7",
    ("thorough", 1): "98c25e04c1f5c9d7fba51d93228149e955b7e3b03eeb7d50c809d5fb9b6e0959",
    ("thorough", 4): "d8bc5aebe6ed89b1eb06836c8e3053f6228f7f071ce0f3acd31fae4ca5497bb8",
}


@pytest.mark.parametrize(("effort", "groups"), PINNED)
def test_plans_are_pinned(effort, groups):
    """A change that alters plans must say so by changing these hashes."""
    loads = (np.arange(3 * 96, dtype=np.int64).reshape(3, 96) * 2654435761 % 1009) ** 2
    topology = Topology(num_ranks=8, slots_per_rank=14, num_nodes=2, rank_speeds=[1, 1, 1, 2, 1, 1, 1, 1])
    plan = eplb.plan(loads, topology, groups=groups, effort=effort, seed=3)
    assert plan.placement.hash == PINNED[effort, groups]


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_threads_do_not_change_a_plan(rng, monkeypatch, threads):
    """Layers are planned each on its own, on however many threads."""
    loads = rng.pareto(1.0, (40, 64))
    topology = Topology(num_ranks=8, slots_per_rank=9)
    expected = eplb.plan(loads, topology).placement.hash
    monkeypatch.setenv("EPLB_NUM_THREADS", threads)
    assert eplb.plan(loads, topology).placement.hash == expected
