"""What the bits of an expert's output for one row depend on, on this machine.

python examples/expert_parallel/probe.py
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from blocks import BLOCK_ROWS, by_blocks
from experts import swiglu
from reference import same_bits
from torch import Tensor

Expert = tuple[Tensor, Tensor, Tensor]

SHAPES = tuple(product((24, 64, 128, 512), (48, 128, 344)))
"""Widths of the model and of its experts, (D, H)."""
_NUM_ROWS = 4 * BLOCK_ROWS
_FLOATS_PER_LINE = 16  # of 64 bytes, to which torch aligns its memory


def differing() -> dict[str, int]:
    """Return in how many of `SHAPES` a row's bits change when something else does."""
    counts: dict[str, int] = {}
    for shape in SHAPES:
        for what, differs in _trials(*_drawn(*shape)):
            counts[what] = counts.get(what, 0) + differs
    return counts


def _trials(rows_md: Tensor, expert: Expert) -> Iterator[tuple[str, bool]]:
    """Yield what was changed, and whether that changed a bit."""
    expected = by_blocks(lambda block: swiglu(*expert, block), rows_md)
    block, its = rows_md[:BLOCK_ROWS], expected[:BLOCK_ROWS]

    turned = [swiglu(*expert, block.roll(by, 0)).roll(-by, 0) for by in range(BLOCK_ROWS)]
    yield "its place in a block", not all(same_bits(found, its) for found in turned)

    alone = [swiglu(*expert, _only(block, place))[place] for place in range(BLOCK_ROWS)]
    yield "the other rows of a block", not same_bits(torch.stack(alone), its)

    moved = [swiglu(*(_moved(tensor, by) for tensor in (*expert, block))) for by in range(_FLOATS_PER_LINE)]
    yield "where block and weights are in memory", not all(same_bits(found, its) for found in moved)

    yield "the number of threads", not same_bits(_on_other_threads(rows_md, expert), expected)

    whole = [swiglu(*expert, rows_md[:number]) for number in range(1, _NUM_ROWS)]
    yield "how many rows come along, without blocks", not all(same_bits(w, expected[: len(w)]) for w in whole)


def _drawn(width: int, hidden_width: int) -> tuple[Tensor, Expert]:
    generator = torch.Generator().manual_seed(0)

    def drawn(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) / columns**0.5

    expert = drawn(hidden_width, width), drawn(hidden_width, width), drawn(width, hidden_width)
    return torch.randn(_NUM_ROWS, width, generator=generator), expert


def _only(block: Tensor, place: int) -> Tensor:
    """Return the block with zeros for all rows but one."""
    found = torch.zeros_like(block)
    found[place] = block[place]
    return found


def _moved(tensor: Tensor, num_floats: int) -> Tensor:
    """Return a copy that begins `num_floats` after the start of its memory."""
    memory = torch.empty(num_floats + tensor.numel())
    return memory[num_floats:].view_as(tensor).copy_(tensor)


def _on_other_threads(rows_md: Tensor, expert: Expert) -> Tensor:
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(2, before))
    try:
        return by_blocks(lambda block: swiglu(*expert, block), rows_md)
    finally:
        torch.set_num_threads(before)


def main() -> None:
    """Print the counts."""
    torch.set_num_threads(1)
    print(f"The bits of a row depend on ..., in how many of {len(SHAPES)} shapes:")
    for what, count in differing().items():
        print(f"{count:4}  {what}")


if __name__ == "__main__":
    main()
