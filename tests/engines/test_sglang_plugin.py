"""The plug-in as SGLang loads it, with a double of its registry of hooks and of its function."""

import importlib.metadata
import os
import sys
from enum import Enum
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from eplb import MissingDependencyError
from eplb.engines import sglang_algorithm
from eplb.engines.serving_options import ServingOptions

STEPS, LAYERS, EXPERTS, SLOTS, LOCAL = 40, 3, 8, 12, 3


def rebalance_experts(
    tokens_per_expert, num_physical_experts, num_local_physical_experts, num_groups, num_nodes, algorithm
):
    return "SGLang's own"


@pytest.fixture
def sglang(monkeypatch):
    """A double of SGLang: the placement in force, and the hooks that were registered."""
    double = SimpleNamespace(hooks=[], metadata=None, rebalance_experts=rebalance_experts)
    double.get_global_expert_location_metadata = lambda: double.metadata
    registry = SimpleNamespace(register=lambda *hook: double.hooks.append(hook))
    contents = {
        "sglang": {},
        "sglang.srt": {},
        "sglang.srt.eplb": {"eplb_algorithms": double, "expert_location": double},
        "sglang.srt.eplb.expert_location": {
            "get_global_expert_location_metadata": double.get_global_expert_location_metadata
        },
        "sglang.srt.plugins": {},
        "sglang.srt.plugins.hook_registry": {"HookRegistry": registry, "HookType": SimpleNamespace(AROUND="around")},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__path__ = []
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    for name in [name for name in os.environ if name.startswith("EPLB_") and name != "EPLB_NUM_THREADS"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EPLB_SGLANG", "1")
    monkeypatch.setattr(sglang_algorithm.Hook, "planner", None)
    monkeypatch.setattr(sglang_algorithm.Hook, "registered", False)
    return double


def call(counts, algorithm="deepseek", groups=None, nodes=1):
    """Call the function as SGLang does, with the hook around it."""
    algorithm = Enum("EplbAlgorithm", algorithm)[algorithm]
    return sglang_algorithm.Hook.around(
        rebalance_experts,
        tokens_per_expert=counts,
        num_physical_experts=SLOTS,
        num_local_physical_experts=LOCAL,
        num_groups=groups,
        num_nodes=nodes,
        algorithm=algorithm,
    )


def recorded():
    """Return what SGLang records: tokens of each step; layer 0 has no experts."""
    counts = torch.from_numpy(
        np.random.default_rng(0).poisson(np.arange(1, EXPERTS + 1) ** 2, (STEPS, LAYERS, EXPERTS))
    )
    counts[:, 0] = 0
    return counts


def test_the_entry_point_is_sglangs():
    """SGLang finds the plug-in by the metadata of the package."""
    (entry,) = [e for e in importlib.metadata.entry_points(group="sglang.srt.plugins") if e.name == "eplb"]
    assert entry.load() is sglang_algorithm.plug_in


def test_installed_it_changes_nothing(sglang, monkeypatch):
    """Without the switch no hook is registered."""
    monkeypatch.delenv("EPLB_SGLANG")
    sglang_algorithm.plug_in()
    assert sglang.hooks == []


def test_one_hook_is_registered(sglang):
    """Around the function that runs the algorithms; a second call does nothing."""
    sglang_algorithm.plug_in()
    sglang_algorithm.plug_in()
    assert [(target, kind) for target, _, kind in sglang.hooks] == [(sglang_algorithm.TARGET, "around")]


def test_the_maps_are_those_of_sglang(sglang):
    """Three int64 tensors that agree with each other."""
    sglang_algorithm.plug_in()
    slots, places, counts = call(recorded())
    assert slots.shape == (LAYERS, SLOTS) and counts.shape == (LAYERS, EXPERTS) and places.dtype == torch.int64
    assert bool((counts.sum(dim=1) == SLOTS).all())
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            held = [p for p in places[layer, expert].tolist() if p >= 0]
            assert held == (slots[layer] == expert).nonzero().flatten().tolist()


def test_it_starts_from_the_placement_in_force(sglang):
    """Planned again with the same loads, nothing moves; a layer without experts never does."""
    sglang_algorithm.plug_in()
    start = torch.arange(SLOTS).remainder(EXPERTS).expand(LAYERS, -1).clone()
    sglang.metadata = SimpleNamespace(physical_to_logical_map_cpu=start)
    slots, *_ = call(recorded())
    assert torch.equal(slots[0], start[0]) and not torch.equal(slots, start)
    sglang.metadata = SimpleNamespace(physical_to_logical_map_cpu=slots)
    assert torch.equal(call(recorded())[0], slots)


def test_elastic_algorithms_are_left_to_sglang(sglang, caplog):
    """Its ranks may have failed, which the function does not tell; the log says so."""
    sglang_algorithm.plug_in()
    assert call(recorded(), "elasticity_aware") == "SGLang's own"
    assert "elasticity_aware is left to SGLang" in caplog.text


def test_it_can_be_taken_out(sglang):
    """The hook then lets SGLang's function run."""
    sglang_algorithm.plug_in()
    sglang_algorithm.plug_out()
    assert call(recorded()) == "SGLang's own"


def test_another_signature_is_refused(sglang):
    """A SGLang whose function takes something else is left alone."""
    sglang.rebalance_experts = lambda counts: None
    with pytest.raises(MissingDependencyError, match="rebalance_experts takes counts"):
        sglang_algorithm.plug_in()
    assert sglang.hooks == []


def test_steps_are_summed_to_few_windows():
    """No token is lost, and steps that recorded nothing make no window."""
    counts = torch.cat([recorded(), torch.zeros_like(recorded())])
    windows = sglang_algorithm._summed(counts, 8)
    assert windows.shape == (4, LAYERS, EXPERTS)
    assert np.array_equal(windows.sum(axis=0), counts.sum(dim=0).numpy())


def test_no_steps_keep_the_placement(sglang):
    """An idle server moves nothing."""
    start = np.tile(np.arange(SLOTS) % EXPERTS, (LAYERS, 1))
    planner = sglang_algorithm.SglangPlanner(ServingOptions())
    slots, *_ = planner(torch.zeros(STEPS, LAYERS, EXPERTS), SLOTS, LOCAL, None, 1, start)
    assert np.array_equal(slots.numpy(), start)
