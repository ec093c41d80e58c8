"""Layers by number: engines number all layers, number the MoE layers as the model does, or count MoE layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eplb.engines.hints import MAX_LAYERS
from eplb.errors import OptionError

MAX_NAMED = 6


def layers_from(text: str) -> tuple[int, ...]:
    """Return the layers that `text` lists: numbers and ranges, both ends included, with commas between.

    Raises
    ------
    OptionError
        If it is no such list, or a layer comes twice.

    Examples
    --------
    >>> layers_from("3-6,9")
    (3, 4, 5, 6, 9)
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise OptionError(
                f"layers: expected numbers and ranges such as 3-60 with commas between, got {text[:80]!r}"
            )
        if int(last or first) - int(first) >= MAX_LAYERS:
            raise OptionError(f"layers: expected at most {MAX_LAYERS:,} layers, got {text[:80]!r}")
        found += range(int(first), int(last or first) + 1)
    if not found or len(set(found)) < len(found) or len(found) > MAX_LAYERS:
        raise OptionError(f"layers: expected distinct layers, at most {MAX_LAYERS:,}, got {text[:80]!r}")
    return tuple(found)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def chosen_layers(
    layer_ids: NDArray[np.int64], wanted: Sequence[int] | None, counted: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that are kept of a file and the model's numbers of these layers, [L] and [L].

    Parameters
    ----------
    layer_ids : array of int, [rows]
        Numbers of the layers in the file.
    wanted : sequence of ints or None
        The model's numbers of the MoE layers; None: those of the file.
    counted : bool
        Whether the file only counts its layers, so that all of them are numbered anew.

    Raises
    ------
    OptionError
        If the file has another number of layers, or not all that are wanted.

    Examples
    --------
    >>> rows, ids = chosen_layers(np.arange(5), [3, 4], counted=False)
    >>> rows.tolist(), ids.tolist()
    ([3, 4], [3, 4])
    >>> rows, ids = chosen_layers(np.arange(2), [3, 4], counted=True)
    >>> rows.tolist(), ids.tolist()
    ([0, 1], [3, 4])
    """
    if wanted is None:
        return np.arange(len(layer_ids)), layer_ids
    ids = np.array(wanted, dtype=np.int64)
    row_of = {int(layer): row for row, layer in enumerate(layer_ids)}
    missing = [int(layer) for layer in ids if int(layer) not in row_of]
    if not counted and not missing:
        return np.array([row_of[int(layer)] for layer in ids]), ids
    if len(ids) == len(layer_ids):
        return np.arange(len(layer_ids)), ids
    if counted:
        raise OptionError(f"layers: expected one number for each of the {len(layer_ids)} layers, got {len(ids)}")
    raise OptionError(f"layers: expected some of {numbers_of(layer_ids)}, which the file has; got {missing[0]}")


def numbers_of(layer_ids: NDArray[np.int64]) -> str:
    """Return layers as a short text.

    Examples
    --------
    >>> numbers_of(np.arange(3, 61)), numbers_of(np.array([1, 3, 5]))
    ('3 to 60', '1, 3, 5')
    >>> numbers_of(np.arange(0, 48, 2))
    '0, 2, 4, 6, 8, 10 and 18 more'
    """
    ids = [int(layer) for layer in layer_ids]
    if len(ids) > 2 and ids == list(range(ids[0], ids[0] + len(ids))):
        return f"{ids[0]} to {ids[-1]}"
    more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    return ", ".join(map(str, ids[:MAX_NAMED])) + more
