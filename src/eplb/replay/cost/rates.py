"""How long a rank computes its experts: the two slopes of a grouped matrix product, and where they meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import nonnegative
from eplb.replay.cost.checking import count, share
from eplb.replay.cost.hardware import Hardware
from eplb.replay.cost.model_shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Seconds of the experts of one layer on one rank.

    With C = `seconds_per_token` x tokens and M = `seconds_per_activated_expert` x activated experts, a rank computes
    for ``max(C, M) + (1 - overlap) min(C, M)``: it waits for products or for weights, or for one after the other.

    Parameters
    ----------
    seconds_per_token : float
        Of one token in one expert, >= 0.
    seconds_per_activated_expert : float
        Of reading the weights of an expert that gets any token, >= 0.
    fixed_seconds : float, default 0
        Of a layer, whatever comes.
    overlap : float, default 1
        Share of the shorter of the two that the longer one hides, 0 to 1. 1: a roofline.
    tile_tokens : int, default 1
        The tokens of each activated expert count rounded up to a multiple of this.

    Raises
    ------
    OptionError
        If a figure is out of range.

    Examples
    --------
    >>> rates = Rates(seconds_per_token=1.0, seconds_per_activated_expert=100.0)
    >>> rates.seconds([50, 500], [2, 2]).tolist()  # bound by weights, then by products
    [200.0, 500.0]
    """

    seconds_per_token: float
    seconds_per_activated_expert: float
    fixed_seconds: float = 0.0
    overlap: float = 1.0
    tile_tokens: int = 1

    def __post_init__(self) -> None:
        for name in ("seconds_per_token", "seconds_per_activated_expert", "fixed_seconds"):
            nonnegative(getattr(self, name), name)
        share(self.overlap, "overlap")
        count(self.tile_tokens, "tile_tokens")

    @property
    def knee_tokens(self) -> float:
        """Tokens of an expert from which on products take longer than reading its weights; infinite if they take none.

        Examples
        --------
        >>> Rates(seconds_per_token=1.0, seconds_per_activated_expert=100.0).knee_tokens
        100.0
        """
        return self.seconds_per_activated_expert / self.seconds_per_token if self.seconds_per_token else math.inf

    def seconds(
        self, tokens: ArrayLike, activated_experts: ArrayLike, rows: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return the seconds of ranks, [...], without `fixed_seconds`.

        Parameters
        ----------
        tokens, activated_experts : array_like [...]
            Tokens, one an expert that each goes to, and experts that get any.
        rows : array_like [...], optional
            The tokens with each expert's rounded up to tiles, as `rows_of_slots` counts them. Default: an estimate,
            half a tile more for each activated expert.
        """
        activated = np.asarray(activated_experts, dtype=np.float64)
        counted = rows_estimated(tokens, activated, self.tile_tokens) if rows is None else np.asarray(rows, np.float64)
        products = self.seconds_per_token * counted
        weights = self.seconds_per_activated_expert * activated
        return np.asarray(np.maximum(products, weights) + (1 - self.overlap) * np.minimum(products, weights))


def rates_of(hardware: Hardware, model: ModelShape) -> Rates:
    """Return the rates that the datasheet of `hardware` gives for `model`, times its efficiency.

    Examples
    --------
    >>> from eplb.replay.cost import hardware_named, model_named
    >>> rates = rates_of(hardware_named("h100"), model_named("deepseek-v3"))
    >>> round(rates.knee_tokens)
    295
    """
    return Rates(
        seconds_per_token=model.flops_per_token / hardware.flops_per_s(model.compute_type),
        seconds_per_activated_expert=model.bytes_per_expert
        / (hardware.memory_bandwidth_bytes_per_s * hardware.efficiency),
        fixed_seconds=hardware.fixed_seconds_per_layer,
        tile_tokens=hardware.tile_tokens,
    )


def rows_estimated(tokens: ArrayLike, activated_experts: ArrayLike, tile_tokens: int) -> NDArray[np.float64]:
    """Return `tokens` with half a tile more, less half a token, for each activated expert: tiles filled by chance."""
    spare = (tile_tokens - 1) / 2
    return np.asarray(tokens, dtype=np.float64) + spare * np.asarray(activated_experts, dtype=np.float64)


def rows_of_slots(slot_tokens: ArrayLike, slot_offsets: NDArray[Any], tile_tokens: int) -> NDArray[np.float64]:
    """Return the rows of each rank, [..., R], when the tokens of each slot are rounded up to tiles.

    Parameters
    ----------
    slot_tokens : array_like [..., P]
        Tokens of each slot, >= 0.
    slot_offsets : array [R + 1]
        First slot of each rank, then the number of slots, as in `Topology.slot_offsets`.
    tile_tokens : int
        Rows of a tile, >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> rows_of_slots([1, 0, 64, 65], np.array([0, 2, 4]), 64).tolist()
    [64.0, 192.0]
    """
    tiles = np.ceil(np.asarray(slot_tokens, dtype=np.float64) / tile_tokens) * tile_tokens
    return np.asarray(np.add.reduceat(tiles, slot_offsets[:-1], axis=-1))
