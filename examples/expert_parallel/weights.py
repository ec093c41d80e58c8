"""The weights: those of the whole model, and those of the slots of a rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from sizes import Sizes
from torch import Tensor

from eplb import Placement


class WholeModel(NamedTuple):
    """All experts once, as a process that does everything by itself holds them."""

    routers: list[Tensor]
    """A tensor [E, D] each layer."""
    experts: list[list[Tensor]]
    """For each layer gate [E, H, D], up [E, H, D] and down [E, D, H]."""


def whole_model(sizes: Sizes, seed: int) -> WholeModel:
    """Return random weights of the usual scale; the same seed gives the same."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    experts, width, hidden = sizes.num_experts, sizes.width, sizes.hidden_width
    layers = range(sizes.num_layers)
    return WholeModel(
        routers=[drawn(experts, width) for _ in layers],
        experts=[
            [drawn(experts, hidden, width), drawn(experts, hidden, width), drawn(experts, width, hidden)]
            for _ in layers
        ],
    )


def slots_of(model: WholeModel, placement: Placement, rank: int) -> list[list[Tensor]]:
    """Return copies of what the slots of a rank hold: for each layer gate and up [S, H, D], and down [S, D, H]."""
    mine = placement.topology.rank_of_slot == rank
    slots = torch.from_numpy(placement.physical_to_logical[:, mine]).long()
    return [[parameter[held] for parameter in layer] for layer, held in zip(model.experts, slots, strict=True)]


def expert_bytes(weights: Sequence[Sequence[Tensor]]) -> int:
    """Return the bytes of the largest expert: those of its gate, up and down together."""
    return max(sum(int(parameter[0].nbytes) for parameter in layer) for layer in weights)


def flip_a_bit(weights: list[list[Tensor]]) -> None:
    """Damage one weight: flip the highest bit of the mantissa of a number in the first slot of the first layer."""
    number = weights[0][0].view(torch.int32)[0, 0, :1]
    number ^= 1 << 22
