"""Checks on arrays that come from outside, shared by the nouns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eplb.errors import InputError, LoadsError, OptionError

MAX_INT64 = 2**63 - 1
MAX_CHARACTERS = 2**20
NUMBER_LENGTH = 32  # of a number, as numpy turns it into text


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` set read-only (the array itself, not a copy)."""
    array.setflags(write=False)
    return array


def array_of(values: Any, what: str, error: type[InputError]) -> NDArray[Any]:
    """Return `values`, array_like or a torch tensor, as a numpy array; else raise `error` that begins with `what`."""
    if isinstance(values, np.ma.MaskedArray):
        raise error(f"{what}; got a masked array: fill or drop what is masked first")
    if isinstance(values, (list, tuple)):
        _check_texts(values, what, error)
    try:
        if hasattr(values, "detach") and hasattr(values, "cpu"):
            values = values.detach().cpu()
            if str(values.dtype) == "torch.bfloat16":  # numpy has none
                values = values.float()
            values = values.numpy()
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as exc:
        raise error(f"{what}; {exc}") from None


def _check_texts(values: Sequence[Any], what: str, error: type[InputError]) -> None:
    """Raise for texts in long nested lists of numbers: numpy would make every entry as long as the longest text."""
    waiting, longest, num_entries = [values], "", 0
    while waiting:
        part = waiting.pop()
        num_entries += len(part)
        kinds = set(map(type, part))
        if any(issubclass(kind, (str, bytes)) for kind in kinds):
            longest = max(longest, *(str(entry) for entry in part if isinstance(entry, (str, bytes))), key=len)
        if any(issubclass(kind, (list, tuple)) for kind in kinds):
            waiting += [entry for entry in part if isinstance(entry, (list, tuple))]
    if longest and num_entries * max(len(longest), NUMBER_LENGTH) > MAX_CHARACTERS:
        raise error(f"{what}; got {num_entries:,} entries with texts among them, such as {longest[:40]!r}")


def integers(values: ArrayLike, name: str, error: type[InputError]) -> NDArray[np.int64]:
    """Return `values` as a new 1-D int64 array, or raise `error` naming the shape and dtype, or the first too large."""
    array = array_of(values, f"{name}: expected a list of integers", error)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise error(f"{name}: expected a list of integers, got shape {array.shape} of dtype {array.dtype}")
    if array.dtype.kind == "u" and (array > MAX_INT64).any():
        index = int(np.argmax(array > MAX_INT64))
        raise error(f"{name}: expected at most 2**63 - 1, got {array[index]} at index {index}")
    return array.astype(np.int64)


def loads_array(loads: ArrayLike | Sequence[Any], ndims: tuple[int, ...] = (2, 3)) -> NDArray[Any]:
    """Return `loads` as a numeric numpy array of the wanted rank, without judging its values.

    Raises
    ------
    LoadsError
        For ragged or object arrays, complex or boolean ones, a wrong number of axes or an empty axis.
    """
    shapes = " or ".join({2: "[layers, experts]", 3: "[windows, layers, experts]"}[n] for n in ndims)
    array = array_of(loads, f"loads: expected a rectangular array {shapes}", LoadsError)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise LoadsError(f"loads: expected integers or floats of at most 64 bits, got dtype {array.dtype}")
    if array.ndim not in ndims:
        raise LoadsError(f"loads: expected {shapes}, got shape {array.shape}")
    if 0 in array.shape:
        raise LoadsError(f"loads: expected at least one entry on every axis of {shapes}, got shape {array.shape}")
    return array


def check_finite_nonnegative(array: NDArray[Any], name: str = "loads") -> None:
    """Raise `LoadsError` that names the first NaN, infinite or negative entry of `array`."""
    if array.dtype.kind == "u":
        return
    with np.errstate(invalid="ignore"):
        good = (array >= 0) & (array < np.inf)
    if good.all():
        return
    index = tuple(int(i) for i in np.unravel_index(int(np.argmin(good)), array.shape))
    raise LoadsError(
        f"{name}: expected finite values >= 0, got {array[index]} at {list(index)}; "
        "repair or leave out that part of the recording"
    )


def nonnegative(value: Any, name: str) -> float:
    """Return `value` as a float, or raise `OptionError` if it is no finite number >= 0."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise OptionError(f"{name}: expected a finite number >= 0, got {value!r}")
    return float(value)
