"""What a forward was given: how many tokens, which of them are padding, and whether it is prefill or decode."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

MASK = "attention_mask"
TOKENS = ("input_ids", "inputs_embeds")
CACHES = ("past_key_values", "cache", "cache_params")
OTHERS_MASK = "encoder_hidden_states"  # what takes them has a mask of its own, and those around it another


def parameter_names(module: Any) -> list[str]:
    """Return the names of the positional arguments of a module's forward."""
    return list(inspect.signature(module.forward).parameters)


class Call(NamedTuple):
    """The arguments of a call, found by name; few are looked at, so that no dict is made of them."""

    names: list[str]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def get(self, name: str) -> Any:
        """Return the argument called `name`, None if it was not given."""
        if self.args and name in self.names[: len(self.args)]:
            return self.args[self.names.index(name)]
        return self.kwargs.get(name)

    def has(self, name: str) -> bool:
        """Return whether an argument of that name was given, were it None."""
        return name in self.kwargs or name in self.names[: len(self.args)]

    def values(self) -> Iterator[Any]:
        """Yield the arguments in order."""
        yield from self.args
        yield from self.kwargs.values()


def batch_shape(given: Call) -> tuple[int, int] | None:
    """Return rows and tokens of each, [B, S]; None if nothing tells, as when a module takes tokens without a batch."""
    for name in TOKENS:
        tokens = given.get(name)
        if tokens is not None:
            return int(tokens.shape[0]), int(tokens.shape[1])
    first = next((value for value in given.values() if hasattr(value, "is_floating_point")), None)
    if first is None or first.ndim < (3 if first.is_floating_point() else 2):
        return None
    return int(first.shape[0]), int(first.shape[1])


def phase_of(given: Call, mask: Any, shape: tuple[int, int] | None) -> str:
    """Return "decode" for one token a row with others before it, "prefill" otherwise, "mixed" if nothing tells."""
    if shape is None:
        return "mixed"
    if shape[1] > 1:
        return "prefill"
    if mask is not None and mask.ndim == 2 and mask.shape[1] > 1:
        return "decode"
    cache = next((cache for name in CACHES if (cache := given.get(name)) is not None), None)
    return "decode" if cache is not None and _holds_tokens(cache) else "prefill"


def _holds_tokens(cache: Any) -> bool:
    """Return whether a cache holds tokens; one that does not say so without waiting for a device is taken to."""
    try:
        length = cache.get_seq_length()
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return True
    return length > 0 if isinstance(length, int) else True


def mask_of(frames: Sequence[Call]) -> Any:
    """Return the mask of the innermost of these calls, or of the next around it, that has one of two axes.

    If none has, a mask of four axes is returned, or None.
    """
    wide = None
    for given in reversed(frames):
        mask = given.get(MASK)
        num_axes = getattr(mask, "ndim", 0)
        if num_axes == 2:
            return mask
        if num_axes == 4 and wide is None:
            wide = mask
        if given.has(OTHERS_MASK):
            break
    return wide


def real_tokens(mask: Any, shape: tuple[int, int] | None) -> Any:
    """Return which tokens are no padding, [B, S] booleans on the mask's device, or None if all are.

    A mask may begin with the tokens before these.
    """
    if mask is None or shape is None:
        return None
    keys = _seen_keys(mask, shape[1]) if mask.ndim == 4 else mask
    keys = keys if keys.shape[1] == shape[1] else keys[:, -shape[1] :]
    # a copy, as masks may be changed before the tokens are counted
    return keys.ne(0) if keys.shape == shape else None


def _seen_keys(mask: Any, num_queries: int) -> Any:
    """Return which of the last keys some query sees, [B, S], of a mask [B, heads, S, keys] of booleans or of addends.

    A mask may be longer than what is in the cache: the last key is the last one that is seen in any row.
    """
    import torch

    seen = (mask >= 0 if mask.is_floating_point() else mask.bool()).flatten(1, 2).any(dim=1)
    positions = torch.arange(seen.shape[1], device=seen.device)
    last = (seen.any(dim=0) * positions).max()
    return seen[:, (last - num_queries + 1 + positions[:num_queries]).clamp(min=0)]
