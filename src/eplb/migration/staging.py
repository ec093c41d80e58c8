"""The weights of a rank as bytes, and the buffer in which experts wait for the decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ALIGNMENT_BYTES = 16


class ExpertRows:
    """The weights of one layer, a row of bytes for each slot and parameter.

    Parameters
    ----------
    parameters : sequence of tensors [slots, ...]
        Contiguous, of any dtype.
    """

    __slots__ = ("_offsets", "_rows", "expert_bytes", "num_slots")

    def __init__(self, parameters: Sequence[Any]) -> None:
        self._rows = [row for row in map(_as_bytes, parameters) if row.shape[1]]
        self.num_slots = len(parameters[0])
        self._offsets = [0]
        for row in self._rows:
            self._offsets.append(self._offsets[-1] + aligned(row.shape[1]))
        self.expert_bytes = self._offsets[-1]
        """Bytes of an expert in staging: those of its parameters, each rounded up to 16."""

    @property
    def moved_bytes(self) -> int:
        """Bytes of an expert that cross."""
        return sum(row.shape[1] for row in self._rows)

    def slot(self, slot: int) -> list[Any]:
        """Return the bytes of each parameter of a slot, in place."""
        return [row[slot] for row in self._rows]

    def staged(self, staging: Any, row: int) -> list[Any]:
        """Return the bytes of each parameter in a row of staging, in place."""
        expert = staging.narrow(0, row * self.expert_bytes, self.expert_bytes)
        return [
            expert.narrow(0, offset, part.shape[1]) for offset, part in zip(self._offsets, self._rows, strict=False)
        ]


def aligned(num_bytes: int) -> int:
    """Return `num_bytes` rounded up to what a row in staging begins at."""
    return -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def row_bytes(parameter: Any) -> int:
    """Return the bytes that a slot has in a parameter."""
    return int(parameter[:1].numel() * parameter.element_size())


def _as_bytes(parameter: Any) -> Any:
    import torch

    return parameter.detach().view(len(parameter), -1).view(torch.uint8)
