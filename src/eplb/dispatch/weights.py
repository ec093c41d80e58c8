"""Checking weights that come from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.arrays import array_of
from eplb.errors import OptionError
from eplb.placement import Placement

ROUNDING = 1e-6  # weights may have been float32


def checked_weights(placement: Placement, weights: ArrayLike, name: str = "weights") -> NDArray[np.float64]:
    """Return `weights`, [L, P] or [T, L, P], in float64: what part of its expert's tokens each slot gets.

    Raises
    ------
    OptionError
        If the shape is not that of the placement, one is negative or NaN, or those of an expert do not sum to 1; slots
        of failed ranks count 0.
    """
    shape = placement.physical_to_logical.shape
    wanted = f"{name}: expected one number a slot, [{shape[0]} layers, {shape[1]} slots]"
    array = array_of(weights, wanted, OptionError)
    if array.dtype.kind not in "iuf" or array.ndim not in (2, 3) or array.shape[-2:] != shape or not array.size:
        raise OptionError(f"{wanted}, with or without windows before, got shape {array.shape} of dtype {array.dtype}")
    checked: NDArray[np.float64] = array.astype(np.float64)
    bad = ~(checked >= 0) | ((placement.physical_to_logical < 0) & (checked != 0))
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise OptionError(
            f"{name}: expected shares of 0 to 1, and 0 on failed ranks, got {array[index]} at {list(index)}"
        )
    _check_sums(placement, checked, name)
    return checked


def _check_sums(placement: Placement, weights: NDArray[np.float64], name: str) -> None:
    for layer, slots in enumerate(placement.physical_to_logical):
        held = slots >= 0
        for window in weights.reshape(-1, *weights.shape[-2:])[:, layer]:
            sums: NDArray[Any] = np.bincount(slots[held], weights=window[held], minlength=placement.num_experts)
            if (np.abs(sums - 1) > ROUNDING).any():
                expert = int(np.argmax(np.abs(sums - 1) > ROUNDING))
                raise OptionError(
                    f"{name}: expected those of an expert to sum to 1, got {sums[expert]} for expert {expert} of layer "
                    f"{layer}; eplb.split returns such weights"
                )
