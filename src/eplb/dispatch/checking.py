"""What can be wrong with routed tokens, named."""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eplb.dispatch.quotas import MOST_TOKENS
from eplb.errors import DispatchError, OptionError

WANTED = "topk_ids: expected a numpy array or torch tensor of int32 or int64, [tokens, k]"
DTYPES = {np.dtype(np.int32), np.dtype(np.int64), "torch.int32", "torch.int64"}


def is_tensor(value: Any) -> bool:
    """Return whether `value` is a torch tensor, without importing torch: whoever made one has imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def check_form(topk_ids: Any) -> None:
    """Raise `DispatchError` unless `topk_ids` is an array or tensor of the right kind, whatever it holds."""
    if not isinstance(topk_ids, np.ndarray) and not is_tensor(topk_ids):
        raise DispatchError(f"{WANTED}, got {type(topk_ids).__name__}")
    if not _is_whole(topk_ids) or topk_ids.ndim != 2:
        raise DispatchError(f"{WANTED}, got shape {tuple(topk_ids.shape)} of dtype {_name(topk_ids)}")
    if topk_ids.shape[0] > MOST_TOKENS:
        raise DispatchError(f"topk_ids: expected at most {MOST_TOKENS} tokens, got {topk_ids.shape[0]}; cut the batch")


def complaint(ids: NDArray[Any], num_experts: int) -> str:
    """Return what is wrong with unsound ids: the first that is out of range, or twice in a token."""
    outside = (ids < -1) | (ids >= num_experts)
    if outside.any():
        token, place = (int(i) for i in np.argwhere(outside)[0])
        return (
            f"topk_ids: expected ids of 0 to {num_experts - 1}, or -1 for padding, "
            f"got {ids[token, place]} at token {token}, place {place}"
        )
    ordered = np.sort(ids, axis=1)
    token, place = (int(i) for i in np.argwhere((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))[0])
    return f"topk_ids: expected different experts in a token, got expert {ordered[token, place]} twice in token {token}"


def checked_index(value: Any, size: int, name: str) -> int:
    """Return `value` as an int of 0 to size - 1, or raise `OptionError`."""
    number = whole_number(value, name)
    if not 0 <= number < size:
        raise OptionError(f"{name}: expected an integer of 0 to {size - 1}, got {value!r}")
    return number


def whole_number(value: Any, name: str) -> int:
    """Return `value` as an int, or raise `OptionError`."""
    try:
        if not isinstance(value, (bool, np.bool_)):
            return operator.index(value)
    except TypeError:
        pass
    raise OptionError(f"{name}: expected an integer, got {value!r}")


def checked_step(step: Any, topk_ids: Any) -> Any:
    """Return `step` as an int, or as the tensor of one int64 that it is, on the device of `topk_ids`."""
    if not is_tensor(step):
        return whole_number(step, "step")
    device = topk_ids.device if is_tensor(topk_ids) else "numpy"
    if step.numel() != 1 or str(step.dtype) != "torch.int64" or step.device != device:
        raise OptionError(
            f"step: expected an int, or a tensor of one int64 on the device of topk_ids ({device}), "
            f"got {step.numel()} of {step.dtype} on {step.device}"
        )
    return step


def check_source_counts(
    source_counts: Any, topk_ids: Any, num_experts: int, num_ranks: int | None, least_ranks: int
) -> None:
    """Raise `DispatchError` unless `source_counts` is of the kind of `topk_ids`, integers and [ranks, experts]."""
    ranks = f"{num_ranks or f'at least {least_ranks}'} ranks"
    wanted = f"source_counts: expected integers [{ranks}, {num_experts} experts], of the kind and device of topk_ids"
    alike = is_tensor(source_counts) == is_tensor(topk_ids) and hasattr(source_counts, "shape")
    if not alike or (is_tensor(topk_ids) and source_counts.device != topk_ids.device):
        raise DispatchError(
            f"{wanted}, got {type(source_counts).__name__} on {getattr(source_counts, 'device', 'numpy')}"
        )
    shape = tuple(source_counts.shape)
    fits = len(shape) == 2 and shape[1] == num_experts and shape[0] >= least_ranks and num_ranks in (None, shape[0])
    if not _is_whole(source_counts) or not fits:
        raise DispatchError(f"{wanted}, got shape {shape} of dtype {_name(source_counts)}")


def _is_whole(values: Any) -> bool:
    return (values.dtype if isinstance(values, np.ndarray) else str(values.dtype)) in DTYPES


def _name(values: Any) -> str:
    return str(values.dtype).removeprefix("torch.")


def check_source_values(source_counts: NDArray[Any], counts: NDArray[Any], source_rank: int) -> None:
    """Raise `DispatchError` unless no count is negative, sums can be shared out, and the source's own are `counts`."""
    if source_counts.min(initial=0) < 0:
        rank, expert = (int(i) for i in np.argwhere(source_counts < 0)[0])
        raise DispatchError(
            f"source_counts: expected counts >= 0, got {source_counts[rank, expert]} at rank {rank}, expert {expert}"
        )
    if source_counts.sum(axis=0).max(initial=0) > MOST_TOKENS:
        raise DispatchError(f"source_counts: expected at most {MOST_TOKENS} tokens of an expert over all ranks")
    differ = source_counts[source_rank] != counts
    if differ.any():
        expert = int(np.argmax(differ))
        raise DispatchError(
            f"source_counts: row {source_rank} must hold the counts of this rank's topk_ids: expected {counts[expert]} "
            f"for expert {expert}, got {source_counts[source_rank, expert]}"
        )
