"""The placement before: each expert once, in order of its id."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eplb.baseline import contiguous_rank_loads
from eplb.topology import Topology


@settings(deadline=None, max_examples=100)
@given(num_experts=st.integers(1, 20), speeds=st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=2, max_size=12))
def test_expert_e_stands_on_the_working_rank_e_r_by_e(num_experts, speeds):
    """Summed by hand, with a failed rank and uneven speeds, and more ranks than experts too."""
    topology = Topology(num_ranks=len(speeds), slots_per_rank=1, rank_speeds=speeds, failed_ranks=[0])
    loads = np.random.default_rng(num_experts).integers(0, 100, (2, 3, num_experts))
    expected = np.zeros((2, 3, len(speeds)))
    for expert in range(num_experts):
        rank = 1 + expert * (len(speeds) - 1) // num_experts
        expected[..., rank] += loads[..., expert] / speeds[rank]
    np.testing.assert_allclose(contiguous_rank_loads(loads, topology), expected)
