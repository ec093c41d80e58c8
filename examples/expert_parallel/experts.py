"""The experts of a rank: what a rank does by itself between the two exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from blocks import by_blocks
from torch import Tensor
from torch.nn import functional


def compute(parameters: Sequence[Tensor], rows_md: Tensor, counts: Sequence[int]) -> Tensor:
    """Return what each slot makes of its rows.

    Parameters
    ----------
    parameters : (gate [S, H, D], up [S, H, D], down [S, D, H])
        Of the slots of one layer.
    rows_md : tensor [M, D]
        Those of slot 0 first, then those of slot 1, and so on.
    counts : sequence of S ints
        Rows of each slot; their sum is M.

    Returns
    -------
    tensor [M, D]
    """
    slots = zip(*(parameter.unbind() for parameter in parameters), strict=True)
    outputs = [
        by_blocks(partial(swiglu, *expert), rows)
        for expert, rows in zip(slots, rows_md.split(list(counts)), strict=True)
        if len(rows)
    ]
    return torch.cat(outputs) if outputs else torch.empty_like(rows_md)


def swiglu(gate_hd: Tensor, up_hd: Tensor, down_dh: Tensor, rows_bd: Tensor) -> Tensor:
    """Return one expert's output for each row: down (silu(gate x) * up x)."""
    inner_bh = functional.silu(functional.linear(rows_bd, gate_hd)) * functional.linear(rows_bd, up_hd)
    return functional.linear(inner_bh, down_dh)
