"""A model of a few experts on an H100, and traces that can be learned from, or cannot."""

import numpy as np

import eplb
from eplb.replay.cost import CostModel, ModelShape, hardware_named

MODEL = ModelShape(
    name="toy", num_layers=2, num_experts=16, experts_per_token=2, hidden_size=256, expert_size=256, bytes_per_weight=2
)
COST = CostModel(hardware=hardware_named("h100"), model=MODEL)
SKEW = 100_000 / np.arange(1, 17)


def steady(num_windows=16, seed=0):
    """Return loads that hardly change: the same few experts are ahead in every window."""
    noise = np.random.default_rng(seed).uniform(0.97, 1.03, (num_windows, 2, 16))
    return eplb.LoadTrace(loads=SKEW * noise)


def shifting(num_windows=24, every=6, seed=0):
    """Return loads whose heavy experts change every few windows."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(16) for _ in range(-(-num_windows // every))]
    loads = [[SKEW[orders[window // every]]] * 2 for window in range(num_windows)]
    return eplb.LoadTrace(loads=np.array(loads) * rng.uniform(0.97, 1.03, (num_windows, 2, 16)))


def shuffled(trace, seed=0):
    """Return `trace` with the experts of each window and layer renamed by chance: no window tells of another."""
    rng = np.random.default_rng(seed)
    return eplb.LoadTrace(loads=rng.permuted(trace.loads, axis=2), model=trace.model)
