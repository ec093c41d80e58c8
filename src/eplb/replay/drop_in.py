"""Any function with the signature of DeepSeek's `rebalance_experts` as a policy."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.arrays import array_of
from eplb.deepseek import rebalance_experts
from eplb.errors import EplbError, LoadsError, OptionError, PlacementError, TopologyError
from eplb.placement import Placement
from eplb.topology import Topology
from eplb.trace import LoadTrace

RECENT_WINDOWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DropInPolicy:
    """A function `(weight, num_replicas, num_groups, num_nodes, num_gpus) -> (phy2log, ...)`, asked at each replan.

    Parameters
    ----------
    name : str
        What results call it.
    function : callable
        Takes loads [L, E] in float32; the first of what it returns is the expert of each slot, [L, P].
    groups : int, default 1
        Expert groups, passed as `num_groups`.
    recent : int, default 8
        The newest windows of the history, whose sum is passed.
    tensors : bool, default True
        Whether `weight` is a torch tensor, where torch can be imported; else it is a numpy array.

    Raises
    ------
    OptionError
        If `function` cannot be called, or `recent` is no integer >= 1.
    """

    name: str
    function: Callable[..., Any]
    groups: int = 1
    recent: int = RECENT_WINDOWS
    tensors: bool = True

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise OptionError(f"function: expected something to call, got {type(self.function).__name__}")
        if isinstance(self.recent, bool) or not isinstance(self.recent, (int, np.integer)) or self.recent < 1:
            raise OptionError(f"recent: expected an integer >= 1, got {self.recent!r}")

    def place(
        self, history: LoadTrace, topology: Topology, previous: Placement | None, max_moves: int | None
    ) -> Placement:
        """Return what the function plans for the sum of the newest windows; it knows nothing of `previous`.

        Raises
        ------
        TopologyError
            If such a function cannot be told of this machine; see `why_no_drop_in`.
        PlacementError
            If it raises, or what it returns is no sound placement.
        LoadsError
            If the sum is beyond float32.
        """
        if reason := why_no_drop_in(topology):
            raise TopologyError(f"{reason}, which a function with DeepSeek's signature cannot know; leave it out")
        weight = recent_sum(history.loads, self.recent)
        slots = self._slots(_tensor(weight) if self.tensors else weight, history.num_layers, topology)
        return Placement(
            physical_to_logical=slots,
            topology=topology,
            num_experts=history.num_experts,
            layer_ids=history.layer_ids,
        )

    def _slots(self, weight: Any, num_layers: int, topology: Topology) -> NDArray[np.int32]:
        sizes = (topology.num_slots, self.groups, topology.node_count, topology.num_ranks)
        try:
            result = self.function(weight, *sizes)
        except EplbError:
            raise
        except Exception as exc:  # somebody else's code raises anything
            raise PlacementError(f"the function raised {type(exc).__name__}: {exc}") from exc
        if not isinstance(result, (tuple, list)) or not result:
            raise PlacementError(f"expected a tuple (phy2log, ...) from the function, got {type(result).__name__}")
        slots = array_of(result[0], "phy2log: expected an array [layers, slots]", PlacementError)
        if slots.shape != (num_layers, topology.num_slots):
            raise PlacementError(
                f"phy2log: expected [{num_layers} layers, {topology.num_slots} slots], got shape {slots.shape}"
            )
        return slots


def deepseek_policy(groups: int = 1, recent: int = RECENT_WINDOWS) -> DropInPolicy:
    """Return DeepSeek's algorithm, as `eplb.rebalance_experts` computes it, on the sum of the newest windows."""
    function = partial(rebalance_experts, policy="deepseek")
    return DropInPolicy(name="deepseek", function=function, groups=groups, recent=recent, tensors=False)


def drop_in_policy(spec: str, groups: int = 1, recent: int = RECENT_WINDOWS) -> DropInPolicy:
    """Return the policy named by ``name=path/to/file.py:function``; the file is run.

    Raises
    ------
    OptionError
        If `spec` reads otherwise, the file cannot be run, or it has no such function.
    """
    name, _, place = spec.partition("=")
    path, _, function = place.rpartition(":")
    if not (name and path and function):
        raise OptionError(f"policy: expected NAME=path/to/file.py:function, got {spec!r}")
    found = getattr(_module(Path(path)), function, None)
    if not callable(found):
        raise OptionError(f"policy {name}: expected a function {function!r} in {path}, found none")
    _tensor(np.zeros((1, 1), dtype=np.float32))  # imports torch now, so that no plan is timed with it
    return DropInPolicy(name=name, function=found, groups=groups, recent=recent)


def why_no_drop_in(topology: Topology) -> str | None:
    """Return what of `topology` a function with DeepSeek's signature cannot be told, or None.

    Examples
    --------
    >>> why_no_drop_in(Topology(num_ranks=2, slots_per_rank=[3, 4]))
    'ranks have different numbers of slots'
    """
    if not isinstance(topology.slots_per_rank, int):
        return "ranks have different numbers of slots"
    if topology.failed_ranks:
        return "ranks have failed"
    if not isinstance(topology.num_nodes, int) or topology.num_ranks % topology.num_nodes:
        return "nodes have different numbers of ranks, or ranks out of order"
    return None


def recent_sum(loads: NDArray[Any], recent: int) -> NDArray[np.float32]:
    """Return the sum [L, E] of the last `recent` windows of `loads` [T, L, E], or of all if they are fewer.

    Raises
    ------
    LoadsError
        If an entry is beyond float32.
    """
    total = np.zeros(loads.shape[1:])
    with np.errstate(over="ignore"):
        for window in loads[-recent:]:
            total += window
        weight = total.astype(np.float32)
    if not np.isfinite(weight).all():
        raise LoadsError(f"loads: the sum of {min(recent, len(loads))} windows is beyond float32; scale them down")
    return weight


def _tensor(weight: NDArray[np.float32]) -> Any:
    try:
        import torch
    except ImportError:
        return weight
    return torch.from_numpy(weight)


def _module(path: Path) -> Any:
    """Run the file at `path` and return it as a module; what lies beside it can be imported by it."""
    spec = importlib.util.spec_from_file_location(f"eplb_policy_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise OptionError(f"policy: expected a Python file, got {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # for good: the function may import when it is called
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise OptionError(f"policy: {path} cannot be run: {type(exc).__name__}: {exc}") from exc
    return module
