"""The shapes and loads that every planner is measured on; all loads are seeded."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eplb import Topology

TOKENS_PER_EXPERT = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model and the ranks it is served on.

    Parameters
    ----------
    name : str
        What the command line and the tables call it.
    num_layers, num_experts, num_slots, num_ranks : int
        Layers, logical experts, slots over all ranks, ranks.
    num_nodes, num_groups : int, default 1
        Nodes, and expert groups that stay on one node each.
    """

    name: str
    num_layers: int
    num_experts: int
    num_slots: int
    num_ranks: int
    num_nodes: int = 1
    num_groups: int = 1

    @property
    def topology(self) -> Topology:
        """The ranks as `eplb.plan` wants them."""
        return Topology(
            num_ranks=self.num_ranks, slots_per_rank=self.num_slots // self.num_ranks, num_nodes=self.num_nodes
        )

    @property
    def title(self) -> str:
        """One line for a table."""
        grouped = f", {self.num_nodes} nodes, {self.num_groups} groups" if self.num_groups > 1 else ""
        return (
            f"{self.name}: {self.num_layers} layers x {self.num_experts} experts -> {self.num_slots} slots "
            f"on {self.num_ranks} ranks{grouped}"
        )


_ALL = (
    Shape(name="v3-grouped", num_layers=58, num_experts=256, num_slots=288, num_ranks=32, num_nodes=4, num_groups=8),
    Shape(name="v3-global", num_layers=58, num_experts=256, num_slots=288, num_ranks=32),
    Shape(name="qwen3", num_layers=94, num_experts=128, num_slots=160, num_ranks=16),
    Shape(name="kimi", num_layers=60, num_experts=384, num_slots=448, num_ranks=64),
    Shape(name="v3-decode", num_layers=58, num_experts=256, num_slots=320, num_ranks=320),
    Shape(name="tiny", num_layers=2, num_experts=8, num_slots=12, num_ranks=4),
)
SHAPES = {shape.name: shape for shape in _ALL}
DEFAULT_SHAPES = tuple(name for name in SHAPES if name != "tiny")


def _lognormal(rng: np.random.Generator, num_layers: int, num_experts: int) -> NDArray[np.float64]:
    return rng.lognormal(0.0, 1.0, (num_layers, num_experts))


def _zipf(rng: np.random.Generator, num_layers: int, num_experts: int) -> NDArray[np.float64]:
    shares = 1.0 / np.arange(1, num_experts + 1)
    return np.stack([rng.permutation(shares) for _ in range(num_layers)])


def _dirichlet(rng: np.random.Generator, num_layers: int, num_experts: int) -> NDArray[np.float64]:
    return rng.dirichlet(np.full(num_experts, 0.3), num_layers)


LOADS: dict[str, Callable[[np.random.Generator, int, int], NDArray[np.float64]]] = {
    "lognormal": _lognormal,
    "zipf": _zipf,
    "dirichlet": _dirichlet,
}


def loads_for(shape: Shape, name: str, seed: int = 0) -> NDArray[np.float32]:
    """Return loads [L, E] in float32, which every planner can read, with a mean of `TOKENS_PER_EXPERT` a layer.

    Parameters
    ----------
    shape : Shape
        Layers and experts; shapes of the same model get the same loads.
    name : str
        A key of `LOADS`: lognormal (sigma 1), zipf (exponent 1, permuted in each layer), dirichlet (0.3).
    seed : int, default 0
        Seed of the generator.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    shares = LOADS[name](rng, shape.num_layers, shape.num_experts)
    return (shares / shares.mean(axis=1, keepdims=True) * TOKENS_PER_EXPERT).astype(np.float32)
