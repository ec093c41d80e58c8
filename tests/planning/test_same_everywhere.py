"""The same input gives the same plan on every machine, with every numba: bit for bit."""

import numpy as np
import pytest

import eplb
from eplb import Topology

PINNED = {
    ("fast", 1): "495c9b5a976e9aa310d9bdb5b315c54016f65f32af6433a8d7a72e82c5ef2b5e",
    ("fast", 4): "4a0f1928742bf3447544f69b211d718edca78adddcbd7fcff00a258bc8916d59",
    ("balanced", 1): "ecac0a39553b1cde10602c1425480d8a6ada6fdc6bf0ce3cec7fb85da7cfd464",
    ("balanced", 4): "eec28478c37409068e9f44aec068ab0fa9496cc50f0d0d9c70338aaf7fc2cb3f",
    ("thorough", 1): "131073f85991ce14dd162ef892c0455e611fb62192604cacc52c77642b7c7338",
    ("thorough", 4): "d2db5ee24db64eb6e5af9bef37e5bc78515269e8e046e617106b28c1abcf03ef",
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
