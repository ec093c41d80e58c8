"""Hardware and models by name: figures that are published, each with its source."""

from __future__ import annotations

from typing import Any

from eplb.errors import OptionError
from eplb.replay.cost.hardware import Hardware
from eplb.replay.cost.model_shape import ModelShape

_NVIDIA: dict[str, Any] = {
    # 1,979 (BF16) and 3,958 (FP8) TFLOP/s are given with sparsity; dense products reach half of that.
    "bf16_flops_per_s": 989.5e12,
    "fp8_flops_per_s": 1979e12,
    "node_bandwidth_bytes_per_s": 450e9,  # NVLink, 900 GB/s in both directions together
    "network_bandwidth_bytes_per_s": 50e9,  # one ConnectX-7 of 400 Gb/s for each GPU
}
_CONNECTX = "NVIDIA ConnectX-7 datasheet (400 Gb/s), one for each GPU as in NVIDIA DGX H100/H200"

HARDWARE = {
    "h100": Hardware(
        name="H100 SXM",
        memory_bandwidth_bytes_per_s=3.35e12,
        memory_bytes=80e9,
        source=f"NVIDIA H100 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/h100/; {_CONNECTX}",
        **_NVIDIA,
    ),
    "h200": Hardware(
        name="H200 SXM",
        memory_bandwidth_bytes_per_s=4.8e12,
        memory_bytes=141e9,
        source=f"NVIDIA H200 Tensor Core GPU datasheet, https://www.nvidia.com/en-us/data-center/h200/; {_CONNECTX}",
        **_NVIDIA,
    ),
}


def _config(repository: str, more: str = "") -> str:
    return f"https://huggingface.co/{repository}/blob/main/config.json{more}"


_FP8: dict[str, Any] = {"bytes_per_weight": 1.0, "compute_type": "fp8", "dispatch_bytes_per_value": 1.0}
_MXFP4: dict[str, Any] = {"bytes_per_weight": 4.25 / 8}  # 32 weights of 4 bits share a scale of 8; products in BF16
_BF16: dict[str, Any] = {"bytes_per_weight": 2.0}
_MXFP4_SOURCE = "; MXFP4 of 4.25 bits a weight: OpenAI, gpt-oss model card, arXiv:2508.10925"
_FP8_SOURCE = "; dispatch in FP8 and combine in BF16: DeepSeek-V3 report, arXiv:2412.19437"

MODELS = {
    "deepseek-v3": ModelShape(
        name="DeepSeek-V3",
        num_layers=58,
        num_hidden_layers=61,
        num_experts=256,
        experts_per_token=8,
        hidden_size=7168,
        expert_size=2048,
        source=_config("deepseek-ai/DeepSeek-V3", _FP8_SOURCE),
        **_FP8,
    ),
    "qwen3-235b": ModelShape(
        name="Qwen3-235B-A22B",
        num_layers=94,
        num_experts=128,
        experts_per_token=8,
        hidden_size=4096,
        expert_size=1536,
        source=_config("Qwen/Qwen3-235B-A22B"),
        **_BF16,
    ),
    "kimi-k2": ModelShape(
        name="Kimi-K2",
        num_layers=60,
        num_hidden_layers=61,
        num_experts=384,
        experts_per_token=8,
        hidden_size=7168,
        expert_size=2048,
        source=_config("moonshotai/Kimi-K2-Instruct", _FP8_SOURCE),
        **_FP8,
    ),
    "gpt-oss-120b": ModelShape(
        name="gpt-oss-120b",
        num_layers=36,
        num_experts=128,
        experts_per_token=4,
        hidden_size=2880,
        expert_size=2880,
        source=_config("openai/gpt-oss-120b", _MXFP4_SOURCE),
        **_MXFP4,
    ),
    "gpt-oss-20b": ModelShape(
        name="gpt-oss-20b",
        num_layers=24,
        num_experts=32,
        experts_per_token=4,
        hidden_size=2880,
        expert_size=2880,
        source=_config("openai/gpt-oss-20b", _MXFP4_SOURCE),
        **_MXFP4,
    ),
    "mixtral-8x7b": ModelShape(
        name="Mixtral-8x7B",
        num_layers=32,
        num_experts=8,
        experts_per_token=2,
        hidden_size=4096,
        expert_size=14336,
        source=_config("mistralai/Mixtral-8x7B-v0.1"),
        **_BF16,
    ),
    "olmoe-1b-7b": ModelShape(
        name="OLMoE-1B-7B",
        num_layers=16,
        num_experts=64,
        experts_per_token=8,
        hidden_size=2048,
        expert_size=1024,
        source=_config("allenai/OLMoE-1B-7B-0924"),
        **_BF16,
    ),
}


def hardware_named(name: str) -> Hardware:
    """Return the hardware called `name`, in small or capital letters.

    Raises
    ------
    OptionError
        If there is none; the message lists what there is.

    Examples
    --------
    >>> hardware_named("H200").memory_bandwidth_bytes_per_s
    4800000000000.0
    """
    key = name.lower() if isinstance(name, str) else ""
    if key not in HARDWARE:
        raise OptionError(f"hardware: expected one of {', '.join(HARDWARE)}, got {name!r}")
    return HARDWARE[key]


def model_named(name: str) -> ModelShape:
    """Return the model called `name`: its key, or a longer name that begins with it, with or without its owner.

    Raises
    ------
    OptionError
        If there is none; the message lists what there is.

    Examples
    --------
    >>> model_named("Qwen/Qwen3-235B-A22B-Instruct-2507").name
    'Qwen3-235B-A22B'
    """
    key = known_model(name)
    if key is None:
        raise OptionError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")
    return MODELS[key]


def known_model(name: str) -> str | None:
    """Return the key of the model called `name`, or None if there is none."""
    own = name.lower().rpartition("/")[2] if isinstance(name, str) else ""
    return next((key for key in MODELS if own == key or own.startswith(f"{key}-")), None)
