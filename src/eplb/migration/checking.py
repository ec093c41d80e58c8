"""What can be wrong with a migration before anything moves, named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.errors import OptionError, PlacementError
from eplb.migration.pairs import check_pair
from eplb.migration.staging import aligned, row_bytes
from eplb.topology import Topology


def check_placements(old: Any, new: Any) -> None:
    """Raise `PlacementError` unless both are placements of the same layers, experts, ranks, slots and failed ranks."""
    check_pair(old, new)
    before, after = list(old.topology.failed_ranks), list(new.topology.failed_ranks)
    if before != after:
        raise PlacementError(
            f"new: expected the failed ranks {before} as in old, got {after}; start from eplb.migration.recover"
        )


def members_of(num_ranks: int, topology: Topology) -> list[int]:
    """Return the rank of the topology that each rank of the group is: all of them, or those that work.

    Raises
    ------
    OptionError
        If the group is of another size.
    """
    for members in (np.arange(topology.num_ranks), np.flatnonzero(topology.alive)):
        if len(members) == num_ranks:
            return [int(member) for member in members]
    raise OptionError(
        f"group: expected one process for each of the {topology.num_ranks} ranks of the placements, or for each of the "
        f"{int(topology.alive.sum())} that work, got {num_ranks}"
    )


def check_weights(weights: Any, num_layers: int, num_slots: int) -> None:
    """Raise `OptionError` unless `weights` is what one rank holds: contiguous tensors [slots, ...] on one device."""
    import torch

    expected = f"weights: expected a list of {num_layers} layers, each a list of tensors [{num_slots} slots, ...]"
    if not isinstance(weights, Sequence) or len(weights) != num_layers:
        got = f"{len(weights)} layers" if isinstance(weights, Sequence) else type(weights).__name__
        raise OptionError(f"{expected}, got {got}")
    devices: dict[Any, str] = {}
    for layer, parameters in enumerate(weights):
        if not isinstance(parameters, Sequence) or not parameters:
            raise OptionError(f"{expected}, got {type(parameters).__name__} for layer {layer}")
        for number, parameter in enumerate(parameters):
            name = f"weights[{layer}][{number}]"
            if not isinstance(parameter, torch.Tensor):
                raise OptionError(f"{name}: expected a tensor, got {type(parameter).__name__}")
            _check_parameter(parameter, name, num_slots)
            devices.setdefault(parameter.device, name)
    if len(devices) > 1:
        where = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise OptionError(f"weights: expected all on one device, got {where}")
    if next(iter(devices)).type == "meta":
        raise OptionError("weights: expected tensors with memory, got device meta")


def _check_parameter(parameter: Any, name: str, num_slots: int) -> None:
    import torch

    if parameter.layout != torch.strided:
        raise OptionError(f"{name}: expected a dense tensor, got {parameter.layout}")
    if parameter.ndim == 0 or len(parameter) != num_slots:
        raise OptionError(
            f"{name}: expected one row for each of the {num_slots} slots of this rank, got shape "
            f"{tuple(parameter.shape)}"
        )
    if not parameter.is_contiguous():
        raise OptionError(
            f"{name}: expected a contiguous tensor, got strides {parameter.stride()} for shape "
            f"{tuple(parameter.shape)}; pass the tensor that it is a view of, or store it anew"
        )


def most_staged(weights: Any, changed: NDArray[np.bool_], max_staging_bytes: Any) -> NDArray[np.int64] | None:
    """Return how many experts `max_staging_bytes` holds in each layer, [L]; None if there is no limit.

    Raises
    ------
    OptionError
        If it is no number of bytes, or does not hold an expert of a layer that changes.
    """
    if max_staging_bytes is None:
        return None
    if isinstance(max_staging_bytes, bool) or not isinstance(max_staging_bytes, (int, np.integer)):
        raise OptionError(f"max_staging_bytes: expected an integer, got {max_staging_bytes!r}")
    expert_bytes = np.array([sum(aligned(row_bytes(part)) for part in layer) for layer in weights], dtype=np.int64)
    largest = int(np.where(changed, expert_bytes, 0).argmax())
    if changed[largest] and max_staging_bytes < expert_bytes[largest]:
        raise OptionError(
            f"max_staging_bytes: expected room for one expert, {expert_bytes[largest]} bytes in layer {largest}, "
            f"got {max_staging_bytes}"
        )
    return np.asarray(int(max_staging_bytes) // np.maximum(expert_bytes, 1), dtype=np.int64)


def check_timeout(timeout_s: Any) -> None:
    """Raise `OptionError` unless `timeout_s` is a number of seconds."""
    number = isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool)
    if not number or not math.isfinite(timeout_s) or timeout_s <= 0:
        raise OptionError(f"timeout_s: expected a finite number of seconds > 0, got {timeout_s!r}")
