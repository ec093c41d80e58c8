"""A small double of vLLM's policies: the names, the signature, and how vLLM 0.33.0 hands over loads and placements."""

import sys
from types import ModuleType

import numpy as np
import torch

from eplb.engines.serving_options import ServingOptions
from eplb.engines.vllm import VllmPlanner

LAYERS, EXPERTS, PER_RANK = 2, 8, 3


class AbstractEplbPolicy:
    @classmethod
    def rebalance_experts(cls, weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices=None):
        raise NotImplementedError


class DefaultEplbPolicy(AbstractEplbPolicy):
    pass


def install(monkeypatch, base=AbstractEplbPolicy):
    """Put the double where vLLM would be; return its policies by name."""
    policies = {"default": DefaultEplbPolicy}
    for name in ("vllm", "vllm.distributed", "vllm.distributed.eplb", "vllm.distributed.eplb.policy"):
        module = ModuleType(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    vars(module).update(EPLB_POLICIES=policies, AbstractEplbPolicy=base)
    return policies


def planner(**options):
    """Return the planner of a rank."""
    return VllmPlanner(ServingOptions(**options))


def first_slots(num_ranks):
    """Return the placement that vLLM starts with."""
    return torch.arange(num_ranks * PER_RANK).remainder(EXPERTS).expand(LAYERS, -1).clone()


def loads(seed):
    """Return the loads of a window, that drift from seed to seed."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(1, 100, (LAYERS, EXPERTS)) + 400 * (np.arange(EXPERTS) == seed // 2 % EXPERTS))


def ask(policy, weight, slots, num_ranks, groups=1, nodes=1):
    """Return what a rank plans, as vLLM asks for it."""
    return policy.rebalance_experts(weight, num_ranks * PER_RANK, groups, nodes, num_ranks, slots)


def joined(slots, num_ranks):
    """Return the placement that vLLM hands over when ranks have joined: their slots hold nothing."""
    padding = torch.full((LAYERS, num_ranks * PER_RANK - slots.shape[1]), -1)
    return torch.cat([slots, padding], dim=1)


def assert_placed(slots, num_ranks):
    """Every slot holds an expert, every expert has a slot, and vLLM can use the tensor."""
    assert slots.dtype == torch.int64 and slots.device.type == "cpu"
    assert slots.shape == (LAYERS, num_ranks * PER_RANK)
    for row in slots.tolist():
        assert set(row) == set(range(EXPERTS))
