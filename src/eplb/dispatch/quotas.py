"""Whole-token quotas: how many of an expert's tokens each replica takes.

The same lines run on numpy arrays and on torch tensors of any device, without waiting for it. All numbers are integers,
so that every device and every compiler comes to the same ones.

E experts with up to X replicas each; quotas are *cumulative*: the i-th token of expert e goes to the first replica j
with ``i < cumulative[e, j]``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE_BITS = 40
ONE = 1 << SHARE_BITS
"""A whole, in units of shares and remainders."""
MASK = ONE - 1
MOST_TOKENS = (1 << 63 - SHARE_BITS) - 1
"""Tokens of one expert that int64 can share out."""

# Fractions of a turn that no small multiple brings close to a whole one: golden ratio, root of 3, root of 2.
HALF = ONE // 2
SOURCE_TURN = round(ONE * (5**0.5 - 1) / 2)
STEP_TURN = round(ONE * (3**0.5 - 1))
EXPERT_TURN = round(ONE * (2**0.5 - 1))


def remainders(num_experts: int, step: Any = 0, source_rank: int = 0, device: Any = None) -> Any:
    """Return what is added to tokens * share before rounding down: it decides who gets the tokens that are left over.

    Successive steps, source ranks and experts turn it by irrational parts of one, so that of any few of them nearly as
    many round up as they should, and small batches don't all favour the same replica.

    Parameters
    ----------
    num_experts : int
        E.
    step : int or tensor of one int64, default 0
        Number of the forward step; any.
    source_rank : int, default 0
        The rank that the tokens come from; 0 on all ranks where all must choose alike.
    device : torch device, optional
        Where to put the result; default: that of `step`, or a numpy array if `step` is an int.

    Returns
    -------
    array or tensor of int64 [E]
        0 to 2**40 - 1, in units of 2**-40 tokens.

    Examples
    --------
    >>> (remainders(3, step=1) / 2**40).round(2).tolist()
    [0.23, 0.65, 0.06]
    """
    if isinstance(step, (int, np.integer)):
        turn = (HALF + source_rank * SOURCE_TURN + int(step) * STEP_TURN) & MASK
        if device is None:
            return (_expert_turns(num_experts) + turn) & MASK
    else:
        turn = step.long() * STEP_TURN + (HALF + source_rank * SOURCE_TURN)
        device = step.device
    import torch

    return (torch.arange(num_experts, device=device) * EXPERT_TURN + turn) & MASK


@lru_cache(maxsize=64)
def _expert_turns(num_experts: int) -> NDArray[np.int64]:
    return np.arange(num_experts, dtype=np.int64) * EXPERT_TURN & MASK


def weighted_quotas(counts: Any, shares: Any, step: Any = 0, source_rank: int = 0) -> Any:
    """Return cumulative quotas that differ by less than one token from what the shares ask for.

    Parameters
    ----------
    counts : array or tensor of int64 [E]
        Tokens of each expert, 0 to 2**23 - 1.
    shares : array or tensor of int64 [E, X]
        Cumulative shares in units of 2**-40, as `cumulative_shares` returns them for each layer.
    step, source_rank
        As in `remainders`; a tensor `step` needs tensors throughout.

    Returns
    -------
    array or tensor of int64 [E, X]
        Cumulative quotas; the last ones are `counts`.

    Examples
    --------
    >>> import numpy as np
    >>> thirds = np.array([[2**40 // 3, 2**40 * 2 // 3, 2**40]])
    >>> [np.diff(weighted_quotas(np.array([4]), thirds, step), prepend=0).tolist() for step in range(3)]
    [[[1, 2, 1]], [[1, 1, 2]], [[2, 1, 1]]]
    """
    device = None if isinstance(counts, np.ndarray) else counts.device
    added = remainders(len(counts), step, source_rank, device)
    return (counts[:, None] * shares + added[:, None]) >> SHARE_BITS


def source_quotas(counts: Any, prefix: Any, group_quotas: Any) -> Any:
    """Return what one source may send, so that the whole group sends exactly what its quotas say.

    Parameters
    ----------
    counts : array or tensor of int64 [E]
        Tokens of each expert from this source.
    prefix : array or tensor of int64 [E]
        Tokens of each expert from the sources before it: the exclusive prefix sum of their counts.
    group_quotas : array or tensor of int64 [E, X]
        Cumulative quotas of the group, such as `weighted_quotas` of the sums of all counts; equal on all sources.

    Returns
    -------
    array or tensor of int64 [E, X]
        Cumulative quotas of this source. Summed over the sources they are those of the group.

    Examples
    --------
    >>> import numpy as np
    >>> group = np.array([[3, 7]])
    >>> [source_quotas(np.array([n]), np.array([before]), group).tolist() for n, before in ((2, 0), (4, 2), (1, 6))]
    [[[2, 2]], [[1, 4]], [[0, 1]]]
    """
    return (group_quotas - prefix[:, None]).clip(min=0).clip(max=counts[:, None])
