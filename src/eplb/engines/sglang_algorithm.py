"""The planner as SGLang's algorithm at run time, in a plug-in of `sglang.srt.plugins`.

Made for SGLang 0.5.23, which lets plug-ins put hooks around its functions. Installed, it does nothing; with
EPLB_SGLANG=1 it plans where `rebalance_experts` would have run an algorithm of SGLang. See
docs/engines/sglang-runtime.md.
"""

from __future__ import annotations

import inspect
import logging
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.engines.serving import Once, Request, next_slots
from eplb.engines.serving_options import (
    SWITCHES,
    VARIABLES,
    ServingOptions,
    options_from,
    switched_on,
    unknown_variables,
)
from eplb.errors import MissingDependencyError
from eplb.placement import Placement

SWITCH = "EPLB_SGLANG"
MADE_FOR = "0.5.23"
TARGET = "sglang.srt.eplb.eplb_algorithms.rebalance_experts"
PARAMETERS = (
    *("tokens_per_expert", "num_physical_experts", "num_local_physical_experts"),
    *("num_groups", "num_nodes", "algorithm"),
)
LOGGER = "sglang.srt.eplb.plugin"
ELASTIC = "elasticity_aware"


class SglangPlanner:
    """The planner behind SGLang's `rebalance_experts`; it remembers nothing, as SGLang hands over many steps at once.

    Parameters
    ----------
    options : ServingOptions
        How to plan; `history` is the number of windows that the recorded steps are summed up to.
    """

    def __init__(self, options: ServingOptions) -> None:
        self.options = options
        self.once = Once(LOGGER)

    def __call__(
        self,
        tokens_per_expert: Any,
        num_physical_experts: int,
        num_local_physical_experts: int,
        num_groups: int | None,
        num_nodes: int,
        held: NDArray[np.int64] | None,
    ) -> tuple[Any, Any, Any]:
        """Return physical_to_logical, logical_to_physical and replica counts as int64 tensors on the CPU.

        Parameters
        ----------
        tokens_per_expert : tensor [steps, layers, experts]
            Tokens of each expert, of all ranks together.
        num_physical_experts, num_local_physical_experts : int
            Slots of all ranks, and of one.
        num_groups, num_nodes : int or None, int
            As SGLang passes them.
        held : array [layers, slots] or None
            Expert in each slot now.
        """
        import torch

        windows = _summed(tokens_per_expert, self.options.history)
        request = Request(
            windows=windows,
            num_slots=num_physical_experts,
            num_ranks=num_physical_experts // num_local_physical_experts,
            num_nodes=num_nodes,
            groups=num_groups or 1,
            held=held if held is not None and len(held) == windows.shape[1] else None,
            ordered=False,  # SGLang's buffer is a ring, and does not tell where it begins
        )
        slots = next_slots(request, self.options, self.once)
        placement = Placement(
            physical_to_logical=slots.astype(np.int32), topology=request.topology, num_experts=windows.shape[2]
        )
        maps = (placement.physical_to_logical, placement.logical_to_physical, placement.replica_counts)
        return tuple(torch.from_numpy(array.astype(np.int64)) for array in maps)


def _summed(counts: Any, most: int) -> NDArray[np.float64]:
    """Return counts [T, L, E] as at most `most` windows of whole steps, those without any tokens left out."""
    import torch

    parts = counts.tensor_split(min(most, len(counts)))
    windows = torch.stack([part.sum(dim=0) for part in parts]).to("cpu", torch.float64).numpy()
    heard = windows.any(axis=(1, 2))
    return np.ascontiguousarray(windows[heard] if heard.any() else windows[-1:])


class Hook:
    """What stands around SGLang's `rebalance_experts`: the planner, while there is one."""

    planner: SglangPlanner | None = None
    registered = False

    @classmethod
    def around(cls, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Plan, or let `original` do so: without a planner, and for elastic expert parallelism."""
        call = dict(zip(PARAMETERS, args, strict=False)) | kwargs
        algorithm = call.pop("algorithm")
        if cls.planner is None:
            return original(*args, **kwargs)
        if algorithm.name.startswith(ELASTIC):
            cls.planner.once.say(logging.WARNING, "elastic", f"{algorithm.name} is left to SGLang: ranks may fail")
            return original(*args, **kwargs)
        cls.planner.once.say(logging.INFO, "plans", f"plans in place of {algorithm.name}")
        return cls.planner(**call, held=_held())


def _held() -> NDArray[np.int64] | None:
    from sglang.srt.eplb.expert_location import get_global_expert_location_metadata

    metadata = get_global_expert_location_metadata()
    return None if metadata is None else metadata.physical_to_logical_map_cpu.numpy().astype(np.int64)


def plug_in() -> None:
    """Put the planner where SGLang runs its algorithms if EPLB_SGLANG=1; SGLang calls this in each of its processes.

    A second call does nothing. What planning needs is compiled here, or loaded from disk.

    Raises
    ------
    OptionError
        If a variable holds what it cannot.
    MissingDependencyError
        If SGLang's function is not as expected; SGLang logs that and goes on with its own algorithm.
    """
    if not switched_on(os.environ, SWITCH) or Hook.planner is not None:
        return
    options = options_from(os.environ)
    registry, around = _registry()
    from eplb.warming import warm_up

    warm_up("even")
    Hook.planner = SglangPlanner(options)
    if not Hook.registered:
        registry.register(TARGET, Hook.around, around)
        Hook.registered = True
    logger = logging.getLogger(LOGGER)
    logger.info("eplb: plans SGLang's expert placement, %s", options)
    for name in unknown_variables(os.environ):
        logger.warning("eplb: %s means nothing; there are %s", name, ", ".join((*SWITCHES, *VARIABLES)))


def plug_out() -> None:
    """Let SGLang run its own algorithms again."""
    Hook.planner = None


def _registry() -> tuple[Any, Any]:
    """Return SGLang's registry of hooks and the type of ours, after checking the function that it goes around."""
    try:
        from sglang.srt.eplb import eplb_algorithms, expert_location
        from sglang.srt.plugins.hook_registry import HookRegistry, HookType
    except ImportError as exc:
        raise _unexpected(f"what is needed cannot be imported: {exc}") from exc
    found = tuple(inspect.signature(eplb_algorithms.rebalance_experts).parameters)
    if found != PARAMETERS:
        raise _unexpected(f"rebalance_experts takes {', '.join(found)}")
    if not hasattr(expert_location, "get_global_expert_location_metadata"):
        raise _unexpected("the placement in force is not where it was")
    return HookRegistry, HookType.AROUND


def _unexpected(what: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"EPLB_SGLANG=1: expected the algorithms of SGLang {MADE_FOR}, but {what}; unset EPLB_SGLANG, or "
        f"pip install 'sglang=={MADE_FOR}'"
    )
