"""Who takes part: ours, and any function with DeepSeek's signature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapes import Shape

import eplb
from eplb.replay import drop_in_policy

REFERENCE = "eplb fast"
ARGSORT = "numpy.argsort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A planner under one interface.

    Parameters
    ----------
    name : str
        What the tables call it.
    read : callable
        Turns loads [L, E] in float32 into the planner's own input; not timed.
    plan : callable
        Turns that input and a shape into the planner's own result; timed.
    slots : callable
        Turns that result into the expert of each slot, [L, P]; not timed.
    """

    name: str
    read: Callable[[NDArray[np.float32]], Any]
    plan: Callable[[Any, Shape], Any]
    slots: Callable[[Any], Any]


def ours(thorough: bool) -> list[Contender]:
    """Return our planner at its efforts and our drop-in function with its two exact policies."""
    efforts = ("fast", "balanced", "thorough") if thorough else ("fast", "balanced")
    return [_effort(effort) for effort in efforts] + [_policy(policy) for policy in ("fixup", "deepseek")]


def peer(spec: str) -> Contender:
    """Return the peer named by ``NAME=path/to/file.py:function``.

    Raises
    ------
    eplb.OptionError
        If `spec` reads otherwise, or the file has no such function.
    """
    policy = drop_in_policy(spec)
    return _drop_in(policy.name, policy.function)


def _effort(effort: str) -> Contender:
    def plan(loads: Any, shape: Shape) -> Any:
        return eplb.plan(loads, shape.topology, groups=shape.num_groups, effort=effort)

    return Contender(
        name=f"eplb {effort}",
        read=np.copy,
        plan=plan,
        slots=lambda result: result.placement.physical_to_logical,
    )


def _policy(policy: str) -> Contender:
    def function(*args: Any) -> Any:
        return eplb.rebalance_experts(*args, policy=policy)

    return _drop_in(f"rebalance_experts {policy}", function)


def _drop_in(name: str, function: Callable[..., Any]) -> Contender:
    def plan(weight: Any, shape: Shape) -> Any:
        return function(weight, shape.num_slots, shape.num_groups, shape.num_nodes, shape.num_ranks)

    return Contender(name=name, read=_tensor, plan=plan, slots=lambda result: result[0])


def _tensor(loads: NDArray[np.float32]) -> Any:
    import torch

    return torch.from_numpy(loads.copy())
