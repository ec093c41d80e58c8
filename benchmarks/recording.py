"""What recording costs: forwards of a small Mixtral with hooks and without, in turns.

python benchmarks/recording.py --out recording.md

Needs `pip install transformers`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import heading, machine
from tables import publish, table

from eplb.recording import record

SHAPES = {"prefill, 2 x 64 tokens": (2, 64), "decode, 8 rows": (8, 1), "decode, 1 row": (1, 1)}
SIZES = {
    **{"vocab_size": 1000, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 8},
    **{"num_attention_heads": 8, "num_key_value_heads": 2, "num_local_experts": 32, "num_experts_per_tok": 4},
}
WINDOW = 32  # forwards of a block


def main(args: list[str] | None = None) -> None:
    """Parse the command line, measure, print and write."""
    options = _parser().parse_args(args)
    torch.set_num_threads(options.threads)
    facts = {**machine(options.note), "threads": options.threads, "rounds": options.rounds, "window": options.window}
    model = small_model()
    rows = [measured(name, *SHAPES[name], model, options) for name in SHAPES]
    publish(markdown(facts, rows), facts, rows, options.out)


def small_model() -> Any:
    """Return a Mixtral of 8 layers x 32 experts, random."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**SIZES)).eval()


def measured(name: str, num_rows: int, length: int, model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Return the medians of a forward with hooks and without, and of the ratio of neighbouring blocks."""
    ids = torch.randint(3, SIZES["vocab_size"], (num_rows, length), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}

    def plain() -> None:
        for _ in range(WINDOW):
            model(**inputs)

    def recorded() -> None:
        with record(model, window=options.window):
            plain()

    with torch.inference_mode():
        pairs = [_pair(plain, recorded, turn) for turn in range(options.rounds + 1)][1:]
    without, watched = zip(*pairs, strict=True)
    ratios = [second / first for first, second in zip(without, watched, strict=True)]
    return {
        "what": name,
        "plain_ms": median(without) * 1e3 / WINDOW,
        "recorded_ms": median(watched) * 1e3 / WINDOW,
        "ratio": median(ratios),
        "added_us": (median(watched) - median(without)) * 1e6 / WINDOW,
    }


def _pair(plain: Callable[[], Any], watched: Callable[[], Any], turn: int) -> tuple[float, float]:
    """Return the seconds of both, of which either goes first in turn: time of this thread, which others do not use."""
    if turn % 2:
        second = _seconds(watched)
        return _seconds(plain), second
    return _seconds(plain), _seconds(watched)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def markdown(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return one table under a heading."""
    columns = ("a forward", "plain ms", "recorded ms", "ratio", "added us")
    lines = [
        (
            *(row["what"], f"{row['plain_ms']:.2f}", f"{row['recorded_ms']:.2f}"),
            *(f"{row['ratio']:.4f}", f"{row['added_us']:.0f}"),
        )
        for row in rows
    ]
    shape = (
        f"Mixtral of 8 layers x 32 experts, 4 a token, width 256, random; windows of {facts['window']} forwards; "
        f"{facts['threads']} thread, {facts['rounds']} rounds. Processor time of the thread over blocks of {WINDOW} "
        "forwards, setting hooks and counting included; the ratio is the median over neighbouring blocks."
    )
    return "\n\n".join([f"# Recording, {facts['date']}", heading(facts), shape, table(columns, lines)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each kind (default 9)")
    parser.add_argument("--window", type=int, default=WINDOW, help=f"forwards of a window (default {WINDOW})")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--note", default="", help="a line for the head of the results")
    parser.add_argument("--out", type=Path, help="a .md file; the same as .json is written beside it")
    return parser


if __name__ == "__main__":
    main()
