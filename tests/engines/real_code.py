"""The engines' own code, loaded from unpacked wheels, with stand-ins for what it imports beside torch.

Set EPLB_ENGINES to the folder that tests/engines/fetch_code.py filled; `make engines` does.
"""

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest


def folder():
    """Return the folder with the code."""
    path = os.environ.get("EPLB_ENGINES")
    if not path:
        pytest.fail("EPLB_ENGINES names no folder with the code of engines; run `make engines`")
    return Path(path)


def load(monkeypatch, name, file, stand_ins):
    """Return the module called `name` in `file`, with modules in place of those that it imports."""
    parents = {".".join(full.split(".")[:i]) for full in (name, *stand_ins) for i in range(1, full.count(".") + 1)}
    for parent in sorted(parents - set(stand_ins)):
        if parent not in sys.modules:
            package = ModuleType(parent)
            package.__path__ = []
            monkeypatch.setitem(sys.modules, parent, package)
    for full, content in stand_ins.items():
        module = ModuleType(full)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, full, module)
    spec = importlib.util.spec_from_file_location(name, folder() / file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


class Current:
    """A value for the length of a block, as SGLang's `Withable`."""

    value = None

    @contextlib.contextmanager
    def with_value(self, value):
        before, self.value = self.value, value
        yield
        self.value = before


def sglang_settings(**moe):
    """Return the settings that SGLang's code asks for, as on a CPU."""
    moe = SimpleNamespace(
        **{
            "moe_a2a_backend": "none",
            "ep_dispatch_algorithm": "dynamic",
            "ep_num_redundant_experts": 0,
            "ep_join_mode": "none",
            "init_expert_location": "trivial",
            "eplb_algorithm": "auto",
            "expert_distribution_recorder_mode": "stat",
            "expert_distribution_recorder_buffer_size": -1,
            "eplb_min_rebalancing_utilization_threshold": 1.0,
            **moe,
        }
    )
    return {
        "get_device": lambda: SimpleNamespace(device="cpu"),
        "get_exec": lambda: SimpleNamespace(moe=moe, overlap=SimpleNamespace(enable_two_batch_overlap=False)),
        "get_parallel": lambda: SimpleNamespace(ep_size=moe.ep_size, elastic_ep_initial_size=None, nnodes=1),
        "get_platform": lambda: SimpleNamespace(is_hip=False),
        "get_schedule": lambda: SimpleNamespace(chunked_prefill_size=16),
        "get_resources": MagicMock(),
        "logs_expert_balancedness_to_server_log": lambda: False,
        "reports_expert_balancedness": lambda: False,
    }


def forward_batch(num_tokens):
    """Return what SGLang's recorder looks at in a batch."""
    import torch

    tokens = torch.arange(num_tokens)
    mode = SimpleNamespace(value=1)
    return SimpleNamespace(input_ids=tokens, positions=tokens, extend_seq_lens_cpu=None, forward_mode=mode)


def sglang_location(monkeypatch, *, num_layers, num_experts, plan=None, **moe):
    """Return SGLang's loader of `--init-expert-location`, for a model of that size; `plan` is its planner."""
    model = SimpleNamespace(get_model_config_for_expert_location=lambda config: size)
    module = load(
        monkeypatch,
        "sglang.srt.eplb.expert_location",
        "sglang/srt/eplb/expert_location.py",
        {
            "sglang.srt.runtime_context": sglang_settings(**moe),
            "sglang.srt.elastic_ep.elastic_ep": {"elastic_expanded_world_enabled": lambda: False},
            "sglang.srt.eplb.eplb_algorithms": {"rebalance_experts": plan, "compute_algorithm": MagicMock()},
            "sglang.srt.model_loader": {"get_model_architecture": lambda config: (model, None)},
        },
    )
    size = module.ModelConfigForExpertLocation(num_layers=num_layers, num_logical_experts=num_experts)
    return lambda: module.compute_initial_expert_location_metadata(MagicMock(), moe_ep_rank=0)


def sglang_recorder(monkeypatch, output, location, rank=0, **moe):
    """Return SGLang's recorder of expert distributions, which dumps into the folder `output`."""
    import torch

    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *args, **kwargs: None)
    monkeypatch.setattr(torch, "get_device_module", MagicMock())
    module = load(
        monkeypatch,
        "sglang.srt.eplb.expert_distribution",
        "sglang/srt/eplb/expert_distribution.py",
        {
            "einops": {},
            "sglang.srt.runtime_context": sglang_settings(**moe),
            "sglang.srt.environ": {
                "envs": SimpleNamespace(
                    SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR=SimpleNamespace(get=lambda: str(output))
                )
            },
            "sglang.srt.model_executor.forward_batch_info": {"ForwardBatch": object, "ForwardMode": object},
            "sglang.srt.observability.metrics_collector": {
                "STAT_LOGGER_ROLE_EXPERT_DISPATCH": "",
                "ExpertDispatchCollector": object,
                "resolve_collector_class": MagicMock(),
            },
            "sglang.srt.layers.moe": {"get_moe_a2a_backend": MagicMock()},
            "sglang.srt.utils": {
                "Withable": Current,
                "get_device": lambda: "cpu",
                "get_int_env_var": lambda name, default: default,
            },
        },
    )
    recorder = module._ExpertDistributionRecorderReal(location, rank)
    recorder.start_record()
    return recorder


def vllm_ascend_maps(monkeypatch):
    """Return vllm-ascend's functions that load expert maps."""
    import torch

    monkeypatch.setattr(torch.Tensor, "npu", lambda self: self, raising=False)
    return load(
        monkeypatch,
        "vllm_ascend.eplb.core.eplb_utils",
        "vllm_ascend/eplb/core/eplb_utils.py",
        {
            "vllm.logger": {"logger": MagicMock()},
            "vllm.model_executor.layers.fused_moe.expert_map_manager": {"determine_expert_map": MagicMock()},
        },
    )


def vllm_ascend_recorder(monkeypatch):
    """Return vllm-ascend's function that records expert maps."""
    module = load(
        monkeypatch,
        "vllm_ascend.eplb.adaptor.vllm_adaptor",
        "vllm_ascend/eplb/adaptor/vllm_adaptor.py",
        {
            "vllm.logger": {"logger": MagicMock()},
            "vllm_ascend.ascend_config": {"get_ascend_config": MagicMock()},
            "vllm_ascend.quantization.quant_type": {"QuantType": MagicMock()},
        },
    )
    adaptor = SimpleNamespace(rank_id=0)
    return lambda maps, path: module.VllmEplbAdaptor._export_tensor_to_file(adaptor, maps, str(path))


def megatron_tracer(monkeypatch, output, rank, **options):
    """Return Megatron-core's tracer of routers."""
    module = load(
        monkeypatch,
        "megatron.core.transformer.moe.router_trace",
        "megatron/core/transformer/moe/router_trace.py",
        {},
    )
    return module.RouterTracer(str(output), max_steps=100, rank=rank, **options)
