"""Which recorded loads policies are replayed on, and on which machines."""

from __future__ import annotations

from dataclasses import dataclass

GPT_TOKENS, TINY_TOKENS = "gptoss20b_tokens_dev.npz", "tiny_moe_tokens.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file of loads, or of tokens that are batched anew, and the ranks to serve them on.

    Parameters
    ----------
    name : str
        What the command line and the tables call it.
    file : str
        Its name in the folder of traces, or among the bundled ones.
    batch_size, num_steps : int, default 0
        For tokens: requests that run at once, decode steps of a window.
    order : {"given", "random"}, default "given"
        For tokens: how requests arrive.
    num_ranks, slots_per_rank : int, defaults 8 and 5
        The machine.
    first : int, default 8
        First window that is scored.
    in_time : bool, default True
        Whether windows follow one another. Others are domains: few, and left out of means over traces.
    """

    name: str
    file: str
    batch_size: int = 0
    num_steps: int = 0
    order: str = "given"
    num_ranks: int = 8
    slots_per_rank: int = 5
    first: int = 8
    in_time: bool = True


_ALL = (
    Source(name="steady", file="gptoss20b_decode_steady_dev.npz"),
    Source(name="shift", file="gptoss20b_decode_shift_dev.npz"),
    Source(name="16x64-random", file=GPT_TOKENS, batch_size=16, num_steps=64, order="random"),
    Source(name="32x32-given", file=GPT_TOKENS, batch_size=32, num_steps=32),
    Source(name="64x16-random", file=GPT_TOKENS, batch_size=64, num_steps=16, order="random"),
    Source(name="128x16-given", file=GPT_TOKENS, batch_size=128, num_steps=16),
    Source(name="256x8-random", file=GPT_TOKENS, batch_size=256, num_steps=8, order="random"),
    Source(name="tiny", file="tiny_moe.npz"),
    Source(name="tiny-32x16-given", file=TINY_TOKENS, batch_size=32, num_steps=16),
    Source(name="olmoe", file="olmoe.npz", slots_per_rank=9, first=3, in_time=False),
    Source(name="mixtral", file="mixtral_olmoe.npz", num_ranks=4, slots_per_rank=3, first=2, in_time=False),
)
SOURCES = {source.name: source for source in _ALL}
