"""The plug-in in SGLang's own code: its loader of plug-ins, its registry of hooks, its making of placements."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("sglang") is None, reason="no SGLang here; `make engines` installs it"),
]
LAYERS, EXPERTS, REDUNDANT, RANKS = 3, 8, 4, 4


@pytest.fixture
def location(monkeypatch):
    """SGLang's module of expert locations with the plug-in loaded, set for a small model on a CPU."""
    pytest.importorskip("sglang.srt.eplb.expert_location")
    from sglang.srt.eplb import eplb_algorithms, expert_location
    from sglang.srt.plugins import load_plugins

    monkeypatch.setenv("EPLB_SGLANG", "1")
    load_plugins()
    moe = SimpleNamespace(
        eplb_algorithm="auto",
        ep_dispatch_algorithm="dynamic",
        ep_num_redundant_experts=REDUNDANT,
        ep_join_mode="none",
    )
    parallel = SimpleNamespace(ep_size=RANKS, nnodes=1, elastic_ep_initial_size=None)
    model = SimpleNamespace(num_layers=LAYERS, num_logical_experts=EXPERTS, num_groups=None)
    monkeypatch.setattr(expert_location, "get_exec", lambda: SimpleNamespace(moe=moe))
    monkeypatch.setattr(expert_location, "get_parallel", lambda: parallel)
    monkeypatch.setattr(expert_location, "get_device", lambda: SimpleNamespace(device="cpu"))
    monkeypatch.setattr(
        expert_location.ModelConfigForExpertLocation, "from_model_config", staticmethod(lambda config: model)
    )
    assert hasattr(eplb_algorithms.rebalance_experts, "__wrapped__")
    return expert_location


def counts():
    """Return tokens [steps, layers, experts]; layer 0 is dense."""
    tokens = torch.arange(1, EXPERTS + 1).square().expand(20, LAYERS, -1).clone()
    tokens[:, 0] = 0
    return tokens


@pytest.mark.filterwarnings("default")
def test_sglang_makes_its_metadata_from_our_plan(location, monkeypatch):
    """The second placement starts from the first, which SGLang has in force: the same loads move nothing."""
    made = []
    monkeypatch.setattr(location, "get_global_expert_location_metadata", lambda: made[-1] if made else None)
    for _ in range(2):
        made.append(location.ExpertLocationMetadata.init_by_eplb(None, counts()))
    first, second = (metadata.physical_to_logical_map for metadata in made)
    assert first.shape == (LAYERS, EXPERTS + REDUNDANT)
    assert torch.equal(first, second)
    assert bool((made[0].logical_to_all_physical_map_num_valid.sum(dim=1) == EXPERTS + REDUNDANT).all())


@pytest.mark.filterwarnings("default")
def test_it_plans_better_than_the_algorithm_it_replaces(location, monkeypatch):
    """Taken out, SGLang's own function makes the placement; ours has no larger rank load."""
    from eplb.engines import sglang_algorithm

    def largest(metadata):
        valid = metadata.logical_to_all_physical_map_num_valid
        shares = (counts().sum(dim=0) / valid).gather(1, metadata.physical_to_logical_map)
        return shares.reshape(LAYERS, RANKS, -1).sum(dim=2).max(dim=1).values.sum().item()

    monkeypatch.setattr(location, "get_global_expert_location_metadata", lambda: None)
    ours = location.ExpertLocationMetadata.init_by_eplb(None, counts())
    monkeypatch.setattr(sglang_algorithm.Hook, "planner", None)
    theirs = location.ExpertLocationMetadata.init_by_eplb(None, counts())
    assert largest(ours) <= largest(theirs)
