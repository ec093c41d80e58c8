"""Blocks of a fixed number of rows, so that a row's result does not depend on how many rows came along.

A matrix product picks its kernel, and with it the order of its sums, by the shape of its operands. See README.md for
what was found out about that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_ROWS = 16


def by_blocks(function: Callable[[Tensor], Tensor], rows_md: Tensor) -> Tensor:
    """Return `function` of the rows, block by block of `BLOCK_ROWS`; zeros fill the last one up.

    Parameters
    ----------
    function : callable
        From rows [B, D] to rows [B, D'], each from its own row alone.
    rows_md : tensor [M, D]

    Returns
    -------
    tensor [M, D']

    Examples
    --------
    >>> by_blocks(lambda rows: rows + len(rows), torch.zeros(3, 1)).tolist()
    [[16.0], [16.0], [16.0]]
    """
    padded = functional.pad(rows_md, (0, 0, 0, -len(rows_md) % BLOCK_ROWS))
    return torch.cat([function(block_bd) for block_bd in padded.split(BLOCK_ROWS)])[: len(rows_md)]
