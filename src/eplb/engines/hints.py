"""What is known about a file beside what the file says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eplb.arrays import integers
from eplb.errors import OptionError

MAX_EXPERTS = 2**16
MAX_LAYERS = 2**14
MAX_CELLS = 2**26
"""Most entries of an array that numbers of layers can ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What is known about a file beside what the file says; everything is optional.

    Parameters
    ----------
    num_ranks : int, optional
        Ranks of a placement. SGLang and TensorRT-LLM do not write them down.
    num_nodes : int or sequence of ints, default 1
        Nodes of a placement, or the node of each rank; no engine writes them down.
    num_experts : int, optional
        Routed experts E of a layer; default: what the file says, or the largest id plus 1. In an expert map of
        vllm-ascend, ids from E on are shared experts.
    layers : sequence of ints, optional
        The model's own numbers of the MoE layers: these are kept of a file that numbers all layers, and given to the
        layers of a file that only counts them.
    num_hidden_layers : int, optional
        Layers of the model, dense ones included: the rows of SGLang's files. Default: up to the last MoE layer.
    steps_per_window : int, default 1
        Recorded steps that are summed to a window of loads.
    experts_per_token : int, optional
        Experts that a token is routed to, which TensorRT-LLM's statistics hold.
    shared_from : path, optional
        An expert map of vllm-ascend whose shared experts keep their slots in the map that is written.

    Raises
    ------
    OptionError
        If a number is out of its range.
    """

    num_ranks: int | None = None
    num_nodes: int | Sequence[int] = 1
    num_experts: int | None = None
    layers: Sequence[int] | None = None
    num_hidden_layers: int | None = None
    steps_per_window: int = 1
    experts_per_token: int | None = None
    shared_from: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name, most in (
            ("num_ranks", 2**20),
            ("num_experts", MAX_EXPERTS),
            ("num_hidden_layers", MAX_LAYERS),
            ("steps_per_window", 2**31),
            ("experts_per_token", MAX_EXPERTS),
        ):
            value = getattr(self, name)
            if value is not None and not _is_count(value, most):
                raise OptionError(f"{name}: expected an integer of 1 to {most:,}, got {value!r}")
        if self.layers is not None:
            ids = integers(list(self.layers), "layers", OptionError)
            if not ids.size or ids.min() < 0 or np.unique(ids).size < ids.size:
                raise OptionError(f"layers: expected distinct numbers >= 0, got {list(self.layers)[:8]}")


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
