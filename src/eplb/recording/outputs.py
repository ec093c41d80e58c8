"""From what a router returns to the ids of the experts that it chose.

Ids are [..., k]; whatever is not an id of an expert with weights (E or more, or below 0) stands for "no expert".
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from eplb.recording.routers import Router

Reader = Callable[[Any], Any]


def reader_of(router: Router, output: Any) -> Reader | None:
    """Return the function that takes ids out of outputs like this one, or None if nothing in it is understood."""
    parts = _parts(output)
    whole = [i for i, part in enumerate(parts) if _is_table(part) and not part.is_floating_point()]
    ids = [i for i in whole if _are_ids(router, parts[i].shape[-1])]
    if ids:
        return _reader_of_ids(router, parts, ids[-1])
    if whole:
        return _reader_of_mask(router, parts, whole[0])
    return None


def reader_of_scores(router: Router, output: Any) -> Reader | None:
    """Return the function that takes the k best of the last scores, or None if there are none or k is not known."""
    parts, num_chosen = _parts(output), router.num_chosen
    scores = [i for i, part in enumerate(parts) if _is_table(part) and part.shape[-1] == router.num_experts]
    if not scores or num_chosen is None or not parts[scores[-1]].is_floating_point() or _corrects(router.module):
        return None

    def read(output: Any) -> Any:
        return _parts(output)[scores[-1]].detach().topk(num_chosen, dim=-1).indices

    return read


def _reader_of_ids(router: Router, parts: list[Any], at: int) -> Reader:
    """Take the ids as they are, but where experts without weights can be chosen, a weight of 0 tells that one was."""
    floats = [(i, part.shape) for i, part in enumerate(parts) if _is_table(part) and part.is_floating_point()]
    more = any(shape[-1] == (router.num_experts or 0) + 1 for _, shape in floats)
    weights = [i for i, shape in floats if shape == parts[at].shape]
    if not more or not weights:
        return itemgetter(at)
    return lambda output: output[at].masked_fill(output[weights[0]] == 0, -1)


def _reader_of_mask(router: Router, parts: list[Any], at: int) -> Reader:
    """Take the ids of what is not 0 in a table [..., E]: a mask, or the shares of the chosen that follow it."""
    import torch

    table = at + 1 if _are_shares(parts, at) else at

    def read(output: Any) -> Any:
        chosen = _parts(output)[table] != 0
        return torch.where(chosen, torch.arange(router.num_experts or 0, device=chosen.device), -1)

    return read


def _are_shares(parts: list[Any], at: int) -> bool:
    """Return whether what follows the mask at `at` has its shape and is 0 where nothing was chosen."""
    if at + 1 >= len(parts) or not _is_table(parts[at + 1]) or parts[at + 1].shape != parts[at].shape:
        return False
    return not bool((parts[at + 1] != 0).all())


def _are_ids(router: Router, width: int) -> bool:
    """Return whether whole numbers in rows of `width` are ids: a mask is as wide as there are experts."""
    return width == router.num_chosen or width != router.num_experts


def _corrects(module: Any) -> bool:
    return any("correction" in name for name, _ in [*module.named_buffers(), *module.named_parameters()])


def _parts(output: Any) -> list[Any]:
    return list(output) if isinstance(output, (tuple, list)) else [output]


def _is_table(part: Any) -> bool:
    return hasattr(part, "is_floating_point") and part.ndim >= 2
