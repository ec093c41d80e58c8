"""Checksums of experts, computed where the tensors live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WORD_BYTES = 8
CHUNK_WORDS = 64


def checksum(parts: Sequence[Any]) -> Any:
    """Return the checksum of an expert, a tensor of one int64 on the device of its parts.

    The bytes are read as 64-bit words. Each 64 of them are added up, and the sums are added up with odd weights that
    grow with the place, everything modulo 2**64. So a change inside one word never goes unseen; chunks that change
    places do not either, except by chance. Words that change places inside one chunk of 512 bytes do.

    Parameters
    ----------
    parts : sequence of tensors of uint8 [bytes]
        The parameters of the expert, in order; each contiguous.

    Examples
    --------
    >>> import torch
    >>> data = torch.arange(24, dtype=torch.uint8)
    >>> other = data.clone()
    >>> other[5] ^= 16
    >>> int(checksum([data])) == int(checksum([data.clone()])), int(checksum([data])) == int(checksum([other]))
    (True, False)
    """
    import torch

    sums = torch.cat([sums for part in parts for sums in _sums(_words(part))])
    return (sums * torch.arange(1, 2 * len(sums), 2, device=sums.device)).sum()


def _words(part: Any) -> Any:
    """Return bytes as int64, in place where they stand as words do; else padded with zeros."""
    import torch

    padding = -part.numel() % WORD_BYTES
    if padding or part.storage_offset() % WORD_BYTES:
        part = torch.nn.functional.pad(part, (0, padding))
    return part.view(torch.int64)


def _sums(words: Any) -> tuple[Any, Any]:
    """Return the sums of whole chunks, and the words that are left."""
    whole = len(words) // CHUNK_WORDS * CHUNK_WORDS
    return words[:whole].view(-1, CHUNK_WORDS).sum(1), words[whole:]
