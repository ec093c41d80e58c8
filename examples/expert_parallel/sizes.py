"""How large everything is.

Legend of shapes, here and in the other files: L layers, E experts, K experts a token, D width, H hidden width of an
expert, R ranks, P slots, S slots of a rank, N tokens of a rank, M rows that experts compute, B rows of a block.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the model and of its traffic."""

    num_layers: int = 4
    num_experts: int = 32
    top_k: int = 4
    width: int = 64
    hidden_width: int = 128
    slots_per_rank: int = 10
    tokens_per_rank: int = 128
    """Tokens of a rank in a batch, on average; they vary by a quarter."""
    batches_per_topic: int = 40
    """How soon the next topic has its turn."""
