"""Counting chosen experts where they lie: on the device of the model, without waiting for it.

Legend: L layers, E experts, N tokens of a forward, k experts of a token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_HELD = 1 << 16  # ids that are kept until they are counted, 512 KiB


class Table:
    """Tokens of each expert in each layer, added up over forwards.

    Ids are kept as they come and counted many at a time: for few tokens an operation costs more than its work.

    Parameters
    ----------
    num_layers, num_experts : int
        L and E.
    device : torch.device
        Where it is kept.
    """

    __slots__ = ("_cells", "_held", "_num_experts", "_num_held", "_num_layers", "_tokens", "num_forwards")

    def __init__(self, num_layers: int, num_experts: int, device: Any) -> None:
        import torch

        self._num_layers, self._num_experts = num_layers, num_experts
        self._held: dict[tuple[Any, ...], list[tuple[list[int], list[Any], Any]]] = {}
        self.num_forwards = self._num_held = self._tokens = 0
        with torch.inference_mode(False):  # else only inference could add to it
            # a row a layer with a place for "no expert" at its end, and behind all rows the tokens
            self._cells = torch.zeros(num_layers * (num_experts + 1) + 1, dtype=torch.int64, device=device)

    def add(self, taken: list[tuple[int, Any]], num_tokens: int, real: Any) -> None:
        """Count one forward: (layer, ids) of each router that ran; `real` N booleans, or None if all tokens are."""
        self.num_forwards += 1
        by_shape: dict[Any, tuple[list[int], list[Any], Any]] = {}
        for layer, ids in taken:
            shape = ids.shape
            if shape not in by_shape:
                by_shape[shape] = ([], [], real)
            layers, tables, _ = by_shape[shape]
            layers.append(layer)
            tables.append(ids)
        for shape, forward in by_shape.items():
            self._num_held += len(forward[1]) * shape.numel()
            self._held.setdefault((shape, real is None), []).append(forward)
        if real is None:
            self._tokens += num_tokens
        else:
            self._held.setdefault(("tokens", real.shape), []).append(([], [], real))
        if self._num_held >= MOST_HELD:
            self._count()

    def _count(self) -> None:
        """Count what is held, and forget it."""
        import torch

        held, self._held, self._num_held = self._held, {}, 0
        for key, forwards in held.items():
            masked = forwards[0][2] is not None
            alike = [real.reshape(-1).to(self._cells.device) for _, _, real in forwards] if masked else []
            real = torch.stack(alike) if masked else None
            if key[0] == "tokens":
                self._cells[-1] += real.sum()  # type: ignore[union-attr]
            else:
                self._count_alike(forwards, real)

    def _count_alike(self, forwards: list[tuple[list[int], list[Any], Any]], real: Any) -> None:
        """Count ids of one shape; M tables of them in all, `real` [forwards, N]."""
        import torch

        none, device = self._num_experts, self._cells.device
        ids = torch.stack([table.to(device) for _, tables, _ in forwards for table in tables])
        ids = ids.flatten(1, -2).clamp(max=none).remainder(none + 1)  # [M, N, k]; -1 becomes "no expert" as well
        if real is not None:
            of_table = [index for index, (layers, _, _) in enumerate(forwards) for _ in layers]
            ids = ids.masked_fill(~real[torch.tensor(of_table).to(device, non_blocking=True)][..., None], none)
        rows = torch.tensor([layer * (none + 1) for layers, _, _ in forwards for layer in layers])
        cells = (ids + rows.to(device, non_blocking=True)[:, None, None]).flatten()
        if device.type == "cpu":
            self._cells += torch.bincount(cells, minlength=len(self._cells))
        else:  # there bincount waits for the device
            self._cells.scatter_add_(0, cells, torch.ones((), dtype=torch.int64, device=device).expand_as(cells))

    def to_numpy(self) -> tuple[NDArray[np.int64], int]:
        """Return the loads [L, E] and the tokens; this waits for the device."""
        self._count()
        cells = self._cells.cpu().numpy()
        loads = cells[:-1].reshape(self._num_layers, self._num_experts + 1)[:, :-1]
        return np.ascontiguousarray(loads), int(cells[-1]) + self._tokens
