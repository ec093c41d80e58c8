"""The planner as the policy of vLLM's expert-parallel load balancer, in a plug-in of `vllm.general_plugins`.

Made for vLLM 0.33.0. Installed, it does nothing; with EPLB_VLLM=1 it takes the place of the policy "default", whose
name stays, as vLLM knows no other. See docs/engines/vllm.md.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eplb.engines.history import Histories, Shape
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

if TYPE_CHECKING:
    import torch

SWITCH = "EPLB_VLLM"
MADE_FOR = "0.33.0"
PARAMETERS = ("weight", "num_replicas", "num_groups", "num_nodes", "num_ranks", "old_global_expert_indices")
LOGGER = "vllm.plugins.eplb"
"""Below "vllm", whose loggers vLLM shows."""


class VllmPlanner:
    """The planner behind vLLM's policy interface; one in a process, for all its models.

    Parameters
    ----------
    options : ServingOptions
        How to plan.

    Examples
    --------
    >>> import torch
    >>> planner = VllmPlanner(ServingOptions())
    >>> loads, slots = torch.tensor([[90, 10, 20, 10]]), torch.tensor([[0, 1, 2, 3, 0, 1]])
    >>> planner.rebalance_experts(loads, num_replicas=6, num_groups=1, num_nodes=1, num_ranks=2,
    ...     old_global_expert_indices=slots).tolist()
    [[0, 1, 2, 3, 0, 2]]
    """

    def __init__(self, options: ServingOptions) -> None:
        self.options = options
        self.once = Once(LOGGER)
        self._histories = Histories(options.history)
        self._lock = threading.Lock()  # vLLM plans on a thread of its own, and on the main one when ranks change

    def rebalance_experts(
        self,
        weight: torch.Tensor,
        num_replicas: int,
        num_groups: int,
        num_nodes: int,
        num_ranks: int,
        old_global_expert_indices: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the expert of each slot, an int64 tensor on the CPU, [layers, num_replicas].

        Parameters
        ----------
        weight : tensor [layers, experts]
            Tokens of each expert, summed over vLLM's window and over all ranks.
        num_replicas : int
            Slots of all ranks.
        num_groups, num_nodes, num_ranks : int
            As vLLM passes them; groups stay on one node each where the nodes divide them.
        old_global_expert_indices : tensor [layers, slots], optional
            Expert in each slot now, -1 for none; of fewer or more ranks than `num_ranks` when vLLM scales.
        """
        import torch

        window = weight.detach().to("cpu", torch.float64).numpy()
        held = None
        if old_global_expert_indices is not None:
            held = old_global_expert_indices.detach().to("cpu", torch.int64).numpy()
        shape = Shape(
            num_layers=int(window.shape[0]),
            num_experts=int(window.shape[1]),
            num_slots=int(num_replicas),
            num_ranks=int(num_ranks),
            num_nodes=int(num_nodes),
            groups=int(num_groups or 1),
        )
        with self._lock:
            return torch.from_numpy(np.ascontiguousarray(self._next(shape, window, held)))

    def _next(self, shape: Shape, window: NDArray[np.float64], held: NDArray[np.int64] | None) -> NDArray[np.int64]:
        # Sums without tokens come while vLLM starts, on some ranks only: nothing that is remembered may depend on them.
        sound = bool(np.isfinite(window).all()) and window.min() >= 0 and window.any()
        windows = self._histories.windows(shape, window.copy(), held) if sound else window[None]
        request = Request(
            windows=windows,
            num_slots=shape.num_slots,
            num_ranks=shape.num_ranks,
            num_nodes=shape.num_nodes,
            groups=shape.groups,
            held=held,
        )
        slots = next_slots(request, self.options, self.once)
        if sound:
            self._histories.planned(shape, None if held is None else held.copy(), slots.copy())
        return slots


def plug_in() -> None:
    """Make the planner vLLM's policy if EPLB_VLLM=1; vLLM calls this in each of its processes.

    A second call does nothing. What planning needs is compiled here, or loaded from disk.

    Raises
    ------
    OptionError
        If a variable holds what it cannot.
    MissingDependencyError
        If vLLM's policies are not as expected.
    """
    if not switched_on(os.environ, SWITCH):
        return
    options = options_from(os.environ)
    policies, base = _policies()
    if hasattr(policies["default"], "eplb_planner"):
        return
    from eplb.warming import warm_up

    warm_up("even")
    policies["default"] = _policy_class(base, VllmPlanner(options), policies["default"])
    logger = logging.getLogger(LOGGER)
    logger.info("eplb: plans vLLM's expert placement (policy 'default'), %s", options)
    for name in unknown_variables(os.environ):
        logger.warning("eplb: %s means nothing; there are %s", name, ", ".join((*SWITCHES, *VARIABLES)))


def plug_out() -> None:
    """Give vLLM back the policy it had; models that were added before keep theirs."""
    policies, _ = _policies()
    policies["default"] = getattr(policies["default"], "eplb_replaces", policies["default"])


def _policy_class(base: type, planner: VllmPlanner, replaces: type) -> type:
    def rebalance_experts(cls: type, *args: Any, **kwargs: Any) -> Any:
        return planner.rebalance_experts(*args, **kwargs)

    content = {"rebalance_experts": classmethod(rebalance_experts), "eplb_planner": planner, "eplb_replaces": replaces}
    return type("EplbPolicy", (base,), content)


def _policies() -> tuple[dict[str, Any], type]:
    """Return vLLM's policies by name, and the class that they derive from, after checking both."""
    try:
        from vllm.distributed.eplb.policy import EPLB_POLICIES, AbstractEplbPolicy
    except ImportError as exc:
        raise _unexpected(f"its policies cannot be imported: {exc}") from exc
    if not isinstance(EPLB_POLICIES, dict) or "default" not in EPLB_POLICIES:
        raise _unexpected("EPLB_POLICIES is no dict with a policy 'default'")
    found = tuple(inspect.signature(AbstractEplbPolicy.rebalance_experts).parameters)
    if found != PARAMETERS:
        raise _unexpected(f"rebalance_experts takes {', '.join(found)}")
    return EPLB_POLICIES, AbstractEplbPolicy


def _unexpected(what: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"EPLB_VLLM=1: expected the policies of vLLM {MADE_FOR}, but {what}; unset EPLB_VLLM, or "
        f"pip install 'vllm=={MADE_FOR}'"
    )
