"""Arrays as text that a page decodes into typed arrays in an instant."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = ("u1", "u2", "u4", "f4", "f8")
LOADS_SCALE = 1000
MISSING = 2**16 - 1


def packed(array: NDArray[Any], dtype: str) -> dict[str, Any]:
    """Return `array` as type, shape and base64 of its little-endian bytes.

    Examples
    --------
    >>> packed(np.array([[1, 2, 300]]), "u2")
    {'type': 'u2', 'shape': [1, 3], 'data': 'AQACACwB'}
    """
    data = np.ascontiguousarray(array, dtype=f"<{dtype}").tobytes()
    return {"type": dtype, "shape": list(array.shape), "data": base64.b64encode(data).decode("ascii")}


def packed_counts(array: NDArray[Any]) -> dict[str, Any]:
    """Return counts in the smallest type that holds them."""
    largest = int(array.max(initial=0))
    return packed(array, "u1" if largest < 2**8 else "u2" if largest < 2**16 else "u4" if largest < 2**32 else "f8")


def packed_over_mean(array: NDArray[np.float64]) -> dict[str, Any]:
    """Return rank loads over the mean in thousandths, of two bytes each; NaN is `MISSING`, and 65 and more are 65."""
    thousandths = np.minimum(np.rint(array * LOADS_SCALE), MISSING - 1)
    return packed(np.where(np.isnan(array), MISSING, thousandths), "u2")
