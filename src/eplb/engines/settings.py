"""What to set in an engine to serve as advised: commands, flags and variables, as the pages of docs/engines say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from eplb.engines.serving_options import MAX_HISTORY
from eplb.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is to be served, in plain values.

    Parameters
    ----------
    dynamic : bool
        Whether experts are placed again and again; else once, from `trace`.
    trace : str
        File with the loads that a placement is planned from.
    num_ranks, num_nodes, slots_per_rank, num_experts, groups : int
        The machine, and the experts of a layer.
    hidden_layers : int
        Layers of the model, dense ones included.
    steps_per_window, steps_per_plan : int
        Forward passes that are summed to a window; passes from one plan to the next.
    history : int
        Windows that a plan is shown.
    max_moves_share : float
        Share of the slots that a replan may move; 1: no limit.
    threshold : float
        Imbalance that is put up with.
    effort : str
        As in `eplb.plan`.
    """

    dynamic: bool
    trace: str
    num_ranks: int
    slots_per_rank: int
    num_experts: int
    hidden_layers: int
    num_nodes: int = 1
    groups: int = 1
    steps_per_window: int = 1
    steps_per_plan: int = 1
    history: int = 24
    max_moves_share: float = 1.0
    threshold: float = 0.0
    effort: str = "balanced"

    @property
    def num_redundant(self) -> int:
        """Redundant experts of a layer."""
        return self.num_ranks * self.slots_per_rank - self.num_experts


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What to type, and what to know of it.

    Parameters
    ----------
    lines : tuple of str
        Lines for a shell or a file.
    notes : tuple of str
        What the engine cannot do, or does otherwise than was modelled.
    """

    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()


def settings_for(engine: str, deployment: Deployment) -> EngineSettings:
    """Return what to set in the engine called `engine`.

    Raises
    ------
    OptionError
        If there is no such engine.

    Examples
    --------
    >>> served = Deployment(dynamic=False, trace="loads.npz", num_ranks=32, slots_per_rank=9, num_experts=256,
    ...                     hidden_layers=61)
    >>> print(settings_for("vllm-ascend", served).lines[1])
    eplb convert plan.json map.json --to vllm-ascend
    """
    check_engine(engine)
    return _ENGINES[engine](deployment)


def check_engine(engine: str) -> None:
    """Raise `OptionError` unless there are settings for the engine called `engine`."""
    if engine not in _ENGINES:
        raise OptionError(f"engine: expected one of {', '.join(_ENGINES)}, got {engine!r}")


def _plan(served: Deployment) -> str:
    more = f" --nodes {served.num_nodes}" if served.num_nodes > 1 else ""
    more += f" --groups {served.groups}" if served.groups > 1 else ""
    return (
        f"eplb plan {served.trace} --ranks {served.num_ranks} --slots-per-rank {served.slots_per_rank}{more} "
        "--out plan.json"
    )


def _variables(served: Deployment, history: int) -> tuple[str, ...]:
    share = f"{served.max_moves_share:g}"
    return (
        f"export EPLB_EFFORT={served.effort}",
        f"export EPLB_HISTORY={min(max(1, history), MAX_HISTORY)}",
        *((f"export EPLB_MAX_MOVES_SHARE={share}",) if served.max_moves_share < 1 else ()),
    )


def _vllm(served: Deployment) -> EngineSettings:
    config = {
        "num_redundant_experts": served.num_redundant,
        "window_size": served.steps_per_plan,  # all steps since the plan before: it hands over one sum
        "step_interval": served.steps_per_plan,
    }
    notes = ["vLLM shares tokens evenly among replicas"]
    if served.dynamic and served.steps_per_plan > served.steps_per_window:
        notes.append("vLLM sums the steps from one plan to the next: plans see fewer, longer windows than here")
    if not served.dynamic:
        notes.append("vLLM takes no placement from a file; the nearest is a rearrangement as rare as this")
    if served.threshold:
        notes.append("vLLM knows no threshold: it rearranges every time")
    serve = (
        f"vllm serve MODEL --tensor-parallel-size {served.num_ranks} --enable-expert-parallel --enable-eplb "
        f"--eplb-config '{json.dumps(config)}'"
    )
    history = served.history * served.steps_per_window // served.steps_per_plan
    return EngineSettings(lines=("export EPLB_VLLM=1", *_variables(served, history), serve), notes=tuple(notes))


def _sglang(served: Deployment) -> EngineSettings:
    launch = (
        f"python -m sglang.launch_server --model-path MODEL --tp-size {served.num_ranks} --ep-size {served.num_ranks} "
        f"--ep-num-redundant-experts {served.num_redundant}"
    )
    if not served.dynamic:
        convert = f"eplb convert plan.json location.json --to sglang --hidden-layers {served.hidden_layers}"
        return EngineSettings(
            lines=(_plan(served), convert, f"{launch} --init-expert-location location.json"),
            notes=("the placement is planned from the whole trace",),
        )
    more = f" --enable-eplb --eplb-rebalance-num-iterations {served.steps_per_plan}"
    if served.threshold:
        more += f" --eplb-min-rebalancing-utilization-threshold {1 - served.threshold:g}"
    history = served.steps_per_plan // served.steps_per_window
    return EngineSettings(
        lines=("export EPLB_SGLANG=1", *_variables(served, history), launch + more),
        notes=("SGLang hands over the steps since the last plan, in no order: no window counts more than another",),
    )


def _tensorrt_llm(served: Deployment) -> EngineSettings:
    lines = (
        _plan(served),
        "eplb convert plan.json moe_load_balancer.yaml",
        f"trtllm-serve MODEL --tp_size {served.num_ranks} --ep_size {served.num_ranks} "
        "--extra_llm_api_options options.yaml",
        "# options.yaml:",
        "enable_attention_dp: true",
        "moe_config:",
        "    backend: WideEP",
        "    load_balancer: ./moe_load_balancer.yaml",
    )
    return EngineSettings(lines=lines, notes=_once_only(served, "TensorRT-LLM"))


def _vllm_ascend(served: Deployment) -> EngineSettings:
    config = json.dumps({"eplb_config": {"expert_map_path": "map.json"}})
    serve = f"vllm serve MODEL --tensor-parallel-size {served.num_ranks} --enable-expert-parallel"
    lines = (
        _plan(served),
        "eplb convert plan.json map.json --to vllm-ascend",
        f"{serve} --additional-config '{config}'",
    )
    return EngineSettings(lines=lines, notes=_once_only(served, "vllm-ascend"))


def _megatron(served: Deployment) -> EngineSettings:
    return EngineSettings(
        lines=(),
        notes=(
            "Megatron-core holds each expert once, in order of the ids, and takes no placement; "
            "plan for the engine that will serve the model",
        ),
    )


def _once_only(served: Deployment, engine: str) -> tuple[str, ...]:
    if not served.dynamic:
        return ("the placement is planned from the whole trace",)
    return (f"{engine} is not replanned by eplb while it serves: this places once, and gains what 'static' gains",)


_ENGINES: dict[str, Callable[[Deployment], EngineSettings]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tensorrt-llm": _tensorrt_llm,
    "vllm-ascend": _vllm_ascend,
    "megatron": _megatron,
}
ENGINES = tuple(_ENGINES)
